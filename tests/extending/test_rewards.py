"""A new reward by its two files, files/trainer/{descriptions/rewards,tasks}/brevity.py, and by a plugin of one file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.extending.conftest import ROOT
from trainer.descriptions.rewards import REWARDS

PROGRAM = """
import sys

from trainer.config import TaskConfig
from trainer.descriptions.rewards import REWARDS
from trainer.plugins import load
from trainer.tasks.records import Record
from trainer.tasks.rewards import Completion

load([sys.argv[1]])
given = {"kind": "policy", "train": ("x.jsonl",), "character_price": 0.5}
for name in ("brevity", "vowels"):
    keys = given if name == "brevity" else {**given, "character_price": 0.01}
    task = TaskConfig.model_validate({**keys, "reward_function": name})
    print(REWARDS.implementation(name)(Completion("", "foul, 1", 1, True, None, Record({}, "here")), task))
"""


def test_they_judge_an_answer(project: Path) -> None:
    words = [sys.executable, "-c", PROGRAM, str(ROOT / "examples" / "rewards" / "vowels.py")]
    done = subprocess.run(words, cwd=project, capture_output=True, text=True)
    assert done.stdout == "-3.5\n0.5\n", done.stderr


@pytest.mark.parametrize("name", REWARDS)
def test_what_a_description_names_is_there(name: str) -> None:
    assert callable(REWARDS.implementation(name))
