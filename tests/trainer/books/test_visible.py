"""What masks let through, against the masks themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parameter_cases import config

from kernels.attention.masks import visible_mask
from kernels.attention.spec import AttentionSpec
from trainer.books import flops, plan
from trainer.books.visible import Document, hidden_per_step, visible_pairs, visible_scores
from trainer.compose import compose
from trainer.utils.errors import UserError


def pairs_of_mask(documents: list[int], causal: bool, window: int | None) -> int:
    """Ones in the mask that the kernels' specification means."""
    segments = torch.from_numpy(np.repeat(np.arange(len(documents)), documents)).to(torch.int32)[None]
    right = 0 if causal else window
    spec = AttentionSpec(left=window, right=right, q_segments=segments, k_segments=segments)
    mask = visible_mask(spec, sum(documents), sum(documents), torch.device("cpu"))
    assert mask is not None
    return int(mask.sum())


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 1, 7, 63, 500])
@pytest.mark.parametrize("documents", [[64], [1, 63], [20, 1, 30, 13]])
def test_equal_to_the_mask(documents: list[int], causal: bool, window: int | None) -> None:
    counted = sum(visible_pairs(length, causal, window) for length in documents)
    assert counted == pairs_of_mask(documents, causal, window)


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_local_and_global_layers_add_up(family: str) -> None:
    name = "causal" if family == "decoder" else "masked_lm"
    model = {"family": family, "window": 5, "global_every": 2, "depth": 4}
    made = config(model, objective={"name": name}, data={"sequence_length": 64})
    layers = [pairs_of_mask([40, 24], family == "decoder", window) for window in (None, 5, None, 5)]
    assert visible_scores(made, whole(40, 24)) == 4 * 64 * sum(layers)
    # A single document that everybody sees whole is the square that model FLOPs count.
    plain = config({"family": "encoder"}, objective={"name": "masked_lm"}, data={"sequence_length": 64})
    assert visible_scores(plain, whole(64)) == flops(plain).scores
    assert hidden_per_step(plain, whole(64)) == 0


def whole(*lengths: int) -> list[Document]:
    return [Document(length) for length in lengths]


def ones(**spec: object) -> int:
    """Pairs that a specification of the kernels lets through, 64 queries by 64 keys."""
    given = {name: torch.tensor([value], dtype=torch.int32) for name, value in spec.items() if isinstance(value, list)}
    mask = visible_mask(AttentionSpec(**{**spec, **given}), 64, 64, torch.device("cpu"))  # type: ignore[arg-type]
    assert mask is not None
    return int(mask.sum())


@pytest.mark.parametrize("window", [None, 7])
def test_a_prefix_is_seen_from_both_sides(window: int | None) -> None:
    """Against the mask of the orders that the objective gives: 0 in the prefix, the position behind it."""
    model = {"window": window, "global_every": 2} if window else {}
    made = config({"depth": 2, **model}, objective={"name": "prefix_lm"}, data={"sequence_length": 64})
    segments, order = [0] * 40 + [1] * 24, [0] * 10 + list(range(10, 40)) + [0] * 23 + [23]
    sides = {"q_segments": segments, "k_segments": segments, "q_order": order, "k_order": order}
    layers = [ones(**sides), ones(**sides, left=window, right=window)]
    assert visible_scores(made, [Document(10, 30), Document(23, 1)]) == 4 * 64 * sum(layers)


@pytest.mark.parametrize("depth", [None, 1])
def test_both_sides_of_an_encoder_decoder(depth: int | None) -> None:
    objective = {"name": "bart", "noises": ["text_infilling"]}
    made = config(
        {"family": "encoder_decoder", "decoder_depth": depth}, objective=objective, data={"sequence_length": 64}
    )
    source, target = [0] * 40 + [1] * 20 + [-1] * 4, [0] * 30 + [1] * 34
    read = ones(q_segments=source, k_segments=source)
    written = ones(q_segments=target, k_segments=target, right=0) + ones(q_segments=target, k_segments=source)
    pairs = made.model.depth * read + (depth or made.model.depth) * written
    assert visible_scores(made, [Document(40, 30), Document(20, 34)]) == 4 * 64 * pairs


def test_the_plan_tells_what_masks_hide() -> None:
    words = ["model=electra-small", "objective=replaced_token", "data.sequence_length=128", "budget.steps=3"]
    made = compose(words)
    hidden = 0.5 * 3 * flops(made).scores * made.optim.batch_size  # two halves of a sample do not see each other
    small = made.model.generator
    assert small is not None
    hidden *= 1 + small.heads * small.head_channels / (made.model.heads * made.model.head_channels)
    tag = plan(made, whole(64, 64))
    planned = tag.to_json()["planned"]["flop"]
    assert planned["visible"] == planned["total"] - 3 * hidden
    assert planned["hidden_share"] == pytest.approx(3 * hidden / planned["total"])
    assert "documents of 64, 64 tokens" in tag["flop.visible"].planned.source  # type: ignore[union-attr]
    assert "visible" not in plan(made).to_json()["planned"]["flop"]


@pytest.mark.parametrize("documents", [[], [0, 64], [40, 25], [-1, 65]])
def test_lengths_that_are_no_sample_are_refused(documents: list[int]) -> None:
    with pytest.raises(UserError, match="make up a sample of 64 tokens"):
        visible_scores(config({}, objective={"name": "causal"}, data={"sequence_length": 64}), whole(*documents))


REFUSED = {
    "prefix without its rest": ([], "prefix_lm", [Document(32)], "prefix_lm wants prefix/rest of every document"),
    "two parts of one": ([], "causal", [Document(3, 4)], "causal wants one length each of every document, got 3/4"),
    "more than a target": (["model=t5-small"], "span_corruption", [Document(9, 200)], "a sample of 256/58 tokens"),
    "drawn masks": (["model=bert-base"], "unilm", [Document(9)], "draws anew for every sample who sees whom"),
    "distances": (["model=xlnet-base"], "permuted_lm", [Document(9)], "scores the distances of all pairs"),
    "stages": (["data.stages=[{sequence_length: 64, tokens: 1m}, {}]"], "causal", [Document(9)], "several lengths"),
}


@pytest.mark.parametrize(("words", "objective", "documents", "message"), REFUSED.values(), ids=REFUSED)
def test_what_lengths_do_not_tell_is_refused(
    words: list[str], objective: str, documents: list[Document], message: str
) -> None:
    made = compose([*words, f"objective={objective}"])
    for count in (visible_scores, plan):
        with pytest.raises(UserError, match=message) as caught:
            count(made, documents)
        assert "\n" not in str(caught.value)
