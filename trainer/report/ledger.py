"""runs/ledger.jsonl: every run of a root, also failed and killed ones. The last line of a run wins."""

from __future__ import annotations

import json
import os
from pathlib import Path

from trainer.report.contents import read_run


def append_ledger(run: Path) -> None:
    """Add (or renew) this run's line in the ledger of its root, the folder above the experiment.

    One write to a file opened for appending, so that runs that end together do not mix their lines.
    """
    contents = read_run(run)
    best = contents.best
    last = contents.events[-1].get("time") if contents.events else None
    line = {
        "run": f"{run.parent.name}/{run.name}",
        "experiment": run.parent.name,
        "science_hash": contents.config.science_hash(),
        "status": contents.status,
        "time": last,
        "steps": contents.steps.kept[-1]["step"] if contents.steps.kept else 0,
        "replayed_steps": len(contents.steps.replayed),
        "held_out_bits_per_byte": best["bits_per_byte"] if best else None,
        "measured": contents.tag.values("measured"),
        "currency": contents.config.site.currency,
    }
    ledger = run.parent.parent / "ledger.jsonl"
    text = json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"
    # A crash of somebody else may have left half a line: begin a new one.
    if ledger.is_file() and ledger.stat().st_size and not ledger.read_bytes().endswith(b"\n"):
        text = "\n" + text
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
