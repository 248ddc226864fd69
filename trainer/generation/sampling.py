"""Answers that are drawn from a model's own distribution, each by random numbers that belong to it alone."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor

from trainer.generation.reader import Reader


@torch.no_grad()
def draw_answers(
    reader: Reader,
    prompt: Tensor,
    segments: Tensor | None,
    chances: np.ndarray,
    ends: Collection[int],
    read: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    """k answers to every row of prompt [B, n], those of the first row first, each with the one of `ends` that ended it.

    chances: float64 in [0, 1) [B x k, most tokens of an answer]; token t of an answer is the one at which the sum of
    the probabilities, in the order of the vocabulary, passes its chance t (inversion). So an answer depends on its own
    prompt, weights and chances, whatever stands beside it. read: called whenever the model has read.
    """
    k = len(chances) // len(prompt)
    logits = reader.read(prompt, segments)
    read()
    reader.select(torch.arange(len(prompt), device=prompt.device).repeat_interleave(k))
    logits = logits.repeat_interleave(k, dim=0)
    wanted = torch.from_numpy(chances).to(prompt.device)
    answers: list[list[int]] = [[] for _ in range(len(chances))]
    alive = [True] * len(answers)
    for count in range(wanted.shape[1]):
        token = by_inversion(logits, wanted[:, count])
        for row, one in enumerate(token.tolist()):
            if alive[row]:
                answers[row].append(one)
                alive[row] = one not in ends
        if count == wanted.shape[1] - 1 or not any(alive):
            break
        logits = reader.read(token[:, None])
        read()
    return answers


def by_inversion(logits: Tensor, chances: Tensor) -> Tensor:
    """One token for each row of logits [B, V] by chances [B], float64 in [0, 1); a token of probability 0 never."""
    sums = logits.double().softmax(dim=-1).cumsum(dim=-1)
    passed = chances[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, passed, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
