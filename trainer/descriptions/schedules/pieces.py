"""A schedule that is put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import BeforeValidator

from trainer.descriptions.schedules import ScheduleDescription
from trainer.utils.schema import Count, Section, key


class Clock(Protocol):
    """Tokens of the first steps, and the fewest steps that read so many: trainer.config.Curriculum."""

    def tokens(self, steps: int) -> int: ...

    def steps(self, tokens: int) -> int: ...


class _Piece(Section):
    """A stretch of a schedule. One piece may leave its length out: it takes what the others leave."""

    shape: str = key("constant", "")
    steps: Count | None = key(None, "its length", "steps", ge=1)
    tokens: Count | None = key(None, "its length, rounded up to whole steps", "tokens", ge=1, introduced=None)
    share: float | None = key(None, "its length as a share of the run's steps", gt=0, le=1)

    def length(self, total_steps: int) -> int | None:
        """In steps; None where it takes what the other pieces leave. One in tokens has none before `in_steps`."""
        assert self.tokens is None, "a piece in tokens is brought to steps first"
        return self.steps if self.share is None else round(self.share * total_steps)

    @property
    def is_open(self) -> bool:
        """Whether it takes what the other pieces leave."""
        return self.steps is None and self.tokens is None and self.share is None


class PieceConfig(_Piece):
    """A stretch of the schedule. One piece may leave its length out: it takes what the others leave."""

    shape: Literal["warmup", "constant", "linear", "cosine", "sqrt", "inverse_sqrt"] = key(
        "constant",
        "warmup: a straight line up to the peak or to `to`; constant; linear, cosine, sqrt (1 - sqrt): down to `to`; "
        "inverse_sqrt of the step",
    )
    most: Count | None = key(None, "no more than this, where a share is stated", "steps", ge=1, introduced=None)
    to: float | None = key(None, "share of the peak rate at its last step; null: 1 for warmup, else 0", ge=0, le=1)

    def length(self, total_steps: int) -> int | None:
        length = super().length(total_steps)
        return length if length is None or self.share is None or self.most is None else min(length, self.most)


class ValuePieceConfig(_Piece):
    """A stretch in which the value of a key changes. One piece may leave its length out: it takes what the others
    leave."""

    shape: Literal["constant", "linear", "cosine", "sqrt"] = key(
        "constant", "constant; linear, cosine, sqrt (1 - sqrt): from `start` to `to`"
    )
    start: float | None = key(
        None, "the value that it begins from; null: where the last piece ended, of the first one: the key's own", ge=0
    )
    to: float | None = key(None, "the value at its last step; null: the key's own", ge=0)


Piece = TypeVar("Piece", bound=_Piece)


def spans(pieces: Sequence[Piece], total_steps: int) -> Iterator[tuple[Piece, int, int]]:
    """Each piece with the steps begin .. end - 1 that it holds for, one after the other."""
    stated, begin = sum(piece.length(total_steps) or 0 for piece in pieces), 0
    for piece in pieces:
        length = piece.length(total_steps)
        end = begin + (max(0, total_steps - stated) if length is None else length)
        yield piece, begin, end
        begin = end


def in_steps(pieces: Sequence[Piece], clock: Clock, total_steps: int) -> tuple[Piece, ...]:
    """The pieces with those in tokens as so many whole steps of a run of `total_steps`: the fewest that read the
    tokens, after one that takes what is left counted from the end of the run."""
    if all(piece.tokens is None for piece in pieces):
        return tuple(pieces)
    is_open = [piece.is_open for piece in pieces]
    at = is_open.index(True) if any(is_open) else len(pieces)
    found, begin = list(pieces), 0
    for number in range(at):
        found[number] = _stepped(found[number], clock.steps(clock.tokens(begin) + (found[number].tokens or 0)) - begin)
        begin += found[number].length(total_steps) or 0
    end = total_steps
    for number in range(len(pieces) - 1, at, -1):
        found[number] = _stepped(found[number], _before(clock, end, found[number].tokens or 0))
        end = max(0, end - (found[number].length(total_steps) or 0))
    return tuple(found)


def _stepped(piece: Piece, steps: int) -> Piece:
    return piece if piece.tokens is None else piece.model_copy(update={"steps": steps, "tokens": None})


def _before(clock: Clock, end: int, tokens: int) -> int:
    """The fewest steps before step `end` that read that many tokens; more than there are where they do not."""
    rest = clock.tokens(end) - tokens
    if rest < 0:
        return max(end + 1, clock.steps(tokens))
    begin = clock.steps(rest)
    return end - (begin if clock.tokens(begin) <= rest else begin - 1)


def piece_misfits(name: str, pieces: Sequence[Piece]) -> list[str]:
    """A line for each thing that is wrong with the lengths of the pieces of the key `name`."""
    wrong = []
    open_ended = [number for number, piece in enumerate(pieces) if piece.is_open]
    if len(open_ended) > 1:
        named = " and ".join(f"{name}[{number}]" for number in open_ended)
        wrong.append(f"{name}: {named} state no length; one piece at most may take what the others leave")
    for number, piece in enumerate(pieces):
        given = [unit for unit in ("steps", "tokens", "share") if getattr(piece, unit) is not None]
        if len(given) > 1:
            wrong.append(f"{name}[{number}]: state one of {' and '.join(given)}, not all of them")
    if sum(piece.share or 0.0 for piece in pieces) > 1:
        wrong.append(f"{name}: their shares sum to more than 1")
    return wrong


def value_misfits(name: str, pieces: Sequence[ValuePieceConfig], below: float | None = None) -> list[str]:
    """A line for each thing that is wrong with the pieces of a value's schedule, whose values are less than `below`."""
    wrong = piece_misfits(name, pieces)
    for number, piece in enumerate(pieces):
        place = f"{name}[{number}]"
        if piece.shape == "constant" and piece.to is not None:
            wrong.append(f"{place}.to: constant stays where it begins; state start")
        for end in ("start", "to"):
            value = getattr(piece, end)
            if below is not None and value is not None and value >= below:
                wrong.append(f"{place}.{end}: {value:g} given, it must be less than {below:g}")
    return wrong


def as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Pieces(ScheduleDescription):
    name = "pieces"
    help = "pieces one after the other, as optim.pieces says"
    implementation = "trainer.training.schedules:pieces"
    warms_up: ClassVar[bool] = True

    class Keys(ScheduleDescription.Keys):
        pieces: Annotated[tuple[PieceConfig, ...], BeforeValidator(as_tuple)] = key(
            (),
            "its pieces, e.g. [{shape: warmup, steps: 100}, {shape: constant}, {shape: sqrt, share: 0.2}]",
            introduced=[],  # as JSON has it
        )

    def in_steps(self, optim: Any, clock: Any, total_steps: int) -> Any:
        return optim.model_copy(update={"pieces": in_steps(optim.pieces, clock, total_steps)})

    def warmup_steps(self, optim: Any, total_steps: int) -> int:
        first: PieceConfig = optim.pieces[0]
        return (first.length(total_steps) or 0) if first.shape == "warmup" else 0

    def warmup_to(self, optim: Any) -> float:
        to: float | None = optim.pieces[0].to
        return 1.0 if to is None else to

    def steps_stated(self, optim: Any, total_steps: int) -> int:
        return sum(piece.length(total_steps) or 0 for piece in optim.pieces)

    def misfits(self, group: Any) -> list[str]:
        if group.schedule != self.name:
            return []
        pieces: Sequence[PieceConfig] = group.pieces
        if not pieces:
            return ["pieces: optim.schedule=pieces needs at least one"]
        wrong = []
        if group.warmup_steps is not None:
            wrong.append("warmup_steps: optim.schedule=pieces warms up by a piece: {shape: warmup, steps: ...}")
        wrong += piece_misfits("pieces", pieces)
        for number, piece in enumerate(pieces):
            if piece.most is not None and piece.share is None:
                wrong.append(f"pieces[{number}].most: only a share is bounded by it")
            if piece.to is not None and piece.shape in ("constant", "inverse_sqrt"):
                wrong.append(f"pieces[{number}].to: {piece.shape} ends where it comes to")
        return wrong
