"""Hand-written run folders (those of the report's tests), and a ladder that takes seconds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "report")]


@pytest.fixture(scope="session")
def grid(tiny: list[str]) -> list[str]:
    """A ladder of three sizes, two budgets and tiny steps."""
    given = ("model.depth", "model.width", "budget", "optim.batch_size", "tracker", "checkpoint.every", "evaluation")
    quick = [word for word in tiny if not word.startswith(given)]
    quick += ["optim.batch_size=4", "evaluation.every_steps=null", "checkpoint.every_steps=3", "model.head_size=16"]
    shape = "'model.width={} model.heads={} model.kv_heads=null model.depth=1'"
    sizes = ",".join(shape.format(16 * heads, heads) for heads in (1, 2, 3))
    rules = [f"ladder.{rule}=null" for rule in ("lr", "batch_size", "tokens_per_parameter_between")]
    return ["ladder=cpu", "ladder.base=[]", f"ladder.sizes=[{sizes}]", "ladder.flops=[1e8,3e8]", *rules, *quick]
