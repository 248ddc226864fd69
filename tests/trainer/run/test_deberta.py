"""A small DeBERTa-v3 by the command: trained, in another layout, tuned, and written with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.training.half_way import trained
from trainer.run_folder import RunFolder
from trainer.trackers import read_metrics
from trainer.training.checkpoint import valid_checkpoints

SMALL = ["model=deberta-mini", "objective=replaced_token", "model.heads=4", "model.generator_width=32"]
SMALL += ["model.generator_depth=1", "model.relative_buckets=6", "model.relative_distance=20", "optim.lr=0.01"]
SMALL += ["budget.steps=3", "evaluation.every_steps=3", "checkpoint.every_steps=3"]
ELSEWHERE = [
    "engine.zero_stage=3",
    "launch.processes=2",
    "engine.micro_batch=3",
    "engine.activation_checkpointing=true",
]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return next(valid_checkpoints(RunFolder(run).checkpoints)).weights()


def told(run: Path) -> list[tuple[str, int, float]]:
    return [
        (one["kind"], one["step"], one["loss"]) for one in read_metrics(run) if one["kind"] in ("step", "evaluation")
    ]


def test_trained_elsewhere_and_tuned(isoflop: Any, tiny: list[str], tmp_path: Path) -> None:
    run = trained(isoflop, *tiny, *SMALL, "run.id=whole")
    elsewhere = trained(isoflop, *tiny, *SMALL, *ELSEWHERE, "run.id=elsewhere")
    for (*ours, loss), (*theirs, other) in zip(told(run), told(elsewhere), strict=True):
        assert ours == theirs and loss == pytest.approx(other, rel=1e-5)
    parent = weights(run)
    assert parent["delta.weight"].abs().max() > 0

    records = tmp_path / "records.jsonl"
    lines = [{"text": f"a {word} b", "label": word} for word in ("bad", "cab") * 12]
    records.write_text("\n".join(map(json.dumps, lines)))
    task = ["task.kind=sequence", "task.name=words", f"task.train={records}", f"task.held_out={records}"]
    done = isoflop("finetune", str(run), *task, "budget.steps=1", "optim.lr=1e-30", "engine.threads=1", "--json")
    assert done.returncode == 0, done.stderr
    tuned = weights(Path(json.loads(done.stdout)["run"]))
    assert torch.equal(tuned["body.tokens.weight"], parent["tokens.weight"] + parent["delta.weight"])
    assert torch.equal(tuned["body.relative.table.weight"], parent["relative.table.weight"])
    assert not any("delta" in name or "replaced" in name for name in tuned)
