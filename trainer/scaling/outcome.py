"""What a sweep came to: a row a run, read from the run folders alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.books import format_amount, parameters
from trainer.report.run_data import read_run
from trainer.run_folder import readable
from trainer.scaling.ladder import PlannedRun
from trainer.utils.files import write_atomic

Row = dict[str, Any]
# Column -> unit, as text for a person shows it.
SHOWN = {
    "parameters": "",
    "tokens": "",
    "flop": "FLOP",
    "loss": "",
    "bits_per_byte": "",
    "kwh": "kWh",
    "gco2e": "g CO2e",
    "seconds": "s",
}


def rows(runs: Sequence[PlannedRun]) -> list[Row]:
    """One row for each run, in the order planned; what was neither measured nor stated is None."""
    return [_row(run) for run in runs]


def _row(run: PlannedRun) -> Row:
    count = parameters(run.config)
    row: Row = {
        "run": run.name,
        "status": "not started",
        "parameters": count.total,
        "without_embeddings": count.non_embedding,
        "seed": run.config.seed,
        "numerics": None,
        "lr": run.config.optim.lr,
        "batch_size": run.config.optim.batch_size,
        **dict.fromkeys(("tokens", "flop", "loss", "bits_per_byte", "kwh", "gco2e", "money", "currency", "seconds")),
    }
    if not run.folder.config.is_file():
        return row
    run_data = next(readable([run.folder.path], read_run), None)
    if run_data is None:
        return row | {"status": "cannot be read"}
    row |= {"status": run_data.status, "numerics": run_data.numerics}
    if run_data.steps.kept:
        last = run_data.steps.kept[-1]
        row |= {
            "tokens": last["tokens"],
            "flop": last["flop"],
            "seconds": round(sum(run_data.steps.attempt_seconds.values()), 1),
        }
        held_out = [item for item in run_data.steps.evaluations if item["step"] == last["step"]]
        row |= {name: held_out[-1].get(name) for name in ("loss", "bits_per_byte") if held_out}
    row |= {"kwh": run_data.kwh, "gco2e": run_data.gco2e, "money": run_data.money}
    row["currency"] = run_data.site.currency if row["money"] is not None else None
    return row


def write_csv(path: Path, table: Sequence[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_atomic(path, text.getvalue())


def format_rows(table: Sequence[Row]) -> str:
    """The rows as aligned text; columns that no run has are left out."""
    columns = {name: unit for name, unit in SHOWN.items() if any(row[name] is not None for row in table)}
    lines = [["run", "status", *(name.replace("_", " ") for name in columns)]]
    for row in table:
        lines.append([row["run"], row["status"], *(_cell(name, row[name], unit) for name, unit in columns.items())])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
            + [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        ).rstrip()
        for line in lines
    )


def _cell(name: str, value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if name in ("loss", "bits_per_byte") else format_amount(value, unit)
