"""`isoflop profile`: what it measures against the books and against PyTorch's own counter, and its pictures."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import Command
from trainer.books.step_work import work
from trainer.books.wire import wire
from trainer.cli.main import main
from trainer.config import load
from trainer.report.profile_pictures import flame_svg, memory_timeline
from trainer.training.step_counts import counting
from trainer.training.step_profile import UNTOUCHED, Frame

ROOT = Path(__file__).resolve().parents[3]
STEPS = 2
FILES = [("trace", "json"), ("flame", "svg"), ("memory", "svg")]
SVG = "{http://www.w3.org/2000/svg}"


class Profiled(NamedTuple):
    run: Path
    report: dict[str, Any]


def isoflop(*words: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: DeepSpeed begins once in a process."""
    done = subprocess.run([sys.executable, "-m", "trainer", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


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


@pytest.fixture(scope="module")
def two_ranks(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    root = tmp_path_factory.mktemp("two")
    words = [*words_of(tiny), f"run.root={root}", "run.id=two", "steps=1", "launch.processes=2"]
    done = isoflop("profile", *words, "engine.zero_stage=2", "--json")
    report = json.loads(done.stdout)  # and nothing beside it
    run = root / "profile" / "two"
    assert report == json.loads((run / "profile" / "profile.json").read_text())
    return Profiled(run, report)


def test_two_ranks_send_what_the_books_expect(two_ranks: Profiled) -> None:
    """By the sizes that collectives were called with, of gradients and weights, and of little else."""
    figures = {one["what"]: one for one in two_ranks.report["figures"]}
    assert figures["sent"]["expected"] == wire(load(two_ranks.run / "config.yaml")).total > 0
    assert figures["sent"]["ratio"] == pytest.approx(1, abs=0.01)
    assert sum(two_ranks.report["collectives"].values()) >= 3
    assert 0 < figures["in collectives"]["measured"] < two_ranks.report["traced_step_seconds"]


def test_the_spread_is_over_what_each_rank_measured(two_ranks: Profiled) -> None:
    ranks = two_ranks.report["ranks"]
    assert [one["rank"] for one in ranks] == [0, 1]
    for what, name in {"work of its own": "alone_seconds", "in collectives": "collective_seconds"}.items():
        (found,) = [one for one in two_ranks.report["spread"] if one["what"] == what]
        values = [one[name] for one in ranks]
        assert (found["least"]["value"], found["most"]["value"]) == (min(values), max(values))
        assert values[found["most"]["rank"]] == max(values)


def test_every_rank_leaves_a_trace_and_pictures(two_ranks: Profiled) -> None:
    place = two_ranks.run / "profile"
    of_ranks = [f"{name}-rank{rank}.{kind}" for name, kind in FILES for rank in range(2)]
    assert sorted(file.name for file in place.iterdir()) == sorted([*of_ranks, "profile.json"])
    for rank in range(2):
        events = json.loads((place / f"trace-rank{rank}.json").read_text())["traceEvents"]
        assert any(str(event.get("name")).startswith("gloo:") for event in events)
        ElementTree.parse(place / f"flame-rank{rank}.svg")


def test_a_run_that_is_there_is_left_alone(
    profiled: Profiled, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in profiled.run.rglob("*") if file.is_file()}
    words = [*words_of(tiny), f"run.root={profiled.run.parents[1]}", "run.id=one", "seed=5", f"steps={STEPS}"]
    assert main(["profile", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"run.id: {profiled.run} is a run already" in line
    assert before == {file: file.read_bytes() for file in profiled.run.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_ranks_that_torchrun_started_make_one_profile(tiny: list[str], isoflop: Command) -> None:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trainer"]

    def start(*words: str) -> subprocess.CompletedProcess[str]:
        given = ["profile", *words_of(tiny), "run.id=one", "--json", *words]
        return subprocess.run([*program, *given], cwd=isoflop.folder, capture_output=True, text=True, timeout=600)

    done = start("steps=1")
    assert done.returncode == 0, done.stderr
    report, place = json.loads(done.stdout), isoflop.folder / "runs" / "profile" / "one" / "profile"
    assert report == json.loads((place / "profile.json").read_text())
    assert [one["rank"] for one in report["ranks"]] == [0, 1] and (place / "trace-rank1.json").is_file()
    again = start("steps=1")
    assert again.returncode != 0 and again.stderr.count("is a run already") == 1


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_profile_that_is_interrupted_leaves_nothing_half(processes: int, tiny: list[str], isoflop: Command) -> None:
    """Once steps are traced: one line, and no file of the profile."""
    words = [*words_of(tiny), "run.id=cut", "steps=100", f"launch.processes={processes}"]
    run = isoflop.folder / "runs" / "profile" / "cut"
    default = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # also where the tests ignore it
    process = subprocess.Popen(
        isoflop.arguments("profile", *words), cwd=isoflop.folder, stderr=subprocess.PIPE, text=True, preexec_fn=default
    )
    assert process.stderr is not None
    deadline = time.monotonic() + 300
    while steps_of(run) < UNTOUCHED + 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    lines = process.stderr.read().splitlines()
    assert (process.wait(timeout=120), lines[-1]) == (130, "isoflop: interrupted")
    assert not any("Traceback" in line for line in lines)
    assert not [file for file in run.iterdir() if "profile" in file.name and not file.name.startswith("cost-")]
    assert json.loads((run / "events.jsonl").read_text().splitlines()[-1])["name"] == "stopped"


def steps_of(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_text().count('"kind":"step"') if file.is_file() else 0


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
        (["launch=slurm"], "launch=slurm: profile looks at ranks of this host; take launch=local with"),
        (
            ["launch=torchrun", "launch.hosts=[a,b]", "launch.nodes=2"],
            "launch=torchrun: profile looks at ranks",
        ),
        (["model=bert-mini", "objective=causal"], "objective=causal trains decoder models"),
        (["model=llama2-7b", "machine.memory_bytes=8e9"], "profile: the step does not fit: "),
        (["model=opt-66b"], "profile: the step does not fit: "),  # into this host, nor most others
        (["from=runs/x/y"], "profile: from=runs/x/y: a profile is a run of its own"),
        (["model.dpeth=2"], "did you mean 'model.depth'?"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["profile", *words, f"run.root={tmp_path}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line and list(tmp_path.iterdir()) == []
