"""What a run with the ranks of ranks.py computed and read, from its folder; what it should have read, computed here."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from tests.trainer.training.faults.ranks import fingerprint
from trainer.data import Samples, prepare
from trainer.run_folder import RunFolder
from trainer.trackers import read_metrics


def losses(run: Path) -> dict[int, float]:
    """By step, of the surviving history."""
    return {record["step"]: record["loss"] for record in read_metrics(run) if record["kind"] == "step"}


def samples_read(run: Path, steps: int) -> Counter[str]:
    """What the updates that count were made of, over all ranks: for each step those of the newest attempt that made
    it, on as many ranks as that attempt had."""
    rows: dict[int, dict[int, list[str]]] = {}  # step -> attempt -> rows
    for file in run.glob("reads-*.jsonl"):
        for record in map(json.loads, filter(None, file.read_text().splitlines())):
            rows.setdefault(record["step"], {}).setdefault(record["attempt"], []).extend(record["rows"])
    assert sorted(rows) == list(range(steps))
    return Counter(row for attempts in rows.values() for row in attempts[max(attempts)])


def samples_expected(run: Path, steps: int) -> Counter[str]:
    """The first steps x batch samples of the run."""
    config = RunFolder(run).load_config()
    batch = Samples(prepare(config), config, "train").batch(0, steps * config.optim.batch_size)
    return Counter(fingerprint(row) for row in batch["tokens"])
