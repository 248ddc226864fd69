"""Dropout (Srivastava et al. 2014) as a function of the sample: a mask is told by the run's seed, the place in the
network, the number of the sample, the position and the channel. So it is the same at every world size, ZeRO stage and
micro-batch, in a recomputed forward pass, in a resumed run and on every backend, and takes from no random generator.

A place is a tower (one stack, or one stream of it), a depth in it and a site in the block: one block that serves all
layers (ALBERT) drops other numbers in each.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from kernels import dropout
from kernels.dropout.reference import keep_scale, level
from trainer.config.model import ModelConfig
from trainer.models.sequence import WHOLE, Sequences
from trainer.models.sequence.slices import Stretch

Tower = Literal["main", "decoder", "query", "generator", "head"]
Site = Literal["embedding", "attention", "cross_attention", "feed_forward", "hidden", "output"]
# Numbers of the places, which stay what they are: with others a run would not go on as it began.
TOWERS: tuple[Tower, ...] = ("main", "decoder", "query", "generator", "head")
SITES: tuple[Site, ...] = ("embedding", "attention", "cross_attention", "feed_forward", "hidden", "output")
PROBABILITIES = len(SITES)  # of a site's attention, beside its output
OUTSIDE = 0  # depth of what is in no block; blocks count from 1
_WORD = 2**64 - 1


class Dropout(NamedTuple):
    """The dropout of one forward pass at one depth of one tower."""

    samples: Tensor  # int64 [...], the number of every row in the run, -1 for a blank one
    rates: Rates
    tower: Tower
    depth: int = OUTSIDE
    sequences: Sequences = WHOLE  # whose positions x is of
    place: Stretch | None = None  # the positions that x is of; None: all that this rank holds

    def at(self, depth: int) -> Dropout:
        return self._replace(depth=depth)

    def of(self, place: Stretch) -> Dropout:
        """Of these positions alone."""
        return self._replace(place=place)

    def stretches(self, length: int) -> tuple[Stretch, ...]:
        """The positions that x of so many is of."""
        return self.sequences.stretches(length) if self.place is None else (self.place,)

    def __call__(self, x: Tensor, site: Site) -> Tensor:
        """x [..., channels or positions x channels], each row with the mask of its sample."""
        if not self.rates.hidden:
            return x
        rows = self.samples.flatten()
        flat = x.reshape(len(rows), *x.shape[self.samples.dim() :])
        keys: dict[str, Any] = {"seed": self._seed(SITES.index(site)), "rows": rows, "backend": self.rates.backend}
        if self.sequences is WHOLE and self.place is None:
            return dropout(flat, self.rates.hidden, **keys).reshape(x.shape)
        held = self.stretches(flat.shape[1])
        parts = flat.split([length for _, length in held], dim=1)
        starts = [first * flat.shape[2] for first, _ in held]
        kept = [dropout(part, self.rates.hidden, start=at, **keys) for part, at in zip(parts, starts, strict=True)]
        return torch.cat(kept, dim=1).reshape(x.shape)

    def of_attention(self, site: Site) -> dict[str, Any]:
        """What `kernels.attention` is to know of the dropout on this attention's probabilities."""
        if not self.rates.attention:
            return {}
        seed = self._seed(PROBABILITIES + SITES.index(site))
        return {"dropout_p": self.rates.attention, "seed": seed, "dropout_rows": self.samples}

    def _seed(self, site: int) -> int:
        return place_seed(self.rates.seed, TOWERS.index(self.tower), self.depth, site)


class Rates(NamedTuple):
    """The rates of a module, and what else a run decides of its dropout."""

    hidden: float = 0.0
    attention: float = 0.0
    seed: int = 0
    backend: str = "auto"

    @classmethod
    def of(cls, config: ModelConfig) -> Rates:
        return cls(config.hidden_rate, config.attention_rate)

    @property
    def scale(self) -> float:
        """What is kept of hidden numbers is multiplied by this."""
        return keep_scale(level(self.hidden))

    def begin(
        self, module: nn.Module, tower: Tower, samples: Tensor | None, sequences: Sequences = WHOLE
    ) -> Dropout | None:
        """The dropout of a forward pass of this module; None where there is none, as in evaluation."""
        if not module.training or not (self.hidden or self.attention):
            return None
        if samples is None:
            raise ValueError(f"{type(module).__name__}: dropout in training needs `samples`, the numbers of the rows")
        return Dropout(samples, self, tower, sequences=sequences)


def dropped(x: Tensor, drop: Dropout | None, site: Site) -> Tensor:
    """x after dropout, where there is any."""
    return x if drop is None else drop(x, site)


def use_dropout(model: nn.Module, seed: int, backend: str) -> None:
    """Give every module that has dropout the run's seed and backend."""
    for module in model.modules():
        rates = getattr(module, "dropout", None)
        if isinstance(rates, Rates):
            setattr(module, "dropout", rates._replace(seed=seed, backend=backend))  # noqa: B010 - no parameter of it


def place_seed(seed: int, *place: int) -> int:
    """A seed of 64 bits, signed, for a place (SplitMix64's finaliser over its numbers; Steele et al. 2014)."""
    for number in place:
        seed = (seed + 0x9E3779B97F4A7C15 * (number + 1)) & _WORD
        seed = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        seed = ((seed ^ (seed >> 27)) * 0x94D049BB133111EB) & _WORD
        seed ^= seed >> 31
    return seed - 2**64 if seed >> 63 else seed


def attention_fields(config: ModelConfig, drop: Dropout | None) -> tuple[str, ...]:
    """What a forward pass asks of `kernels.attention` beside its masks, by which a backend is chosen."""
    drops = drop is not None and drop.rates.attention > 0
    own_bias = config.position in ("relative", "disentangled")  # of a layer
    return config.attention_fields + (("dropout_p",) if drops else ()) + (("dense",) if own_bias else ())
