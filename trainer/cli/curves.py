"""What changes along a planned run: `isoflop plan` prints its pieces, `--curves` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic

if TYPE_CHECKING:
    from trainer.books.quantity import PriceTag
    from trainer.config import Config
    from trainer.report.schedules import PieceRow

FLAG = "--curves"
KINDS: dict[str, Literal["svg", "png"]] = {".svg": "svg", ".png": "png"}


@dataclass(frozen=True)
class Curves:
    """A picture that is asked for."""

    out: Path
    axis: Literal["steps", "tokens"]


def take_curves(words: list[str], flags: set[str]) -> tuple[list[str], Curves | None]:
    """Take `out=file.svg` and `axis=tokens` out of the words; None without --curves, where they are no words of plan.

    Raises UserError for another kind of file or axis, and for a folder that is not there."""
    given = {name: word.partition("=")[2] for word in words for name in ("out", "axis") if word.startswith(f"{name}=")}
    if FLAG not in flags:
        if given:
            name, value = next(iter(given.items()))
            raise UserError(f"plan: {name}={value}: only plan {FLAG} reads it")
        return words, None
    out, axis = Path(given.get("out", "curves.svg")), given.get("axis", "steps")
    if out.suffix not in KINDS:
        raise UserError(f"plan: out={out}: a file that ends in .svg or .png is wanted")
    if not out.parent.is_dir():
        raise UserError(f"plan: out={out}: there is no folder {out.parent}")
    if axis not in ("steps", "tokens"):
        raise UserError(f"plan: axis={axis}: steps or tokens is wanted")
    rest = [word for word in words if word.partition("=")[0] not in given]
    return rest, Curves(out, "tokens" if axis == "tokens" else "steps")


def pieces(config: Config, tag: PriceTag) -> list[PieceRow]:
    """The pieces of everything that changes along the planned run; none where its length is not known."""
    from trainer.report.schedules import piece_rows

    steps = tag["data.steps"].planned
    return [] if steps is None or steps.value is None else piece_rows(config, int(steps.value))


def schedule_json(rows: Sequence[PieceRow]) -> list[dict[str, Any]]:
    from trainer.report.schedules import rows_json

    return rows_json(rows)


def schedule_text(config: Config, rows: Sequence[PieceRow], asked: Curves | None) -> str:
    """The pieces for a person, where there is more to say than the name of a schedule."""
    from trainer.report.schedules import format_rows, is_put_together

    return "\n\n" + format_rows(rows) if rows and (asked or is_put_together(config)) else ""


def draw(config: Config, rows: Sequence[PieceRow], asked: Curves) -> str:
    """Write the picture; returns the line that names it. Raises UserError where the run's length is not known."""
    from trainer.report.schedule_picture import picture

    if not rows:
        budgets = ", ".join(f"budget.{name}" for name in config.budget.measured)
        raise UserError(f"plan {FLAG}: how many steps {budgets} buys is not known here; state budget.steps too")
    image = picture(config, rows, rows[-1].last_step, asked.axis, KINDS[asked.out.suffix])
    write_atomic(asked.out, image)
    return f"curves  {asked.out}"
