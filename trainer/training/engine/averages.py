"""Averages of the weights, kept beside them in fp32: every rank averages its share of the numbers, at every ZeRO stage.

An average over a half-life is sum_i 2^(-age_i / half-life) w_i over the same sum without w_i, ages in tokens: that of
Polyak and Juditsky (1992) with weights that fade (EMA), divided by the sum of its weights as Adam's moments are (Kingma
and Ba 2015). So it is the same at any batch size, and the first weights, which no step has made, count nothing.

A mean of the latest weights is that of `latest` copies, one every `every_steps` steps (LAWA, Kaddour 2022).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.config import Config
from trainer.config.averages import AverageConfig
from trainer.training.engine.layouts import Fragment, Layout, Read


def mean(values: Sequence[Tensor]) -> Tensor:
    """Of tensors of one shape, added up in fp64; a tensor of its own, fp32."""
    if len(values) == 1:
        return values[0].clone()
    total = torch.zeros_like(values[0], dtype=torch.float64)
    for value in values:
        total += value
    return (total / len(values)).float()


class Average(ABC):
    """One average of this rank's share of the weights."""

    def __init__(self, config: AverageConfig, weights: Sequence[Tensor]) -> None:
        """weights: the share, 1-D tensors; the average has copies of its own beside them."""
        self.config = config
        self.begin(0, weights)

    @abstractmethod
    def begin(self, step: int, weights: Sequence[Tensor]) -> None:
        """Forget what was averaged: all begins with the weights after `step` updates."""

    @abstractmethod
    def take(self, step: int, tokens: int, weights: Sequence[Tensor]) -> None:
        """The weights after update number `step`, which was made on so many tokens."""

    @abstractmethod
    def values(self) -> list[Tensor] | None:
        """The average; None where nothing was taken yet, so that it is the weights."""

    @abstractmethod
    def held(self) -> Mapping[str, list[Tensor]]:
        """What a checkpoint has to hold, by the end of its kind's name."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a checkpoint says of it, as plain data."""

    @abstractmethod
    def restore(self, facts: Mapping[str, Any]) -> None:
        """Be where the average was that said these facts. What `held` names afterwards is to be filled."""


class OverHalfLife(Average):
    def __init__(self, config: AverageConfig, weights: Sequence[Tensor]) -> None:
        self.average = [weight.clone() for weight in weights]
        super().__init__(config, weights)

    def begin(self, step: int, weights: Sequence[Tensor]) -> None:
        self.tokens = 0  # that were trained on since
        torch._foreach_copy_(self.average, list(weights))

    def take(self, step: int, tokens: int, weights: Sequence[Tensor]) -> None:
        self.tokens += tokens
        torch._foreach_lerp_(self.average, list(weights), self.config.step_share(tokens, self.tokens))

    def values(self) -> list[Tensor] | None:
        return self.average

    def held(self) -> Mapping[str, list[Tensor]]:
        return {"": self.average}

    def facts(self) -> dict[str, Any]:
        return self.config.stated | {"tokens": self.tokens}

    def restore(self, facts: Mapping[str, Any]) -> None:
        self.tokens = int(facts["tokens"])


class OfTheLatest(Average):
    def __init__(self, config: AverageConfig, weights: Sequence[Tensor]) -> None:
        assert config.latest is not None and config.every_steps is not None
        self.every = config.every_steps
        self.slots = [[torch.zeros_like(weight) for weight in weights] for _ in range(config.latest)]
        super().__init__(config, weights)

    def begin(self, step: int, weights: Sequence[Tensor]) -> None:
        self.steps: list[int | None] = [None] * len(self.slots)  # of each slot: after which its weights were taken

    def take(self, step: int, tokens: int, weights: Sequence[Tensor]) -> None:
        if step % self.every == 0:
            slot = step // self.every % len(self.slots)
            torch._foreach_copy_(self.slots[slot], list(weights))
            self.steps[slot] = step

    def values(self) -> list[Tensor] | None:
        taken = [slot for slot, step in zip(self.slots, self.steps, strict=True) if step is not None]
        return [mean(parts) for parts in zip(*taken, strict=True)] if taken else None

    def held(self) -> Mapping[str, list[Tensor]]:
        return {f".{number}": self.slots[number] for number, step in enumerate(self.steps) if step is not None}

    def facts(self) -> dict[str, Any]:
        return self.config.stated | {"steps": list(self.steps)}

    def restore(self, facts: Mapping[str, Any]) -> None:
        self.steps = list(facts["steps"])


class Averages:
    """Those that the configuration asks for, of one engine."""

    def __init__(self, config: Config, layout: Layout) -> None:
        self._layout = layout
        self._all: dict[str, Average] = {}
        if not config.optim.averages:
            return
        weights = self._weights()
        for name, one in config.optim.averages.items():
            self._all[name] = OverHalfLife(one, weights) if one.latest is None else OfTheLatest(one, weights)

    @property
    def names(self) -> list[str]:
        return list(self._all)

    def _weights(self) -> list[Tensor]:
        return [weight for _, weight in self._layout.share()]

    @torch.no_grad()
    def take(self, step: int, tokens: int) -> None:
        """The weights after update number `step`, which was made on so many tokens."""
        if self._all:
            weights = self._weights()
            for average in self._all.values():
                average.take(step, tokens, weights)

    def values(self, name: str) -> list[Tensor] | None:
        """Of this rank's share of the weights; None where it is the weights."""
        return self._all[name].values()

    def fragments(self) -> Iterator[Fragment]:
        """What a checkpoint holds of them: every element on one rank only."""
        for name, average in self._all.items():
            for end, tensors in average.held().items():
                for (place, _), tensor in zip(self._layout.share(), tensors, strict=True):
                    yield Fragment(place.name, f"average.{name}{end}", place.start, tensor)

    def facts(self) -> dict[str, Any]:
        """What a checkpoint says of them."""
        return {name: average.facts() for name, average in self._all.items()}

    @torch.no_grad()
    def load(self, step: int, facts: Mapping[str, Mapping[str, Any]], read: Read) -> list[str]:
        """Go on from a checkpoint of `step` with these facts, the weights being loaded already; returns the names of
        those that it does not hold, or holds of another kind: they begin with its weights."""
        begun, weights = [], self._weights() if self._all else []
        for name, average in self._all.items():
            theirs = facts.get(name, {})
            if not average.config.stated.items() <= theirs.items():
                average.begin(step, weights)
                begun.append(name)
                continue
            average.restore(theirs)
            for end, tensors in average.held().items():
                for (place, _), tensor in zip(self._layout.share(), tensors, strict=True):
                    tensor.copy_(read(place.name, f"average.{name}{end}", place.start, place.numel))
        return begun
