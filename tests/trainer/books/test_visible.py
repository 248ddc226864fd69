"""What masks let through, against the masks themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parameter_cases import config

from kernels.attention.masks import visible_mask
from kernels.attention.spec import AttentionSpec
from trainer.books import flops
from trainer.books.visible import visible_pairs, visible_scores
from trainer.errors import UserError


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
    assert visible_scores(made, [40, 24]) == 4 * 64 * sum(layers)
    # A single document that everybody sees whole is the square that model FLOPs count.
    plain = config({"family": "encoder"}, objective={"name": "masked_lm"}, data={"sequence_length": 64})
    assert visible_scores(plain, [64]) == flops(plain).scores


@pytest.mark.parametrize("documents", [[], [0, 64], [40, 25], [-1, 65]])
def test_lengths_that_are_no_sample_are_refused(documents: list[int]) -> None:
    with pytest.raises(UserError, match="make up a sample of 64 tokens"):
        visible_scores(config({}, objective={"name": "causal"}, data={"sequence_length": 64}), documents)


def test_other_masks_are_refused() -> None:
    with pytest.raises(UserError, match="has another mask"):
        visible_scores(config({}, objective={"name": "prefix_lm"}), [32])
