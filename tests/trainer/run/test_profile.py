"""`isoflop profile`: what it measures against the books and against PyTorch's own counter, and its pictures."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainer.books.step_work import work
from trainer.cli.main import main
from trainer.config import load
from trainer.report.profile_pictures import flame_svg, memory_timeline
from trainer.training.step_counts import counting
from trainer.training.step_profile import UNTOUCHED, Frame

ROOT = Path(__file__).resolve().parents[3]
STEPS = 2
SVG = "{http://www.w3.org/2000/svg}"


class Profiled(NamedTuple):
    run: Path
    report: dict[str, Any]


def isoflop(*words: str) -> None:
    """In a process of its own: DeepSpeed begins once in a process."""
    done = subprocess.run([sys.executable, "-m", "trainer", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def words_of(tiny: list[str]) -> list[str]:
    return [word for word in tiny if not word.startswith(("budget.", "evaluation.", "checkpoint.", "tracker."))]


@pytest.fixture(scope="module")
def profiled(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    root = tmp_path_factory.mktemp("profiled")
    words = [*words_of(tiny), f"run.root={root}", "run.id=one", "seed=5", f"steps={STEPS}"]
    isoflop("profile", *words)
    run = root / "profile" / "one"
    return Profiled(run, json.loads((run / "profile" / "profile.json").read_text()))


def test_floating_point_operations_are_those_of_the_books(profiled: Profiled) -> None:
    """Products to the operation; attention's backward pass computes the scores once more, 7 products in place of 6."""
    expected = work(load(profiled.run / "config.yaml"))
    (found,) = [one for one in profiled.report["figures"] if one["what"] == "FLOPs"]
    assert expected.score_flop > 0
    assert found["measured"] == pytest.approx(expected.product_flop + expected.score_flop * 7 / 6, rel=1e-12)
    assert found["expected"] == expected.product_flop + expected.score_flop


def test_the_table_has_the_largest_difference_first(profiled: Profiled) -> None:
    ratios = [one["ratio"] for one in profiled.report["figures"] if one["ratio"]]
    distances = [abs(math.log(ratio)) for ratio in ratios]
    assert distances == sorted(distances, reverse=True)
    assert {one["what"] for one in profiled.report["figures"]} >= {"time", "operators", "memory", "memory of a step"}
    operators = profiled.report["operators"]
    (count,) = [one["measured"] for one in profiled.report["figures"] if one["what"] == "operators"]
    assert count == sum(operators.values()) and operators["mm"] >= 2 * 7


def test_losses_are_those_of_the_run_without_a_profiler(profiled: Profiled, tiny: list[str], tmp_path: Path) -> None:
    words = [*words_of(tiny), f"run.root={tmp_path}", "run.id=plain", "run.experiment=x", "seed=5"]
    steps = [f"budget.steps={UNTOUCHED + STEPS + 1}", "evaluation.every_steps=null", "tracker.console=none"]
    isoflop("train", *words, *steps)

    def losses(run: Path) -> list[float]:
        records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        return [one["loss"] for one in records if one["kind"] == "step"]

    assert losses(profiled.run) == losses(tmp_path / "x" / "plain") and len(losses(profiled.run)) == 6


def test_the_trace_names_phases_modules_and_operators(profiled: Profiled) -> None:
    events = json.loads((profiled.run / "profile" / "trace.json").read_text())["traceEvents"]
    names = [event.get("name") for event in events]
    assert names.count("phase: optimizer") == STEPS and "FeedForward" in names and "aten::mm" in names
    timeline = memory_timeline(profiled.run / "profile" / "trace.json")
    assert timeline[0].seconds == 0 and max(one.bytes for one in timeline) > min(one.bytes for one in timeline)
    ElementTree.parse(profiled.run / "profile" / "memory.svg")


def test_frames_lie_within_those_around_them(profiled: Profiled) -> None:
    boxes = ElementTree.parse(profiled.run / "profile" / "flame.svg").getroot().findall(f"{SVG}g")
    titles = [box.findtext(f"{SVG}title") or "" for box in boxes]
    assert any("phase: forward_backward / " in title and "FeedForward" in title for title in titles)
    rows = [
        (float(r.get("x", 0)), float(r.get("y", 0)), float(r.get("width", 0)))
        for b in boxes
        for r in b.iter(f"{SVG}rect")
    ]
    for x, y, width in rows:
        above = [(a, w) for a, top, w in rows if top == y - 20]
        assert y == 20 or any(a - 0.2 <= x and x + width <= a + w + 0.2 for a, w in above)
    assert max(x + width for x, _, width in rows) <= 1200.2


def test_widths_are_times() -> None:
    frames = [Frame(("a",), 3.0), Frame(("a", "b<&"), 1.0), Frame(("c",), 1.0)]
    root = ElementTree.fromstring(flame_svg(frames, 2))
    widths = [float(rect.get("width", 0)) for group in root.findall(f"{SVG}g") for rect in group.iter(f"{SVG}rect")]
    assert widths == [900.0, 300.0, 300.0]
    assert "a / b<&: 500.00 ms a step, 25.0 %" in [one.text for one in root.iter(f"{SVG}title")]


def test_counting_agrees_with_pytorchs_own_counter() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4, bias=False))
    given, other = torch.randn(2, 5, 8), torch.randn(3, 4, 6, requires_grad=True)

    def step() -> None:
        (model(given).sum() + (other @ other.transpose(1, 2)).sum()).backward()

    step()
    with FlopCounterMode(display=False) as theirs:
        step()
    with counting() as ours:
        step()
    assert ours.counts["product_flop"] == theirs.get_total_flops() > 0
    assert ours.counts["attention_flop"] == 0 and ours.counts["other_bytes"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["steps=0"], "profile: steps: 0 given, 1 to 100 wanted"),
        (["steps=x"], "profile: steps: 'x' given, a whole number wanted"),
        (["budget.steps=9"], "profile: budget.steps=9: steps=3 says how many"),
        (["launch.processes=2"], "launch.processes: 2 ranks; profile looks at one rank"),
        (["model.dpeth=2"], "did you mean 'model.depth'?"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["profile", *words, f"run.root={tmp_path}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line and list(tmp_path.iterdir()) == []
