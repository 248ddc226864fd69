"""A schedule that is put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from trainer.descriptions.schedules import ScheduleDescription
from trainer.utils.schema import Count, Section, key


class PieceConfig(Section):
    """A stretch of the schedule. One piece may leave its length out: it takes what the others leave."""

    shape: Literal["warmup", "constant", "linear", "cosine", "sqrt", "inverse_sqrt"] = key(
        "constant",
        "warmup: a straight line up to the peak or to `to`; constant; linear, cosine, sqrt (1 - sqrt): down to `to`; "
        "inverse_sqrt of the step",
    )
    steps: Count | None = key(None, "its length", "steps", ge=1)
    share: float | None = key(None, "its length as a share of the run's steps", gt=0, le=1)
    most: Count | None = key(None, "no more than this, where a share is stated", "steps", ge=1, introduced=None)
    to: float | None = key(None, "share of the peak rate at its last step; null: 1 for warmup, else 0", ge=0, le=1)

    def length(self, total_steps: int) -> int | None:
        """In steps; None where it takes what the other pieces leave."""
        if self.share is None:
            return self.steps
        length = round(self.share * total_steps)
        return length if self.most is None else min(length, self.most)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Pieces(ScheduleDescription):
    name = "pieces"
    help = "pieces one after the other, as optim.pieces says"
    implementation = "trainer.training.schedules:pieces"
    warms_up: ClassVar[bool] = True

    class Keys(ScheduleDescription.Keys):
        pieces: Annotated[tuple[PieceConfig, ...], BeforeValidator(_as_tuple)] = key(
            (),
            "its pieces, e.g. [{shape: warmup, steps: 100}, {shape: constant}, {shape: sqrt, share: 0.2}]",
            introduced=[],  # as JSON has it
        )

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
        open_ended = [number for number, piece in enumerate(pieces) if piece.steps is None and piece.share is None]
        if len(open_ended) > 1:
            named = " and ".join(f"pieces[{number}]" for number in open_ended)
            wrong.append(f"pieces: {named} state no length; one piece at most may take what the others leave")
        for number, piece in enumerate(pieces):
            place = f"pieces[{number}]"
            if piece.steps is not None and piece.share is not None:
                wrong.append(f"{place}: state steps or share, not both")
            if piece.most is not None and piece.share is None:
                wrong.append(f"{place}.most: only a share is bounded by it")
            if piece.to is not None and piece.shape in ("constant", "inverse_sqrt"):
                wrong.append(f"{place}.to: {piece.shape} ends where it comes to")
        if sum(piece.share or 0.0 for piece in pieces) > 1:
            wrong.append("pieces: their shares sum to more than 1")
        return wrong
