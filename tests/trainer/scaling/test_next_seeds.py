"""Which seeds to train next where a comparison is undecided."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from finished_runs import trained

from trainer.cli.main import main
from trainer.scaling.compare import compare, format_seeds, next_seeds, read_groups
from trainer.scaling.statistics import student_quantile
from trainer.utils.errors import UserError

LOW, HIGH = (3.0, 3.1, 3.05), (3.02, 3.09)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three seeds of one learning rate, two of another, whose losses cannot be told apart."""
    for kind, losses, lr in (("low", LOW, 3e-3), ("high", HIGH, 1e-2)):
        for seed, loss in enumerate(losses):
            folder = trained(
                tmp_path,
                64,
                8,
                loss,
                name=f"{kind}{seed}",
                seed=seed,
                optim={"batch_size": 8, "warmup_steps": 2, "lr": lr},
            )
            path = Path(getattr(folder, "path", folder)) / "metrics.jsonl"
            path.write_text(path.read_text().replace('"bits_per_byte"', '"unused"'))
            words = [f"optim.lr={lr}", f"seed={seed}", f"run.id={kind}{seed}"]
            (path.parent / "overrides.json").write_text(json.dumps([{"time": 0, "overrides": words}]))
    return tmp_path


def test_the_group_with_fewer_seeds_gets_the_next_one(root: Path) -> None:
    found = compare(read_groups([str(root)]))
    few, many = sorted(found.groups, key=lambda group: len(group.runs))
    more = next_seeds(found, 2, "1e30")
    assert more.runs[0].label == few.label
    assert more.runs[0].seed == 2 and more.runs[0].words == ("optim.lr=0.01", "seed=2")
    pooled = math.sqrt(sum(np.var(one) * len(one) for one in (LOW, HIGH)) / 3)
    assert more.half_width == pytest.approx(student_quantile(3) * pooled * math.sqrt(1 / 3 + 1 / 2))
    assert more.runs[0].half_width == pytest.approx(student_quantile(4) * pooled * math.sqrt(2 / 3))
    assert more.difference == pytest.approx(abs(np.mean(LOW) - np.mean(HIGH)))
    assert format_seeds(more)[-1].startswith("  isoflop sweep optim.lr=")
    assert many.label != few.label


def test_the_verb_prints_and_refuses(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(root), "next=1", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["next"]["runs"]) == 1
    found = compare(read_groups([str(root)]))
    with pytest.raises(UserError, match="the cheapest further run takes"):
        next_seeds(found, 1, "1")
    alone = compare(read_groups([str(root / "llama-mini-causal-stdlib" / name) for name in ("low0", "low1")]))
    with pytest.raises(UserError, match="no difference is left"):
        next_seeds(alone, 1)
