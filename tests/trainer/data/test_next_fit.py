"""Packed texts: documents side by side in their order, cut where the sample is full, and strangers to each other."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from trainer.config import Config
from trainer.data import Samples
from trainer.data.next_fit import next_fit
from trainer.data.shards import TokenStream
from trainer.models import build, initialize
from trainer.models.replaced_token import row_noise
from trainer.objectives.base import NO_TARGET

OBJECTIVES = [
    ("encoder", {"name": "masked_lm"}),
    ("encoder", {"name": "permuted_lm", "longest": 5}),
    ("encoder_decoder", {"name": "mass", "rate": 0.5}),
    ("encoder_decoder", {"name": "bart", "noises": ("text_infilling",), "rate": 0.3}),
    ("encoder_decoder", {"name": "span_corruption"}),
    ("encoder_decoder", {"name": "ul2"}),
]
ALL = [*OBJECTIVES, ("encoder", {"name": "replaced_token"}), ("encoder", {"name": "masked_lm", "unit": "word"})]
ALL += [("encoder", {"name": "masked_lm", "masks": "static"}), ("encoder", {"name": "permuted_lm", "memory": 16})]
ALL += [
    ("encoder_decoder", {"name": "bart", "noises": (noise,), "rate": 0.3})
    for noise in ("sentence_permutation", "token_masking", "token_deletion", "document_rotation")
]
NAMES = [" ".join(map(str, objective.values())) for _, objective in ALL]


def small(config: Config, family: str, objective: dict, length: int = 64, boundaries: bool = True) -> Config:
    """A model and samples of several documents, one of them cut."""
    packed = config.model_dump() | {"objective": objective}
    packed["data"] |= {"packing": "packed", "sequence_length": length}
    packed["model"] |= {"family": family, "two_stream": objective["name"] == "permuted_lm", "position": "learned"}
    packed["model"] |= {"depth": 2, "width": 32, "heads": 4, "vocabulary": 512, "init_std": 0.3}
    packed["model"] |= {"position": "relative"} if objective["name"] == "permuted_lm" else {}
    packed["model"] |= (
        {"generator_width": 16, "generator_heads": 2, "head_transform": True}
        if objective["name"] == "replaced_token"
        else {}
    )
    packed["data"] |= {"boundaries": boundaries}
    return Config.model_validate(packed)


def one_by_one(texts: list[int], packed: np.ndarray, capacity: int, overlap: int) -> list[tuple[int, ...]]:
    """The rule, a token at a time."""
    found, sample, free = [], 0, capacity
    for number, length in enumerate(texts):
        at = 0
        while at < length:
            context = min(overlap, at)
            taken = 0
            while at + taken < length and context + taken + 1 < len(packed) and packed[context + taken + 1] <= free:
                taken += 1
            if taken:
                found.append((number, at - context, context + taken, context, sample))
                at += taken
            if at == length:
                free -= packed[context + taken]
            else:
                sample, free = sample + 1, capacity
    return found


@pytest.mark.parametrize("seed", range(60))
def test_cuts_against_one_token_at_a_time(seed):
    rng = np.random.default_rng(seed)
    capacity = int(rng.integers(6, 40))
    longest, beside = capacity - 2, int(rng.integers(0, 3))
    packed = np.minimum(np.arange(longest + 1) + beside * (np.arange(longest + 1) > 0), capacity)
    overlap = int(rng.integers(0, longest - 1)) if seed % 3 == 0 else 0
    texts = rng.integers(0, (200, 12, 3)[seed % 3], int(rng.integers(1, 60)))
    cuts = next_fit(texts, packed, capacity, overlap)
    assert list(zip(*(column.tolist() for column in cuts), strict=True)) == one_by_one(
        texts.tolist(), packed, capacity, overlap
    )


@pytest.mark.parametrize(("family", "objective"), ALL, ids=NAMES)
def test_an_epoch_reads_every_token_once_in_pieces_of_one_document(config, prepared, family, objective):
    samples = Samples(prepared, small(config, family, objective), "held_out")
    window, stream = samples.window(0, len(samples)), TokenStream(prepared, "held_out")
    ends = np.append(stream.starts[1:], len(stream))
    context = np.zeros(len(window.place), np.int64) if window.context is None else window.context
    read = [
        row[first:length].tolist()
        for row, first, length in zip(window.tokens, context.tolist(), window.lengths.tolist(), strict=True)
    ]
    whole = np.concatenate([np.zeros(0, np.int64), *(np.empty(n, np.int64) for n in ends - stream.starts)])
    stream.read(np.zeros(1, np.int64), whole[None])
    text = [whole[a + 1 : b - 1].tolist() for a, b in zip(stream.starts.tolist(), ends.tolist(), strict=True)]
    assert sum(read, []) == sum(text, [])  # noqa: RUF017 - short lists
    sizes = iter(len(one) for one in text)
    left = next(sizes)
    for piece in read:
        left = left or next(sizes)
        left -= len(piece)
        assert left >= 0  # no piece goes on in the next document


@pytest.mark.parametrize(("family", "objective"), ALL, ids=NAMES)
def test_samples_are_full(config, prepared, family, objective):
    samples = Samples(prepared, small(config, family, objective), "train")
    batch = samples.batch(0, 32)
    side = "source_segments" if "source_segments" in batch else "segments"
    filled = (batch[side] >= 0).mean()
    written = (batch["segments"] >= 0).mean()
    shrinks = objective["name"] in ("bart", "ul2", "span_corruption", "mass")
    assert max(filled, written) > (0.75 if shrinks else 0.95)
    assert (batch[side].max(axis=1) > 0).any()  # several documents


def losses(net: torch.nn.Module, batch: dict[str, np.ndarray], keep: np.ndarray) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients of the targets at `keep` alone."""
    targets = np.where(keep, batch["targets"], NO_TARGET)
    net.zero_grad()
    arrays = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in (batch | {"targets": targets}).items()}
    loss, *_ = net(**arrays)
    loss.backward()
    return loss.item(), [p.grad.clone() for p in net.parameters() if p.grad is not None]


def other_texts(samples: Samples) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Two batches of the same samples: as they are, and with other words in every document but a sample's first.
    Also bool [B, S], where the first documents' targets stand."""
    window, objective = samples.window(0, min(len(samples), 60)), samples.sample_range(0).chunker.objective
    first = np.searchsorted(window.owner, window.owner) == np.arange(len(window.owner))
    others = (np.arange(window.tokens.shape[1]) < window.lengths[:, None]) & ~first[:, None]
    changed = window.tokens.copy()
    changed[others] = np.random.default_rng(1).integers(400, 480, int(others.sum()))
    before, after = (objective.apply(one) for one in (window, replace(window, tokens=changed)))
    several = np.flatnonzero(np.bincount(window.owner) > 1)[:6]
    assert len(several) == 6
    before, after = ({name: array[several] for name, array in one.items()} for one in (before, after))
    return before, after, before["segments"] == 0


@pytest.mark.parametrize(("family", "objective"), ALL, ids=NAMES)
def test_a_document_learns_nothing_of_the_others(config, prepared, family, objective):
    """With other tokens in the other documents its losses and gradients are the same, bit for bit."""
    made_so = small(config, family, objective)
    samples = Samples(prepared, made_so, "train")
    before, after, mine = other_texts(samples)
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    assert np.array_equal(before["targets"][mine], after["targets"][mine])
    net = build(made_so).double()
    initialize(net, 0)
    if objective["name"] == "replaced_token":  # its second loss is of all tokens: what is drawn for the first document
        net = net.head.generator
        drawn = [
            row_noise(*(torch.from_numpy(one[name]) for name in ("tokens", "targets", "segments")))
            for one in (before, after)
        ]
        assert torch.equal(drawn[0][torch.from_numpy(mine)], drawn[1][torch.from_numpy(mine)])
    found, wanted = losses(net, after, mine), losses(net, before, mine)
    assert found[0] == wanted[0] and wanted[0] > 0
    assert all(torch.equal(a, b) for a, b in zip(found[1], wanted[1], strict=True))


@pytest.mark.parametrize(("family", "objective"), OBJECTIVES)
def test_asked_for_texts_lie_end_to_end(config, prepared, family, objective):
    samples = Samples(prepared, small(config, family, objective, boundaries=False), "train")
    batch, window = samples.batch(0, 8), samples.window(0, 8)
    assert window.owner is None and batch["segments"].max() == 0
    assert window.tokens.shape[0] == 8 and (window.lengths == window.tokens.shape[1]).all()


@pytest.mark.parametrize(("family", "objective"), ALL, ids=NAMES)
def test_a_sample_does_not_depend_on_its_batch(config, prepared, family, objective):
    samples = Samples(prepared, small(config, family, objective), "train")
    n = len(samples)
    together = samples.batch(n - 2, n + 2)
    for row in range(4):
        for name, array in samples.batch(n - 2 + row, n - 1 + row).items():
            assert np.array_equal(array[0], together[name][row]), name


def test_identity_says_what_is_apart(config):
    """Texts end to end keep the identity that they had; a run that keeps documents apart is another experiment."""
    apart, glued = (small(config, "encoder", {"name": "masked_lm"}, boundaries=b) for b in (True, False))
    assert apart.science_hash() != glued.science_hash()
    pairs = [small(config, "encoder", {"name": "unilm"}, boundaries=b).science_hash() for b in (True, False)]
    assert pairs[0] != pairs[1]  # as before, though nothing reads it there


def test_golden_plan():
    """What shares a sample in this release does so in the next."""
    texts = 1 + np.arange(1000) ** 3 % 397
    cuts = next_fit(texts, np.minimum(np.arange(127) + 2 * (np.arange(127) > 0), 128), 128)
    assert hashlib.sha256(np.stack(cuts).astype("<i8").tobytes()).hexdigest()[:16] == "6b370a6203a21186"
