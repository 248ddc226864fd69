"""A published law fitted again from the published runs."""

from __future__ import annotations

import math
from pathlib import Path

from trainer.books.branch import read_branch
from trainer.publish.sources import LAW
from trainer.run_folder import find_runs
from trainer.utils.errors import UserError

TOLERANCE = 1e-6  # relative, of each constant: another processor adds up in another order
LEAST_REPLICATES = 20  # constants do not depend on how many there are


def law_again(raw: Path) -> tuple[list[str], list[str]]:
    """A line about each constant that the runs do not give, and notes on what was or could not be fitted again."""
    if not (raw / LAW).is_file():
        return [], []
    from trainer.scaling import fit as fitting

    law = fitting.read_law(raw / LAW)
    if any(read_branch(run) for run in find_runs(raw)):
        return [], [f"{LAW}: not fitted again: branches name their trunks by path"]
    try:
        table = fitting.read_table(raw, count=law.counted)
        if len(table.runs) != law.runs:
            there = f"it is of {law.runs} runs, and {len(table.runs)} of these here fit into it"
            return [], [f"{LAW}: not fitted again: {there}"]
        forms = tuple(member.form for member in law.ensemble.members)
        found = fitting.fit(table, budgets=[], replicates=LEAST_REPLICATES, progress=lambda *_: None, forms=forms)
    except UserError as error:
        return [], [f"{LAW}: not fitted again: {str(error).splitlines()[0]}"]
    wrong = []
    fitted = {member.form: member for member in found.ensemble.members}
    for member in law.ensemble.members:
        other = fitted.get(member.form)
        if other is None:
            wrong.append(f"{LAW}: {member.form}: the runs give no such law")
            continue
        for number, (said, again) in enumerate(zip(member.values[0], other.values[0], strict=True)):
            if not math.isclose(said, again, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                wrong.append(
                    f"{LAW}: {member.form}, constant {number + 1}: {said:.9g} stands, the runs give {again:.9g}"
                )
    return wrong, [] if wrong else [f"{LAW}: fitted again from {law.runs} runs, {law.form}: the same constants"]
