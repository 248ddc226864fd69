"""What changes along a run by its configuration: learning rate, batch size, sequence length, weight decay, momentum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from trainer.books.run_length import optim_in_steps, warmup_steps
from trainer.config import Config
from trainer.descriptions.schedules.pieces import spans
from trainer.training.schedules import decay_start
from trainer.training.step_settings import step_settings

Span = tuple[str, int, int]  # a piece's shape, and the steps begin .. end - 1 that it holds for


@dataclass(frozen=True)
class PieceRow:
    """A piece of a schedule: the steps first_step .. last_step - 1, counted from 0, and the tokens that they read."""

    of: str  # a key of COLUMNS
    shape: str
    first_step: int
    last_step: int
    first_token: int
    last_token: int
    first_value: float  # in its first step and in its last
    last_value: float


# What may change -> its name for a person, and its value in a step of a run of so many steps.
Value = Callable[[Config, int, int], float | None]
COLUMNS: dict[str, tuple[str, Value]] = {
    "lr": ("learning rate", lambda config, step, steps: step_settings(config, step, steps).lr),
    "batch_size": ("batch size", lambda config, step, steps: config.curriculum.stretch(step).shape.batch_size),
    "sequence_length": (
        "sequence length",
        lambda config, step, steps: config.curriculum.stretch(step).shape.sequence_length,
    ),
    "weight_decay": ("weight decay", lambda config, step, steps: step_settings(config, step, steps).weight_decay),
    "momentum": ("momentum", lambda config, step, steps: step_settings(config, step, steps).momentum),
}


def value_at(config: Config, name: str, step: int, steps: int) -> float:
    """What stands in `step`, counted from 0, of a run of `steps`; of a thing that changes along it."""
    value = COLUMNS[name][1](config, step, steps)
    assert value is not None, name
    return value


def is_put_together(config: Config) -> bool:
    """Whether more changes along the run than the rate of a schedule that has a name."""
    optim = config.optim
    lists = (optim.batch_warmup, optim.weight_decay_schedule, optim.momentum_schedule, config.data.stages)
    return optim.schedule == "pieces" or any(lists)


def piece_rows(config: Config, steps: int) -> list[PieceRow]:
    """The pieces of everything that changes along a run of `steps`, one thing after the other."""
    optim, curriculum = optim_in_steps(config, steps), config.curriculum
    parts: dict[str, list[Span]] = {"lr": _rate_spans(config, steps)}
    if optim.batch_warmup:
        parts["batch_size"] = _size_spans(config, steps)
    if len(curriculum.sequence_lengths) > 1:
        parts["sequence_length"] = [("constant", one.first, int(min(one.last, steps))) for one in curriculum.stages]
    for name, pieces in (("weight_decay", optim.weight_decay_schedule), ("momentum", optim.momentum_schedule)):
        if pieces:
            parts[name] = [(piece.shape, begin, end) for piece, begin, end in spans(pieces, steps)]
    return [
        PieceRow(
            of=name,
            shape=shape,
            first_step=begin,
            last_step=end,
            first_token=curriculum.tokens(begin),
            last_token=curriculum.tokens(end),
            first_value=value_at(config, name, begin, steps),
            last_value=value_at(config, name, end - 1, steps),
        )
        for name, found in parts.items()
        for shape, begin, end in _to_the_end(found, steps)
    ]


def _rate_spans(config: Config, steps: int) -> list[Span]:
    optim = optim_in_steps(config, steps)
    if optim.schedule == "pieces":
        return [(piece.shape, begin, end) for piece, begin, end in spans(optim.pieces, steps)]
    warmup = warmup_steps(optim, steps)
    if optim.schedule != "wsd":
        return [("warmup", 0, warmup), (optim.schedule, warmup, steps)]
    decay = decay_start(optim, warmup, steps)
    return [("warmup", 0, warmup), ("constant", warmup, decay), ("linear", decay, steps)]


def _size_spans(config: Config, steps: int) -> list[Span]:
    """A span for each stage of the warm-up, and one for the batches after it."""
    curriculum, warmup = config.curriculum, config.optim.batch_warmup
    sizes = [*(stage.size for stage in warmup), config.optim.batch_size]
    firsts = [next(one.first for one in curriculum.stretches if one.shape.batch_size == size) for size in sizes]
    shapes = ["constant" if stage.by is None else f"by {stage.by}" for stage in warmup]
    return [
        (shape, min(begin, steps), min(end, steps))
        for shape, (begin, end) in zip([*shapes, "constant"], pairwise([*firsts, steps]), strict=True)
    ]


def _to_the_end(found: Iterable[Span], steps: int) -> list[Span]:
    """Those that have a step; after the last one the value stays."""
    kept = [(shape, begin, end) for shape, begin, end in found if begin < end]
    last = kept[-1][2] if kept else 0
    return [*kept, *([("constant", last, steps)] if last < steps else [])]


def rows_json(rows: Sequence[PieceRow]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


def format_rows(rows: Sequence[PieceRow]) -> str:
    """The pieces as aligned text: where they begin and end in steps that were made and tokens that were read."""
    lines = [["schedule", "piece", "steps", "tokens", "value"]]
    for row in rows:
        value = f"{row.first_value:.6g}"
        if row.last_value != row.first_value:
            value += f" to {row.last_value:.6g}"
        steps = f"{row.first_step:,} to {row.last_step:,}"
        tokens = f"{row.first_token:,} to {row.last_token:,}"
        lines.append([COLUMNS[row.of][0], row.shape, steps, tokens, value])
    for number in range(len(lines) - 1, 1, -1):
        if lines[number][0] == lines[number - 1][0]:
            lines[number][0] = ""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
