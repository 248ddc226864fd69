"""What a publication is made of: the files that runs wrote, copied unchanged, from which every number is derived.

raw/<experiment>/<run id>/   configuration, plan, records, logbook, readings of energy, what else a run says of itself
raw/costs/                   what other commands of the root spent
raw/ledger.jsonl             its lines, without those of finished runs whose folder is here: their folders say it
raw/fit/law.json             a law that was fitted, and raw/<experiment>/grid.json: a table of a grid
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from trainer.books.records import LONGEST_FILE, read_lines
from trainer.report.ledger_file import is_root
from trainer.run_folder import REPORT, runs_of
from trainer.utils.bounded import no_file, read_bytes
from trainer.utils.errors import UserError
from trainer.utils.outcomes import Status
from trainer.utils.secrets import refuse_secrets

LEDGER, LAW, GRID, COSTS = "ledger.jsonl", "fit/law.json", "grid.json", "costs"
KINDS = (".json", ".jsonl", ".yaml", ".csv")
DERIVED = (*REPORT, "compare.json")  # what reports wrote, which is derived again
STATED = (".json", ".yaml")  # what may hold settings, and so what is searched for secrets


def collect(root: Path) -> dict[str, bytes]:
    """Name below `raw/` -> content, of everything that the numbers of a root come from.

    Raises UserError where it is no root of runs, where a file cannot be read, and where one holds a secret.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; publish takes a root of runs, such as runs")
    if not is_root(root):
        above = f"; did you mean {root.parent}?" if is_root(root.parent) else ""
        raise UserError(f"{root}: no runs here, <experiment>/<id>{above}")
    paths = sorted(path for path in _files(root) if no_file(path) is None)
    found = {str(path.relative_to(root)): read_bytes(path, LONGEST_FILE) for path in paths}
    if lines := _ledger_lines(root):
        found[LEDGER] = lines
    texts = {name: content.decode(errors="replace") for name, content in found.items() if name.endswith(STATED)}
    refuse_secrets(texts)
    return dict(sorted(found.items()))


def _files(root: Path) -> Iterator[Path]:
    yield root / LAW
    yield from root.glob(f"*/{GRID}")
    yield from root.glob(f"{COSTS}/cost-*.jsonl")
    for run in runs_of(root):
        yield from (path for path in run.glob("*") if path.suffix in KINDS and path.name not in DERIVED)
        manifests = sorted(run.glob("checkpoints/step-*/manifest.json"))
        yield from manifests[-1:]  # of the newest weights: their sha256


def _ledger_lines(root: Path) -> bytes:
    """The ledger's last line of every run that has not finished, or whose folder is gone."""
    here = {f"{run.parent.name}/{run.name}" for run in runs_of(root)}
    last = {str(line.get("run", number)): line for number, line in enumerate(read_lines(root / LEDGER))}
    kept = [line for name, line in last.items() if name not in here or line.get("status") != Status.FINISHED]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept).encode()
