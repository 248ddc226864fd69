"""Which samples a step reads, how long they are, and what that adds up to: pure functions of the number of steps."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from trainer.config.batch_warmup import BatchStageConfig, levels
from trainer.config.data import DataConfig, StageConfig


class StepShape(NamedTuple):
    """What the work of a step depends on."""

    sequence_length: int
    batch_size: int  # samples


@dataclass(frozen=True)
class Stage:
    """Steps first .. last - 1 of a run, counted from 0, and the samples first_sample .. last_sample - 1 that they read:
    these have `sequence_length` tokens."""

    number: int
    first: int
    last: float  # infinity for the last stage, which holds to the end of the run
    sequence_length: int
    first_sample: int
    last_sample: float


@dataclass(frozen=True)
class Stretch:
    """Steps first .. last - 1 of a run, which all have one shape and lie in one stage."""

    stage: int
    first: int
    last: float  # infinity for the last one
    shape: StepShape
    tokens_per_step: int
    first_sample: int  # samples and tokens that were read before
    first_token: int


class Curriculum:
    """The stages of a run and the growth of its batches; one without `data.stages` has a single stage.

    A stage, and a size of `optim.batch_warmup`, takes the fewest whole steps that read its tokens, so that no step lies
    in two of them. Step s reads the samples [samples(s), samples(s + 1)).
    """

    def __init__(
        self, data: DataConfig, batch_size: int, rows: int = 1, warmup: Sequence[BatchStageConfig] = ()
    ) -> None:
        """rows: of data.sequence_length tokens that a sample has, two for a pair."""
        self._stated, self._levels = data.stages, levels(warmup, batch_size)
        self.stretches = tuple(_stretches(data, batch_size, rows, self._levels))
        numbers = dict.fromkeys(one.stage for one in self.stretches)
        self.stages = tuple(_stage([one for one in self.stretches if one.stage == number]) for number in numbers)
        self._firsts = [one.first for one in self.stretches]
        self._first_tokens = [one.first_token for one in self.stretches]
        self._first_samples = [one.first_sample for one in self.stretches]

    @property
    def sequence_lengths(self) -> tuple[int, ...]:
        """Every length once, in the order of the stages."""
        return tuple(dict.fromkeys(stage.sequence_length for stage in self.stages))

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Every shape of a step once, in their order."""
        return tuple(dict.fromkeys(one.shape for one in self.stretches))

    @property
    def text(self) -> str:
        """Sizes and lengths of the batches for a person: `8 to 32 x 256`."""
        sizes = list(dict.fromkeys(shape.batch_size for shape in self.shapes))
        size = ", then ".join(map(str, sizes)) if len(sizes) < 5 else f"{sizes[0]} to {sizes[-1]}"
        return f"{size} x {', then '.join(str(stage.sequence_length) for stage in self.stages)}"

    def too_short(self) -> list[str]:
        """A line for each stage and each size whose tokens are less than a step. The last ones hold to the end."""
        found = []
        for stage, given in zip(self.stages[:-1], self._stated, strict=False):
            found.append((f"data.stages[{stage.number}].tokens", given.tokens, self.stretch(stage.first), "the stage"))
        for size, tokens in self._levels:
            first = next(one for one in self.stretches if one.shape.batch_size == size)
            found.append((f"optim.batch_warmup: batches of {size}", tokens, first, "it"))
        return [
            f"{place}: {tokens:,} are less than one step of {step.shape.batch_size} x {step.shape.sequence_length} = "
            f"{step.tokens_per_step:,} tokens; lengthen {what}"
            for place, tokens, step, what in found
            if tokens < step.tokens_per_step
        ]

    def stage(self, step: int) -> Stage:
        """The stage of the step before which `step` others were finished."""
        return next(stage for stage in self.stages if step < stage.last)

    def stretch(self, step: int) -> Stretch:
        """The stretch of the step before which `step` others were finished."""
        return self.stretches[bisect_right(self._firsts, step) - 1]

    def first_step(self, shape: StepShape) -> int:
        """The first step of a shape."""
        return next(one.first for one in self.stretches if one.shape == shape)

    def batch(self, step: int) -> tuple[int, int]:
        """The samples first .. last - 1 that a step reads, as (first, last)."""
        first = self.samples(step)
        return first, first + self.stretch(step).shape.batch_size

    def samples(self, steps: int) -> int:
        """Samples of the first `steps` steps."""
        one = self.stretch(steps)
        return one.first_sample + (steps - one.first) * one.shape.batch_size

    def tokens(self, steps: int) -> int:
        """Tokens of the first `steps` steps."""
        one = self.stretch(steps)
        return one.first_token + (steps - one.first) * one.tokens_per_step

    def steps(self, tokens: int) -> int:
        """The fewest steps that read that many tokens."""
        one = self.stretches[max(0, bisect_right(self._first_tokens, tokens - 1) - 1)]
        return one.first + -(-(tokens - one.first_token) // one.tokens_per_step)

    def steps_of_samples(self, samples: int) -> int:
        """The fewest steps that read that many samples."""
        one = self.stretches[max(0, bisect_right(self._first_samples, samples - 1) - 1)]
        return one.first + -(-(samples - one.first_sample) // one.shape.batch_size)

    def steps_by_shape(self, first: int, last: int) -> Counter[StepShape]:
        """How many of the steps first .. last - 1 are of each shape: what all sums over a run follow from."""
        counts: Counter[StepShape] = Counter()
        for one in self.stretches:
            inside = int(min(last, one.last)) - max(first, one.first)
            if inside > 0:
                counts[one.shape] += inside
        return counts

    def steps_within(self, amount: float, costs: Mapping[StepShape, float]) -> int:
        """The most steps that cost no more than `amount`, where one of a shape costs costs[shape] > 0."""
        for one in self.stretches:
            affordable = int(amount // costs[one.shape])
            if affordable < one.last - one.first:
                break
            amount -= int(one.last - one.first) * costs[one.shape]
        return one.first + affordable


def _stretches(data: DataConfig, batch_size: int, rows: int, smaller: Sequence[tuple[int, int]]) -> Iterator[Stretch]:
    """Each from where the last one ended to the next end of a stage or of a size, whichever comes first.

    smaller: sizes before `batch_size`, and their tokens."""
    stages = list(data.stages or (StageConfig(),))
    lengths = [stage.sequence_length or data.sequence_length for stage in stages]
    stage_tokens: list[float] = [*(stage.tokens for stage in stages[:-1]), math.inf]
    sizes: list[tuple[int, float]] = [*smaller, (batch_size, math.inf)]
    stage = level = first = sample = token = 0
    left_of_stage, left_of_size = stage_tokens[0], sizes[0][1]
    while True:
        size, per_step = sizes[level][0], sizes[level][0] * rows * lengths[stage]
        least = min(left_of_stage, left_of_size)
        steps = math.inf if math.isinf(least) else -(-int(least) // per_step)
        shape = StepShape(lengths[stage], size)
        yield Stretch(stage, first, first + steps, shape, per_step, sample, token)
        if math.isinf(steps):
            return
        first, sample, token = first + int(steps), sample + int(steps) * size, token + int(steps) * per_step
        left_of_stage, left_of_size = left_of_stage - steps * per_step, left_of_size - steps * per_step
        if left_of_stage <= 0:
            stage += 1
            left_of_stage = stage_tokens[stage]
        if left_of_size <= 0:
            level += 1
            left_of_size = sizes[level][1]


def _stage(stretches: Sequence[Stretch]) -> Stage:
    """The stage that consists of these."""
    first, last = stretches[0], stretches[-1]
    last_sample = last.first_sample + (last.last - last.first) * last.shape.batch_size
    if not math.isinf(last_sample):
        last_sample = int(last_sample)
    return Stage(first.stage, first.first, last.last, first.shape.sequence_length, first.first_sample, last_sample)
