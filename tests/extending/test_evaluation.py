"""An evaluation that was added by its two files: a function of the model that the loop calls on all ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_it_is_asked_at_the_points_and_at_the_end(isoflop: Any, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("abc def\nhij\n" * 20)
    words = [*tiny, "budget.steps=3", "evaluation.tasks_every_steps=2", "evaluation.sentences=lines.txt"]
    done = isoflop("train", *words, "launch.processes=2")
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.splitlines()[0])
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = {one["step"]: one["scores"]["sentences"] for one in found if one["kind"] == "evaluation"}
    assert list(scores) == [2, 3] and all(0 < one["bits_per_byte"] < one["worst"] for one in scores.values())
    assert f"sentences: bits_per_byte {scores[3]['bits_per_byte']:.6g}, worst" in done.stdout
    assert "sentences" in (run / "report.html").read_text()
