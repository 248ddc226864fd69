"""How long the samples of a step are, and what that adds up to: pure functions of the number of steps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from trainer.config.science import DataConfig, StageConfig


@dataclass(frozen=True)
class Stage:
    """Steps first .. last - 1 of a run, counted from 0: their samples have `sequence_length` tokens."""

    number: int
    first: int
    last: float  # infinity for the last stage, which holds to the end of the run
    sequence_length: int
    tokens_per_step: int


class Curriculum:
    """The stages of a run; one without `data.stages` has a single one.

    A stage takes the fewest whole steps that read its tokens, so that no step lies in two stages.
    """

    def __init__(self, data: DataConfig, batch_size: int) -> None:
        stated = data.stages or (StageConfig(),)
        stages: list[Stage] = []
        first = 0
        for number, stage in enumerate(stated):
            length = stage.sequence_length or data.sequence_length
            per_step = batch_size * length
            steps = -(-stage.tokens // per_step)
            stages.append(Stage(number, first, first + steps, length, per_step))
            first += steps
        stages[-1] = replace(stages[-1], last=math.inf)
        self.stages = tuple(stages)

    @property
    def sequence_lengths(self) -> tuple[int, ...]:
        """Every length once, in the order of the stages."""
        return tuple(dict.fromkeys(stage.sequence_length for stage in self.stages))

    def stage(self, step: int) -> Stage:
        """The stage of the step before which `step` others were finished."""
        return next(stage for stage in self.stages if step < stage.last)

    def steps_by_length(self, steps: int) -> Counter[int]:
        """How many of the first `steps` steps read samples of each length: what all sums over a run follow from."""
        counts: Counter[int] = Counter()
        for stage in self.stages:
            if stage.first < steps:
                counts[stage.sequence_length] += int(min(steps, stage.last)) - stage.first
        return counts

    def tokens(self, steps: int) -> int:
        """Tokens of the first `steps` steps."""
        return sum((int(min(steps, s.last)) - s.first) * s.tokens_per_step for s in self.stages if s.first < steps)

    def steps(self, tokens: int) -> int:
        """The fewest steps that read that many tokens."""
        stage = next(s for s in self.stages if math.isinf(s.last) or tokens <= self.tokens(int(s.last)))
        return stage.first + -(-(tokens - self.tokens(stage.first)) // stage.tokens_per_step)

    def steps_within(self, amount: float, costs: Mapping[int, float]) -> int:
        """The most steps that cost no more than `amount`, where one of a sequence length costs costs[length] > 0."""
        for stage in self.stages:
            affordable = int(amount // costs[stage.sequence_length])
            if affordable < stage.last - stage.first:
                break
            amount -= int(stage.last - stage.first) * costs[stage.sequence_length]
        return stage.first + affordable
