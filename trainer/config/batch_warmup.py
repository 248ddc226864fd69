"""Batches that grow over the first tokens of a run (Brown et al. 2020, section 2.3; Dubey et al. 2024, 3.4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from trainer.utils.schema import Count, Section, key


class BatchStageConfig(Section):
    """A stretch of the run with smaller batches than those that follow."""

    size: Count = key(1, "sequences per optimizer step, over all ranks", "sequences", ge=1, le=10**9)
    by: Count | None = key(
        None,
        "it grows by so many, in equal parts of its tokens, up to the next size; null: it stays",
        "sequences",
        ge=1,
    )
    tokens: Count = key(1, "its length, rounded up to whole steps", "tokens", ge=1)


def levels(warmup: Sequence[BatchStageConfig], batch_size: int) -> list[tuple[int, int]]:
    """(sequences per step, tokens) of every size before `batch_size`, in order."""
    found = []
    for stage, following in zip(warmup, _following(warmup, batch_size), strict=True):
        sizes = [stage.size] if stage.by is None else list(range(stage.size, following, stage.by))
        ends = [stage.tokens * part // len(sizes) for part in range(len(sizes) + 1)]
        found += [(size, end - begin) for size, (begin, end) in zip(sizes, pairwise(ends), strict=True)]
    return found


def batch_misfits(warmup: Sequence[BatchStageConfig], batch_size: int) -> list[str]:
    """A line for each thing that is wrong among the stages of `optim.batch_warmup`."""
    wrong = []
    for number, stage in enumerate(warmup):
        place = f"batch_warmup[{number}]"
        missing = [name for name in ("size", "tokens") if name not in stage.model_fields_set]
        if missing:
            wrong.append(f"{place}: state its {' and '.join(missing)}, e.g. {{size: 8, tokens: 1m}}")
    if wrong:
        return wrong
    for number, (stage, following) in enumerate(zip(warmup, _following(warmup, batch_size), strict=True)):
        place, last = f"batch_warmup[{number}]", number + 1 == len(warmup)
        if stage.size >= following:
            other = f"optim.batch_size {batch_size}" if last else f"the size after it, {following}"
            wrong.append(f"{place}.size: {stage.size} is not less than {other}; batches grow to optim.batch_size")
        elif stage.by is not None and stage.size + stage.by >= following:
            wrong.append(f"{place}.by: {stage.size} + {stage.by} passes the next size, {following}; leave it out")
    return wrong


def _following(warmup: Sequence[BatchStageConfig], batch_size: int) -> list[int]:
    """The size after each stage."""
    return [*(stage.size for stage in warmup[1:]), *([batch_size] if warmup else [])]
