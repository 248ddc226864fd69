"""Conclusions from many runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from isoflop.plugins import use
from trainer.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from isoflop.run import Run
    from trainer.scaling.compare.comparison import Comparison
    from trainer.scaling.fit import Findings


def fit(
    source: str | os.PathLike[str],
    *,
    budgets: Iterable[str] = (),
    parameters: str = "total",
    columns: Mapping[str, str] | None = None,
    mixed: bool = False,
    replicates: int = 400,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    form: str = "auto",
    predict: str = "",
) -> Findings:
    """The scaling law through the runs below a root, or through a CSV table; as `isoflop fit`, which tells the options.

    out: a folder for fit.json, law.json, fit.html and the pictures; None: nothing is written. form, predict: as the
    command's words; `predictions` of what is returned answer `predict`. Raises UserError.
    """
    from trainer.scaling.fit import fit as fitted
    from trainer.scaling.fit import read_forms, read_points, read_table, write_fit

    use()
    table = read_table(Path(source), count=parameters, columns=dict(columns or {}), mixed=mixed)
    found = fitted(
        table,
        budgets=list(budgets),
        replicates=replicates,
        seed=seed,
        progress=_silent,
        forms=read_forms(form),
        points=read_points(predict) if predict else [],
    )
    if out is not None:
        write_fit(found, Path(out), Path(source).name)
    return found


def _silent(what: str, done: float, total: float) -> None:
    """No bar."""


def compare(
    *runs: str | os.PathLike[str] | Run, axis: str = "tokens", out: str | os.PathLike[str] | None = None
) -> Comparison:
    """What differs between runs, and whether their losses differ by more than seed noise; as `isoflop compare`.

    out: a folder for compare.html and its pictures; None: nothing is written. Raises UserError.
    """
    from trainer.scaling.compare import AXES, read_groups, write_comparison
    from trainer.scaling.compare import compare as compared

    use()
    if axis not in AXES:
        raise UserError(f"compare: axis: {axis!r} given, {' or '.join(AXES)} wanted{nearest(axis, AXES)}")
    found = compared(read_groups([str(getattr(run, "path", run)) for run in runs]), axis)
    if out is not None:
        write_comparison(found, axis, Path(out))
    return found
