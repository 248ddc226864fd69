"""Conclusions from many runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from isoflop.given import a_path
from isoflop.plugins import use
from trainer.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from isoflop.run import Run
    from trainer.scaling.compare.comparison import Comparison
    from trainer.scaling.fit import Findings
    from trainer.scaling.fit.predict import Prediction
    from trainer.scaling.next_runs import NextRuns


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
    where: str = "",
) -> Findings:
    """The scaling law through the runs below a root, or through a CSV table; as `isoflop fit`, which tells the options.

    out: a folder for fit.json, law.json, fit.html and the pictures; None: nothing is written. form, predict, where: as
    the command's words; `predictions` of what is returned answer `predict`. Raises UserError.
    """
    from trainer.scaling.fit import fit as fitted
    from trainer.scaling.fit import read_forms, read_points, read_table, write_fit

    use()
    place, forms, points = a_path("fit", source), read_forms(form), read_points(predict) if predict else []
    table = read_table(place, count=parameters, columns=dict(columns or {}), mixed=mixed, where=where)
    found = fitted(
        table,
        budgets=list(budgets),
        replicates=replicates,
        seed=seed,
        progress=_silent,
        forms=forms,
        points=points,
    )
    if out is not None:
        write_fit(found, a_path("fit: out", out), place.name)
    return found


def predict(law: str | os.PathLike[str], points: str) -> list[Prediction]:
    """What a stored law (law.json of `fit`) says of these points, such as "7b@4t,13b@5t", in their order; as
    `isoflop fit law=... predict=...`. Raises UserError."""
    from trainer.scaling.fit import predict as predicted
    from trainer.scaling.fit import read_law, read_points

    asked = read_points(points)
    return predicted(read_law(a_path("predict", law)).ensemble, asked)


def next_runs(
    source: str | os.PathLike[str], question: str, *, count: int = 3, within: str = "", where: str = "", seed: int = 0
) -> NextRuns:
    """The runs that would narrow the answer to a question most for their price; as `isoflop fit ... next=`.

    Their words, of a root of runs, are what `train` takes. Raises UserError.
    """
    from trainer.scaling.fit import read_table
    from trainer.scaling.next_runs import next_runs as proposed

    use()
    place = a_path("next_runs", source)
    return proposed(read_table(place, where=where), place, count, question, within, seed)


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
    found = compared(read_groups([str(a_path("compare", run)) for run in runs]), axis)
    if out is not None:
        write_comparison(found, axis, a_path("compare: out", out))
    return found
