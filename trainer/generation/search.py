"""Tokens from a reader: one after the other, or the likeliest sequences by beam search."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.generation.decoding import Decoding
from trainer.generation.reader import Reader


def write(
    reader: Reader,
    prompt: Tensor,
    segments: Tensor | None,
    decoding: Decoding,
    ends: Collection[int],
    ended: Callable[[int, list[int]], bool] | None = None,
) -> Iterator[list[int | None]]:
    """The next token of every row of prompt [B, n], step by step; None for a row that has ended, without the one
    of `ends` that ended it.

    ended(row, its tokens so far) may end a row earlier; its last token is still given.
    """
    generator = torch.Generator(prompt.device).manual_seed(decoding.seed)
    logits = reader.read(prompt, segments)
    rows: list[list[int]] = [[] for _ in range(len(prompt))]
    alive = [True] * len(prompt)
    for count in range(decoding.tokens):
        assert reader.tokens is not None
        chosen = decoding.choose(logits, reader.tokens, generator)
        step: list[int | None] = [None] * len(rows)
        for row, token in enumerate(chosen.tolist()):
            alive[row] = alive[row] and token not in ends
            if alive[row]:
                rows[row].append(token)
                step[row] = token
                alive[row] = ended is None or not ended(row, rows[row])
        if any(token is not None for token in step):
            yield step
        if not any(alive) or count == decoding.tokens - 1:
            return
        logits = reader.read(chosen[:, None])


@dataclass
class _Beams:
    """The search of one row: what still grows, and the best that ended."""

    growing: list[tuple[float, list[int]]]
    ended: list[tuple[float, list[int]]] = field(default_factory=list)  # score by length, the best first
    done: bool = False


def search(
    reader: Reader, prompt: Tensor, segments: Tensor | None, decoding: Decoding, ends: Collection[int]
) -> list[list[int]]:
    """The likeliest continuation of every row of prompt [B, n] that beams find, without the one
    of `ends` that ended it.

    In every step each beam is continued by every token; of the 2 x beams best, those that end (with eos, or because
    there are enough tokens) may be kept if they are among the first `beams`, and the best others grow on. A row is
    done when `beams` have ended and none that grows is better than the worst of them at its present length.
    """
    width, penalty = decoding.beams, 1.0 if decoding.length_penalty is None else decoding.length_penalty
    count = len(prompt)
    logits = reader.read(prompt, segments)
    reader.select(torch.arange(count, device=prompt.device).repeat_interleave(width))
    logits = logits.repeat_interleave(width, dim=0)
    # All beams begin alike: the first alone may be continued in the first step.
    searches = [_Beams([(-math.inf if beam else 0.0, []) for beam in range(width)]) for _ in range(count)]
    for length in range(1, decoding.tokens + 1):
        assert reader.tokens is not None
        scores = decoding.penalised(logits.log_softmax(dim=-1), reader.tokens)
        before = torch.tensor([score for one in searches for score, _ in one.growing], device=scores.device)
        totals = (scores + before[:, None]).reshape(count, -1)
        best = totals.topk(min(2 * width, totals.shape[1]))
        parents: list[int] = []
        for row, one in enumerate(searches):
            candidates = list(zip(best.values[row].tolist(), best.indices[row].tolist(), strict=True))
            parents += [row * width + beam for beam in _grow(one, candidates, scores.shape[1], length, decoding, ends)]
            one.ended = sorted(one.ended, key=lambda entry: -entry[0])[:width]
            one.done |= len(one.ended) == width and one.growing[0][0] / length**penalty <= one.ended[-1][0]
        if length == decoding.tokens or all(one.done for one in searches):
            break
        reader.select(torch.tensor(parents, device=prompt.device))
        last = [tokens[-1] for one in searches for _, tokens in one.growing]
        logits = reader.read(torch.tensor(last, device=prompt.device)[:, None])
    return [one.ended[0][1] for one in searches]


def _grow(
    one: _Beams,
    candidates: list[tuple[float, int]],
    vocabulary: int,
    length: int,
    decoding: Decoding,
    ends: Collection[int],
) -> list[int]:
    """One step of one row's search; returns, for every beam that goes on, the beam that it continues."""
    width, penalty = decoding.beams, 1.0 if decoding.length_penalty is None else decoding.length_penalty
    growing: list[tuple[float, list[int]]] = []
    parents = []
    for rank, (score, place) in enumerate(candidates):
        beam, token = divmod(place, vocabulary)
        tokens = one.growing[beam][1]
        if token in ends or length == decoding.tokens:
            if rank < width and not one.done:
                whole = tokens if token in ends else [*tokens, token]
                one.ended.append((score / length**penalty, whole))
        elif len(growing) < width:
            growing.append((score, [*tokens, token]))
            parents.append(beam)
    if growing:
        one.growing = growing
    return parents
