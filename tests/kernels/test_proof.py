"""The proof on a GPU (scripts/bench/gpu) where there is none: its plan, its limits, and that no row is ever lost."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts" / "bench"))

from proof import conductor, repeats  # noqa: E402
from proof.bare_gpt2 import bare_step  # noqa: E402
from proof.children import Group  # noqa: E402
from proof.measure import Built, Contestant, CpuClock, CudaClock, measure  # noqa: E402
from proof.page import page  # noqa: E402
from proof.plan import PARTS, Case, cases, chosen, limit, plan  # noqa: E402
from proof.ratios import adopt, as_text, ratios  # noqa: E402
from proof.results import VERSIONS, Results, chip_name, sources_digest, write_whole  # noqa: E402
from proof.sensors import Sensors  # noqa: E402
from proof.step import measure_step  # noqa: E402

HERE = {
    "gpu": "NVIDIA H200",
    "architecture": "sm_90",
    "commit": "abc",
    "date": "now",
    "command": "gpu",
    "driver": "580",
}
HERE |= {"torch": "2.11", "triton": "3.6", "cudnn": 9, "python": "3.12"}


def gpu(*words: str, lacks: str = "") -> subprocess.CompletedProcess[str]:
    """scripts/bench/gpu.py where the modules `lacks` cannot be imported."""
    program = "import bare_image, runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "kernels"), "BARE_IMAGE_LACKS": lacks}
    command = [sys.executable, "-c", program, str(ROOT / "scripts" / "bench" / "gpu.py"), *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


# --- the plan ---


def test_the_plan_fits_eight_minutes_the_most_valuable_first() -> None:
    planned = plan(8, cases())
    assert all(p.fits for p in planned)
    assert planned[-1].begins + planned[-1].case.seconds <= 480
    assert [p.begins for p in planned] == sorted(p.begins for p in planned)
    assert list(dict.fromkeys(p.case.part for p in planned)) == list(PARTS)
    attention = [p.case.settings for p in planned if p.case.part == "attention"]
    assert {(s["kind"], s["head"]) for s in attention[:6]} == {
        (kind, head) for kind in ("causal", "packed", "full") for head in (64, 128)
    }
    wanted = {"causal", "full", "packed", "t5", "window", "gqa"}
    assert wanted <= {s["kind"] for s in attention}
    assert {s["length"] for s in attention if s["kind"] == "causal"} == {1024, 2048, 4096, 8192, 16384}


def test_less_time_keeps_every_part_and_its_first_cases() -> None:
    planned = plan(3, cases())
    assert {p.case.part for p in planned if p.fits} >= {"compile", "tests", "attention", "rest", "repeats"}
    kept = [p for p in planned if p.fits and p.case.part == "attention"]
    assert kept and kept == [p for p in planned if p.case.part == "attention"][: len(kept)]
    assert max(p.begins + p.case.seconds for p in planned if p.fits) <= 180
    assert len({case.name for case in cases()}) == len(cases())


def test_a_part_that_takes_all_its_time_leaves_the_others_theirs() -> None:
    left, took = 480.0, {}
    for place, part in enumerate(PARTS):
        took[part] = limit(part, left, list(PARTS)[place:])
        left -= took[part]
    total = sum(PARTS.values())
    assert took == pytest.approx({part: 480 * share / total for part, share in PARTS.items()})
    assert limit("step", 100.0, ["step"]) == 100.0  # what the others left


def test_any_machine_prints_the_plan_and_none_but_a_gpu_runs_it(tmp_path: Path) -> None:
    printed = gpu("--plan", "--minutes", "8", lacks="torch numpy triton")
    assert printed.returncode == 0, printed.stderr
    assert all(case.name in printed.stdout for case in cases())
    if not torch.cuda.is_available():
        refused = gpu("--minutes", "8", "--out", str(tmp_path / "out"))
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
        assert "no GPU" in refused.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--minutes", "0"), "--minutes is 0; it must be more than 0"),
        (("--processes", "0"), "--processes is 0; it must be at least 1"),
        (("--only", "attention/none"), "no case begins with attention/none"),
        (("--wheels", "/nowhere"), "/nowhere is no folder"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], said: str) -> None:
    done = gpu(*words, lacks="torch")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


# --- statistics ---


class ScriptedClock(CpuClock):
    """Seconds of the runs of each work, from a list of its own."""

    def __init__(self, script: dict[Any, Sequence[float]]) -> None:
        self.script = {work: iter(values) for work, values in script.items()}

    def seconds(self, work: Callable[[], Any], repeats: int) -> float:
        return next(self.script[work()])


class Named(Contestant):
    """Its works return their names, for the clock to know them."""

    def __init__(self, name: str) -> None:
        super().__init__(lambda: torch.ones(1), [], [])
        self.name = name

    def outputs(self) -> Any:
        return self.name, "forward"

    def both(self) -> Any:
        return self.name, "both"


def test_a_figure_is_the_median_of_the_rounds() -> None:
    forward, both = [9.0, 1.0, 2.0, 4.0], [9.0, 5.0, 9.0, 6.0]  # the first is of the count of repeats
    script = {
        (who, part): values for who in ("isoflop", "flash") for part, values in (("forward", forward), ("both", both))
    }
    script["flash", "both"] = [9.0, 12.0, 18.0, 3.0]

    def refuse() -> Contestant:
        raise ValueError("no such shape\nand more")

    built = Built({"isoflop": lambda: Named("isoflop"), "flash": lambda: Named("flash"), "cudnn": refuse})
    row = measure(built, ScriptedClock(script), rounds=3)
    own = row["who"]["isoflop"]
    assert (own["forward_seconds"], own["both_seconds"]) == (2.0, 6.0)
    assert (own["forward_spread"], own["both_spread"]) == (4.0, 1.8)
    assert row["who"]["flash"]["both_seconds"] == 12.0
    assert row["refused"] == {"cudnn": "no such shape"} and row["status"] == "measured"
    alone = measure(Built({"isoflop": refuse}), ScriptedClock({}), rounds=3)
    assert (alone["status"], alone["why"]) == ("failed", "no such shape")


def test_the_error_stands_beside_the_time() -> None:
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    names = ("out", "dx")

    def results(out: tuple[torch.Tensor, ...], gradients: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        return dict(zip(names, (*out, *gradients), strict=True))

    def build() -> Contestant:
        return Contestant(lambda: 1.01 * x, [x], [torch.ones(2)], results)

    exact = {"out": x.detach().double(), "dx": torch.ones(2, dtype=torch.float64)}
    row = measure(Built({"isoflop": build}, reference=lambda: exact), CpuClock(), rounds=1)
    assert row["who"]["isoflop"]["error"] == pytest.approx({"out": 0.01, "dx": 0.01}, rel=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="tiny shapes are for a CPU")
@pytest.mark.parametrize(
    ("kind", "length"), [(k, 8192) for k in ("causal", "full", "packed", "window", "gqa", "t5", "order", "dropout")]
)
def test_the_contestants_of_attention_solve_one_problem(kind: str, length: int) -> None:
    """Ours and SDPA's forms of mask and bias are near the formula in fp64, so they are the same mask and bias."""
    from proof.attention import build

    built = build(kind, 64, length)
    row = measure(built, CpuClock(), rounds=1)
    assert kind == "dropout" or set(row["who"]) & {"flash", "sdpa mask", "sdpa bias"}
    for who in row["who"].values():
        assert set(who["error"]) == {"out", "dq", "dk", "dv"} | ({"dtable"} if kind == "t5" else set())
        assert max(who["error"].values()) < 0.02, who["error"]  # of bf16


@pytest.mark.skipif(torch.cuda.is_available(), reason="tiny shapes are for a CPU")
@pytest.mark.parametrize("case", chosen(["loss/50257", "norm", "t5 table", "rotary", "swiglu"]), ids=lambda c: c.name)
def test_the_contestants_of_the_rest_solve_one_problem(case: Case) -> None:
    from proof.worker import built

    row = measure(built(case), CpuClock(), rounds=1)
    assert set(row["who"]) >= {"isoflop", "eager"} or case.name.startswith("t5")
    for who in row["who"].values():
        assert who["error"] and max(who["error"].values()) < 0.03, who["error"]


@pytest.mark.parametrize("fails", [False, True])
def test_what_cannot_be_captured_is_timed_as_it_is(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch.cuda's names in the place of a GPU: a capture that fails leaves the work, on the stream of before."""
    streams = ["before"]

    @contextmanager
    def stream(one: Any) -> Iterator[None]:
        streams.append(one)
        yield
        streams.pop()

    @contextmanager
    def graph(one: Any) -> Iterator[None]:
        streams.append("capturing")
        yield
        if fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        streams.pop()

    aside = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: aside)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay="replay"))
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda: SimpleNamespace(wait_stream=lambda o: None, n=streams[-1])
    )
    monkeypatch.setattr(torch.cuda, "set_stream", lambda one: streams.append(one.n))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    runs = []

    def work() -> None:
        runs.append(streams[-1])

    found = CudaClock().captured(work)
    assert found == ((work, False) if fails else ("replay", True))
    assert runs == [aside, aside, "capturing"] and streams[-1] == "before"


def test_a_step_that_lacks_a_wheel_is_named_and_the_bare_loop_timed() -> None:
    calls = []

    def lacking() -> Callable[[], Any]:
        raise ModuleNotFoundError("No module named 'pydantic'")

    steps = {"bare loop": lambda: lambda: calls.append(1), "isoflop": lacking}
    row = measure_step(steps, rounds=3, steps=2)
    assert (row["status"], row["why"]) == ("failed", "No module named 'pydantic'")
    assert len(calls) == 2 + 3 * 2  # after two of warming up
    bare = row["who"]["bare loop"]
    assert bare["tokens_per_second"] == pytest.approx(row["tokens"] / bare["both_seconds"])
    both = measure_step({name: lambda: lambda: None for name in steps}, rounds=1, steps=1)
    assert both["status"] == "measured" and set(both["who"]) == {"bare loop", "isoflop"}


def test_the_bare_loop_learns() -> None:
    torch.manual_seed(0)
    batch = {name: torch.randint(0, 50, (2, 8)) for name in ("tokens", "targets")}
    step = bare_step([batch, batch], 50, {"depth": 1, "width": 16, "heads": 2}, fast=False)
    first = float(step())
    assert first == pytest.approx(math.log(50), rel=0.05)
    for _ in range(20):
        last = float(step())
    assert last < first


def test_a_repeat_that_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert repeats.repeats("two_pass", "causal", 64, times=3)["status"] == "passed"
    true, calls = repeats.attention, []

    def racing(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
        calls.append(1)
        return true(q, k, v * 2 if len(calls) == 3 else v, **options)

    monkeypatch.setattr(repeats, "attention", racing)
    row = repeats.repeats("two_pass", "causal", 64, times=4)
    assert (row["status"], row["why"]) == ("failed", "1 of 4 repeats differ in dq, dk, dv, the first is 2")
    monkeypatch.setattr(repeats, "lacks", lambda *_: "there is none")
    assert repeats.repeats("ordered", "causal", 64) == {"status": "skipped", "why": "there is none"}


def test_what_takes_two_passes_after_all_is_not_proven_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "architecture", lambda device: "sm_90")
    assert repeats.lacks("ordered", "causal", 64) is repeats.lacks("two_pass", "causal", 128) is None
    for kind, head in (("causal", 128), ("t5", 64)):
        row = repeats.repeats("ordered", kind, head)
        assert row == {"status": "skipped", "why": f"attention takes two passes on sm_90 at head size {head}"}


def test_sensors_say_what_they_read_and_nothing_else() -> None:
    readings = iter([(1980.0, 600.0), (1755.0, 700.0), (1900.0, 650.0)])
    sensors = Sensors(lambda: next(readings), "a stub")  # then StopIteration: a reading that fails
    sensors.begin()
    end = time.monotonic() + 10
    while len(sensors._readings) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    assert sensors.end() == {
        "sm_megahertz": 1900.0, "sm_megahertz_lowest": 1755.0, "watts": 650.0, "readings": 3, "by": "a stub",
    }  # fmt: skip
    silent = Sensors(None, None)
    silent.begin()
    assert silent.end() is None


# --- rows: complete, kept, not measured twice ---


def results_at(path: Path, **changed: Any) -> Results:
    return Results(path, HERE | changed, "sources")


def measured(name: str, own: float = 1.0, **others: float) -> dict[str, Any]:
    figures = {"forward_seconds": 0.5, "graph": True, "error": {"out": 1e-3, "dq": 2e-3}, "host_seconds": 1e-4}
    figures |= {"replay_host_seconds": None, "peak_bytes": None}
    who = {name: figures | {"both_seconds": seconds} for name, seconds in {"isoflop": own, **others}.items()}
    return {"name": name, "part": "attention", "status": "measured", "who": who, "refused": {}, "flop": (1e12, 3e12)}


def test_results_are_taken_up_for_the_same_sources_chip_and_versions_only(tmp_path: Path) -> None:
    path = tmp_path / "gpu-h200.json"
    results = results_at(path)
    results.add(measured("attention/causal/64/8192", flash=2.0))
    results.add({"name": "b", "part": "rest", "status": "stopped", "why": "stopped after 9 s"})
    results.add({"name": "c", "part": "rest", "status": "failed", "why": "out of memory"})
    results.write()
    again = results_at(path)
    assert set(again.rows) == {"attention/causal/64/8192", "c"}  # what was stopped had no time
    again.forget_failures()
    assert set(again.rows) == {"attention/causal/64/8192"}
    for name in VERSIONS:
        assert not results_at(path, **{name: "another"}).rows
    assert not Results(path, HERE, "other sources").rows
    assert chip_name("NVIDIA H100 80GB HBM3") == "h100-80gb-hbm3"
    path.write_text('{"half')
    assert not results_at(path).rows


def test_the_digest_is_of_what_decides_the_figures(tmp_path: Path) -> None:
    for name in ("kernels/a.py", "conf/b.yaml", "docs/c.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("1")
    before = sources_digest(tmp_path)
    (tmp_path / "docs/c.py").write_text("2")
    (tmp_path / "kernels/notes.md").write_text("2")
    assert sources_digest(tmp_path) == before
    (tmp_path / "conf/b.yaml").write_text("2")
    assert sources_digest(tmp_path) != before


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_whole(path, "before")

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, "after")
    assert path.read_text() == "before"


def test_the_page_and_the_ratios(tmp_path: Path) -> None:
    results = results_at(tmp_path / "gpu-h200.json", power_limit=None)
    results.add(measured("attention/causal/64/2048", flash=3.0))
    results.add(measured("attention/causal/64/8192", flash=2.0, cudnn=1.5, flex=0.1))
    results.add(measured("attention/full/128/8192", flash=0.5))
    results.add(measured("attention/dropout/64/2048"))
    results.not_run = ["step/defaults"]
    found = ratios(results)
    said = "8,192 tokens on NVIDIA H200, commit abc, torch 2.11, triton 3.6, cudnn 9"
    assert found == {
        "sm_90": {
            "causal": {"64": {"triton_over_sdpa": 1.5, "source": f"measured: over cudnn at {said}"}},
            "plain": {"128": {"triton_over_sdpa": 0.5, "source": f"measured: over flash at {said}"}},
        }
    }
    text = page(results)
    assert "- power_limit: not stated" in text and "- not run: step/defaults" in text
    line = next(line for line in text.splitlines() if line.startswith("| attention/causal/64/8192 | cudnn"))
    assert "| 1500.000 | 2 | 1.50 | 1.0e-03, dq 2.0e-03 | 100, not stated | not stated |" in line
    results.write()
    assert json.loads(results.path.read_text())["rows"][0]["commit"] == "abc"


def test_measured_ratios_replace_those_of_the_same_chip_kind_and_head(tmp_path: Path) -> None:
    def entry(ratio: float) -> dict[str, Any]:
        return {"triton_over_sdpa": ratio, "source": "estimated: so"}

    table, results = tmp_path / "speed.json", tmp_path / "gpu-h200.json"
    table.write_text(
        as_text({"sm_90": {"plain": {"64": entry(1), "128": entry(2)}}, "sm_80": {"t5": {"64": entry(3)}}})
    )
    measured = {"sm_90": {"plain": {"128": entry(4)}, "t5": {"64": entry(5)}}}
    results.write_text(json.dumps({"ratios": measured}))
    assert adopt(results, table) == 2
    assert json.loads(table.read_text()) == {
        "sm_90": {"plain": {"64": entry(1), "128": entry(4)}, "t5": {"64": entry(5)}},
        "sm_80": {"t5": {"64": entry(3)}},
    }
    with pytest.raises(ValueError, match="must be results of the proof"):
        adopt(table, table)


# --- processes ---

STUB = """
import json, os, sys, time
until = float(sys.argv[sys.argv.index("--until") + 1])
names = sys.argv[sys.argv.index("--names") + 1:]
mode = sys.argv[sys.argv.index("--worker") + 1]
rows = int(os.environ["PROOF_ROWS"])
def report(line):
    os.write(rows, (json.dumps(line) + "\\n").encode())
with open(os.environ["STUB_LOG"], "a") as log:
    print(mode, *names, sep="|", file=log)
if "broken" in names:
    sys.exit(5)
for name in names:
    report({"begin": name})
    if mode == "measure":
        if "crash" in name:
            os.abort()
        if "hang" in name:
            time.sleep(60)
    report({"name": name, "part": "attention", "status": "measured", "seconds": 0.0})
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A worker without torch, in the place of scripts/bench/gpu.py; returns the file that names what it was asked."""
    entry = tmp_path / "stub.py"
    entry.write_text(STUB)
    monkeypatch.setattr(conductor, "ENTRY", entry)
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "asked"))
    return tmp_path / "asked"


def proof_of(tmp_path: Path, names: Sequence[str], stop: Callable[[], bool] = lambda: False) -> conductor.Proof:
    wanted = [Case(name, "attention", 0.2) for name in names]
    return conductor.Proof(results_at(tmp_path / "gpu-h200.json"), wanted, stop, processes=2, say=lambda line: None)


def test_a_proof_runs_once_what_it_has_not(stub: Path, tmp_path: Path) -> None:
    proof_of(tmp_path, ["a", "b", "c"]).run(60)
    assert sorted(stub.read_text().split()) == ["measure|a|b|c", "warm|a|c", "warm|b"]
    stub.unlink()
    proof_of(tmp_path, ["a", "b", "c"]).run(60)
    assert not stub.exists()
    proof_of(tmp_path, ["a", "d"]).run(60)
    assert stub.read_text().split() == ["warm|d", "measure|d"]
    held = json.loads((tmp_path / "gpu-h200.json").read_text())
    assert [row["name"] for row in held["rows"]] == ["a", "b", "c", "d"]


def test_a_crash_loses_its_case_only(stub: Path, tmp_path: Path) -> None:
    proof = proof_of(tmp_path, ["a", "crash", "b"])
    proof.run(60)
    assert stub.read_text().split()[-2:] == ["measure|a|crash|b", "measure|b"]
    assert {name: row["status"] for name, row in proof.results.rows.items()} == {
        "a": "measured", "crash": "failed", "b": "measured",
    }  # fmt: skip
    assert "exit code -6" in proof.results.rows["crash"]["why"]
    assert conductor.failures(proof.results) == ["crash"]


def test_a_process_that_cannot_begin_is_told_and_not_tried_again(stub: Path, tmp_path: Path) -> None:
    proof = proof_of(tmp_path, ["broken"])
    proof.run(60)
    assert stub.read_text().split() == ["warm|broken", "measure|broken"]
    assert proof.broken == ["attention"] and "before any case" in proof.results.parts["attention"]
    assert proof.results.not_run == ["broken"]


def test_what_hangs_is_stopped_and_named(stub: Path, tmp_path: Path) -> None:
    proof = proof_of(tmp_path, ["a", "hang", "b"])
    group = proof._group("measure", proof._tell, 0.1)  # 0.6 s
    assert group.run([["a", "hang", "b"]], time.monotonic() + 30) == "done"
    rows = json.loads(proof.results.path.read_text())["rows"]
    assert [(row["name"], row["status"]) for row in rows] == [("a", "measured"), ("hang", "stopped"), ("b", "measured")]


@pytest.mark.parametrize("how", ["the end of its time", "a signal"])
def test_what_is_known_is_written_when_it_ends_early(how: str, stub: Path, tmp_path: Path) -> None:
    def known() -> bool:
        return "a" in proof.results.rows

    proof = proof_of(tmp_path, ["a", "hang", "b"], lambda: how == "a signal" and known())
    if how == "the end of its time":
        proof.clock = lambda: 60.0 * known()
    proof.run(60.0)
    held = json.loads(proof.results.path.read_text())
    assert [row["name"] for row in held["rows"]] == ["a"] and held["not_run"] == ["hang", "b"]
    assert "- not run: hang" in proof.results.path.with_suffix(".md").read_text()
    assert ("interrupted" if how == "a signal" else "stopped at the end") in held["parts"]["attention"]


def test_no_process_outlives_the_group(tmp_path: Path) -> None:
    program = "import os, signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    program += f"open(r'{tmp_path}/pid', 'w').write(str(os.getpid())); time.sleep(60)"
    ready = tmp_path / "pid"

    def there() -> bool:
        return ready.exists() and ready.read_text() != ""

    group = Group(lambda n, s: [sys.executable, "-c", program], tmp_path / "log", {}, lambda n: 1e9, print, there)
    import proof.children as children

    grace, children.end.__defaults__ = children.end.__defaults__, (0.2,)
    try:
        assert group.run([["x"]], time.monotonic() + 30) == "interrupted"
    finally:
        children.end.__defaults__ = grace
    with pytest.raises(ProcessLookupError):
        os.kill(int(ready.read_text()), 0)


def test_signals_are_heard_and_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop = conductor.Stop()
        stop.listen()
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop() and stop.signal == signal.SIGTERM
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def rows_of_pytest(folder: Path, *words: str) -> dict[str, dict[str, Any]]:
    """What the plugin reports of folder/test_it.py, by the test's name."""
    here, there = os.pipe()
    paths = os.pathsep.join((str(ROOT / "scripts" / "bench"), str(folder)))
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment = {**outside, "PYTHONPATH": paths, "PROOF_DONE": str(folder / "done"), "PROOF_ROWS": str(there)}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "proof.pytest_rows", "-p", "no:cacheprovider", *words]
    subprocess.run([*command, "test_it.py"], cwd=folder, env=environment, pass_fds=(there,), capture_output=True)
    os.close(there)
    with os.fdopen(here) as pipe:
        return {row["name"].partition("::")[2]: row for row in map(json.loads, pipe)}


def test_tests_are_rows_as_they_end_and_those_that_passed_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_one(): pass\n"
        "def test_two(): assert 1 == 2, 'unequal'\n"
        "def test_three(): pytest.skip('needs more')\n"
        "def test_four(): raise RuntimeError('run again')\n"
    )
    (tmp_path / "done").write_text("test_it.py::test_four")
    rows = rows_of_pytest(tmp_path)
    assert {name: row["status"] for name, row in rows.items()} == {
        "test_one": "passed", "test_two": "failed", "test_three": "skipped",
    }  # fmt: skip
    assert "unequal" in rows["test_two"]["why"] and "needs more" in rows["test_three"]["why"]


def test_a_fault_that_stays_on_the_device_fails_its_own_test_only(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    (tmp_path / "torch.py").write_text(
        "class cuda:\n"
        "    fault = False\n"
        "    def is_initialized(): return True\n"
        "    def synchronize():\n"
        "        if cuda.fault: raise RuntimeError('CUDA error')\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import torch\n"
        "def test_one(): torch.cuda.synchronize()\n"
        "def test_two(): torch.cuda.fault = True; torch.cuda.synchronize()\n"
        "def test_three(): torch.cuda.synchronize()\n"
    )
    (tmp_path / "done").write_text("")
    rows = rows_of_pytest(tmp_path, "-p", "xdist", "-n", "1")
    assert {name: row["status"] for name, row in rows.items()} == {
        "test_one": "passed", "test_two": "failed", "test_three": "passed",
    }  # fmt: skip
    assert "CUDA error" in rows["test_two"]["why"]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="tiny shapes are for a CPU")
def test_a_signal_leaves_whole_files_and_the_next_proof_goes_on(tmp_path: Path) -> None:
    words = ["--smoke", "--minutes", "5", "--processes", "1", "--out", str(tmp_path), "--only", "norm/", "rotary"]
    command = [sys.executable, str(ROOT / "scripts" / "bench" / "gpu.py"), *words]
    file = tmp_path / "gpu-no-gpu.json"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 240
    while not (file.exists() and json.loads(file.read_text())["rows"]) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    held = json.loads(file.read_text())
    assert held["rows"] and held["not_run"] and not list(tmp_path.glob("*.new"))
    first = held["rows"][0]
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == 0
    held = json.loads(file.read_text())
    assert held["rows"][0] == first and held["not_run"] == []
    assert [row["name"] for row in held["rows"]] == ["norm/rms", "norm/layer", "norm/sum and rms", "rotary"]
