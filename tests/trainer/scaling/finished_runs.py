"""Run folders of finished runs whose held-out loss is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from run_folders import energy_lines, make_run, write_lines

SITE = {
    "name": "here",
    "pue": 1.0,
    "gco2e_per_kwh": 400.0,
    "intensity_year": 2023,
    "intensity_source": "test",
    "price_per_kwh": 0.5,
    "currency": "EUR",
    "price_date": "2026-11",
}


def trained(root: Path, width: int, batch: int, loss: float, *, name: str = "", **more: Any) -> Path:
    """A finished run of this width on 20 steps of this batch, with this held-out loss at the end."""
    steps = more.pop("steps", 20)
    settings = {"model": {"width": width, "depth": 2, "heads": 2}, "site": SITE, "budget": {"steps": 20}}
    settings |= {"optim": {"batch_size": batch, "warmup_steps": 2}, "data": {"sequence_length": 64}} | more
    run = make_run(root, settings, steps=steps, name=name or f"w{width}-b{batch}")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        if record["kind"] == "evaluation" and record["step"] == 20:
            record["loss"] = loss
    (run / "metrics.jsonl").unlink()
    write_lines(run / "metrics.jsonl", records)
    write_lines(run / "energy-host.jsonl", energy_lines(run.name, 3.6e6))
    return run
