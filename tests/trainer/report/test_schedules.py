"""The pieces of what changes along a run, and their picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from trainer.books.run_length import run_steps
from trainer.cli.train import plan
from trainer.compose import compose
from trainer.report.schedule_picture import picture
from trainer.report.schedules import PieceRow, piece_rows, value_at
from trainer.utils.errors import UserError

WORDS = [
    *("data.sequence_length=32", "budget.steps=100", "optim=muon", "optim.batch_size=8", "optim.lr=1.0"),
    "optim.batch_warmup=[{size: 1, by: 1, tokens: 480}, {size: 4, tokens: 1000}]",
    "optim.schedule=[{shape: warmup, tokens: 320}, {shape: constant}, {shape: sqrt, share: 0.2, to: 0.1}]",
    "optim.weight_decay_schedule=[{shape: linear, to: 0}]",
    "optim.momentum_schedule=[{shape: linear, steps: 10, start: 0.5}]",
]


def of(rows: list[PieceRow], name: str) -> list[tuple[Any, ...]]:
    return [(row.shape, row.first_step, row.last_step) for row in rows if row.of == name]


def test_pieces_lie_end_to_end_and_say_what_stands_there() -> None:
    """Sizes 1, 2 and 3 for 160 tokens each: 5, 3 and 2 steps; then 4 for 1,000: 8 steps."""
    config = compose(WORDS)
    rows = piece_rows(config, 100)
    assert of(rows, "batch_size") == [("by 1", 0, 10), ("constant", 10, 18), ("constant", 18, 100)]
    assert of(rows, "lr") == [("warmup", 0, 8), ("constant", 8, 80), ("sqrt", 80, 100)]
    assert of(rows, "weight_decay") == [("linear", 0, 100)]
    assert of(rows, "momentum") == [("linear", 0, 10), ("constant", 10, 100)]
    for row in rows:
        assert row.first_token == config.curriculum.tokens(row.first_step)
        assert row.last_token == config.curriculum.tokens(row.last_step)
        assert row.last_value == value_at(config, row.of, row.last_step - 1, 100)
    assert [row.last_value for row in rows if row.of == "lr"] == pytest.approx([1.0, 1.0, 0.1])
    assert [row.last_value for row in rows if row.of == "batch_size"] == [3, 4, 8]


@pytest.mark.parametrize(
    ("schedule", "shapes"), [("cosine", ["warmup", "cosine"]), ("constant", ["warmup", "constant"])]
)
def test_named_schedules_have_pieces_too(schedule: str, shapes: list[str]) -> None:
    rows = piece_rows(compose([f"optim.schedule={schedule}", "budget.steps=100"]), 100)
    assert [row.shape for row in rows] == shapes and rows[0].last_step == 10 and rows[-1].last_step == 100


def test_wsd_is_three_pieces_whose_ends_are_its_own() -> None:
    config = compose(["optim.schedule=wsd", "optim.decay_fraction=0.25", "optim.lr=1.0", "budget.steps=100"])
    rows = piece_rows(config, 100)
    assert of(rows, "lr") == [("warmup", 0, 10), ("constant", 10, 75), ("linear", 75, 100)]
    assert [row.first_value for row in rows[1:]] == [1.0, value_at(config, "lr", 75, 100)] and rows[2].first_value < 1


def test_the_picture_has_a_panel_for_each_thing_and_a_line_for_each_piece() -> None:
    config = compose(WORDS)
    rows = piece_rows(config, run_steps(config))
    image = picture(config, rows, 100, "tokens", "svg")
    assert image == picture(config, rows, 100, "tokens", "svg") != picture(config, rows, 100, "steps", "svg")
    said = [text.text for text in ElementTree.fromstring(image).iter("{http://www.w3.org/2000/svg}text")]
    assert {"learning rate", "batch size", "weight decay", "momentum", "training tokens", "sqrt"} <= set(said)
    assert picture(config, rows, 100, "steps", "png").startswith(b"\x89PNG")


def test_plan_prints_pieces_and_draws_without_torch(tmp_path: Path) -> None:
    out = tmp_path / "asked.svg"
    program = f"""
import sys
from trainer.cli.train import plan
assert plan({[*WORDS, "--curves", f"out={out}"]!r}) == 0
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"curves  {out}" and out.read_text().startswith("<?xml")
    assert "learning rate  warmup" in done.stdout and "batch size     by 1" in done.stdout


def test_plan_says_so_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    plan([*WORDS, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["schedule"][0] | {"first_value": 0} == {
        **{"of": "lr", "shape": "warmup", "first_step": 0, "last_step": 8, "first_token": 0, "last_token": 352},
        **{"first_value": 0, "last_value": 1.0},
    }
    plan(["budget.steps=100"])
    assert "schedule  " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--curves", "out=x.pdf"], "ends in .svg or .png"),
        (["--curves", "out=nowhere/x.svg"], "there is no folder nowhere"),
        (["--curves", "axis=loss"], "steps or tokens"),
        (["out=x.svg"], "only plan --curves reads it"),
        (["--curves", "-m", "seed=0,1"], "one run is drawn"),
        (
            ["--curves", "budget.steps=null", "budget.hours=1", "run.cache=/dev/null"],
            r"budget\.hours buys is not known here",
        ),
    ],
)
def test_pictures_that_cannot_be(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan(words)
