"""Best-fit packing: little padding, whole documents, and examples that know nothing of each other."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from pydantic import ValidationError

from trainer.config import Config
from trainer.data import Samples
from trainer.data.best_fit import best_fit
from trainer.data.shards import TokenStream

OBJECTIVES = [
    ("encoder", {"name": "masked_lm"}),
    ("encoder", {"name": "permuted_lm", "longest": 5}),
    ("encoder_decoder", {"name": "mass", "rate": 0.5}),
    ("encoder_decoder", {"name": "bart", "noises": ("text_infilling",), "rate": 0.3, "random_share": 0.0}),
    ("encoder_decoder", {"name": "span_corruption"}),
    ("encoder_decoder", {"name": "ul2"}),
]


def made(config: Config, family: str, objective: dict, packing: str = "best_fit", length: int = 512) -> Config:
    given = config.model_dump() | {"objective": objective}
    given["model"] |= {"family": family, "two_stream": objective["name"] == "permuted_lm", "position": "learned"}
    given["data"] |= {"packing": packing, "sequence_length": length}
    return Config.model_validate(given)


def one_by_one(sizes: list[int], capacity: int) -> list[int]:
    """Best-fit decreasing, a piece at a time: how full each sample is (which of equally full ones is taken is open)."""
    samples: list[list[int]] = []
    for size in sorted(sizes, reverse=True):
        fits = [sample for sample in samples if sum(sample) + size <= capacity]
        if fits:
            max(fits, key=sum).append(size)
        else:
            samples.append([size])
    return sorted(map(sum, samples))


@pytest.mark.parametrize("seed", range(40))
def test_placement_against_one_piece_at_a_time(seed):
    rng = np.random.default_rng(seed)
    capacity = int(rng.integers(4, 60))
    sizes = rng.integers(1, capacity + 1, int(rng.integers(0, 200)))
    if seed % 2:
        sizes = np.minimum(sizes, rng.geometric(0.2, len(sizes)))
    sample = best_fit(sizes, capacity)
    assert sorted(np.bincount(sample, sizes).astype(int).tolist()) == one_by_one(sizes.tolist(), capacity)


@pytest.mark.parametrize(("family", "objective"), OBJECTIVES)
def test_every_piece_is_read_once_an_epoch_and_alone(config, prepared, family, objective):
    """Each example is what the objective makes of its document by itself, at the place of its segment number."""
    samples = Samples(prepared, made(config, family, objective), "train")
    n = len(samples)
    window, batch = samples.window(0, n), samples.batch(0, n)
    assert np.array_equal(np.sort(window.place), np.arange(len(window.place)))
    alone = samples.sample_range(0).chunker.objective.inner.apply(window)
    number = np.arange(len(window.owner)) - np.searchsorted(window.owner, window.owner)
    for prefix in ("source_", "") if "source_tokens" in batch else ("",):
        segments = batch[f"{prefix}segments"]
        assert ((segments == -1).cumsum(axis=1) * (segments >= 0) == 0).all()  # padding behind
        for row, (owner, segment) in enumerate(zip(window.owner.tolist(), number.tolist(), strict=True)):
            mine, inside = segments[owner] == segment, alone[f"{prefix}segments"][row] >= 0
            for name in batch:
                if name.startswith("source_") == bool(prefix) and not name.endswith("segments"):
                    assert np.array_equal(batch[name][owner][mine], alone[name][row][inside])
    per_sample = np.bincount(window.owner)
    assert per_sample.max() > 1 and batch["tokens"].shape[0] == len(per_sample) == n


def test_documents_stay_whole(config, prepared):
    samples = Samples(prepared, made(config, "encoder", {"name": "masked_lm"}), "train")
    stream = TokenStream(prepared, "train")
    lengths = np.diff(stream.starts, append=len(stream)) - 2
    assert lengths.max() <= 510  # none needs to be cut
    window = samples.window(0, len(samples))
    assert np.array_equal(np.sort(window.lengths), np.sort(lengths))


def test_less_padding_than_padded(config, prepared):
    samples = Samples(prepared, made(config, "encoder", {"name": "masked_lm"}), "train")
    share = float((samples.batch(0, len(samples))["segments"] < 0).mean())
    assert share == pytest.approx(samples.sample_range(0).chunker.parts[0].fit.padding)
    stream = TokenStream(prepared, "train")
    one_each = 1 - float(np.diff(stream.starts, append=len(stream)).mean()) / 512  # with one document a sample
    assert share < 0.1 < 0.5 < one_each


@pytest.mark.parametrize(("family", "objective"), OBJECTIVES)
def test_a_sample_does_not_depend_on_its_batch(config, prepared, family, objective):
    samples = Samples(prepared, made(config, family, objective), "train")
    n = len(samples)
    together = samples.batch(n - 3, n + 4)
    for row in range(7):
        for name, array in samples.batch(n - 3 + row, n - 2 + row).items():
            assert np.array_equal(array[0], together[name][row]), name


def test_held_out_text_past_its_end_is_padding(config, prepared):
    samples = Samples(prepared, made(config, "encoder_decoder", {"name": "span_corruption"}), "held_out")
    batch = samples.batch(len(samples) - 1, len(samples) + 2)
    assert (batch["segments"][1:] == -1).all() and (batch["targets"][1:] == -100).all()
    assert (batch["targets"][0] >= 0).any()


def test_golden_packing():
    """What shares a sample in this release does so in the next."""
    sizes = 1 + np.arange(1000) ** 3 % 97
    assert hashlib.sha256(best_fit(sizes, 128).astype("<i8").tobytes()).hexdigest()[:16] == "8ec3092ebfc72e0a"


@pytest.mark.parametrize(
    ("family", "objective", "message"),
    [
        ("decoder", {"name": "causal"}, "no gaps to fill with best_fit; take packed"),
        ("encoder", {"name": "unilm"}, "reads pairs, which best_fit does not pack; take padded"),
    ],
)
def test_what_cannot_be_packed(config, family, objective, message):
    with pytest.raises(ValidationError, match=message):
        made(config, family, objective)
