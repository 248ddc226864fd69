"""A hook that was added by its two files, with a key of its own that switches it on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def test_it_hears_of_every_step(isoflop: Any, tiny: list[str]) -> None:
    words = [*tiny, "budget.steps=3", "evaluation.every_steps=null"]
    done = isoflop("train", *words, "hooks.largest_norm=norm.txt")
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.splitlines()[0])
    norms = [json.loads(line).get("grad_norm", 0) for line in (run / "metrics.jsonl").read_text().splitlines()]
    norm, *ended = (run / "norm.txt").read_text().split()
    assert float(norm) == max(norms) and ended == ["finished", "3"]


def test_one_that_makes_no_hook(project: Path) -> None:
    program = """
from pathlib import Path
from trainer.config import Config
from trainer.training import largest_norm
from trainer.training.hooks import hooks_of
from trainer.utils.errors import UserError
config = Config.model_validate({"hooks": {"largest_norm": "norm.txt"}})
assert hooks_of(Config(), Path()) == [] and len(hooks_of(config, Path())) == 1
largest_norm.LargestNorm = lambda config, run: "no hook"
try:
    hooks_of(config, Path())
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True, text=True)
    wanted = "hook largest_norm: trainer.training.largest_norm:LargestNorm makes no trainer.training.hooks.Hook\n"
    assert done.stdout == wanted, done.stderr
