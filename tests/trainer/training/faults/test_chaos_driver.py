"""The driver that hits runs from outside: its plan, its eyes, its judgement, and a short campaign."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scripts.chaos_driver.__main__ import arguments, chosen
from scripts.chaos_driver.bench import is_intact
from scripts.chaos_driver.disks import damage
from scripts.chaos_driver.history import History, differences, read_history, repeated
from scripts.chaos_driver.phases import Watch
from scripts.chaos_driver.plan import KINDS, PHASES, RANKS, Fault, Layout, plan, targets
from scripts.chaos_driver.report import table
from scripts.chaos_driver.strike import Struck, codes
from trainer.training.checkpoint import open_checkpoint, save_weights
from trainer.utils.checkpoint_files import CorruptCheckpoint
from trainer.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[4]


def test_a_plan_is_a_function_of_its_seed_and_covers_everything() -> None:
    faults = plan(3, 100)
    assert faults == plan(3, 100)
    assert faults[:40] == plan(3, 40)
    assert faults != plan(4, 100)
    phases, kinds = Counter(fault.phase for fault in faults), Counter(fault.kind for fault in faults)
    assert set(phases) == set(PHASES)
    assert set(kinds) == set(KINDS)
    assert min(phases.values()) >= 3
    assert min(kinds.values()) >= 3
    killed = Counter(fault.target for fault in faults if fault.kind == "kill" and fault.phase in RANKS)
    assert set(killed) == {"launcher", "rank 0", "other rank", "all"}
    assert {fault.layout.processes for fault in faults} == {1, 2, 3}
    assert {fault.layout.zero_stage for fault in faults} == {0, 1, 2, 3}
    for fault in faults:
        assert fault.target in targets(fault.phase, fault.kind)
        assert fault.layout.processes >= 2 or fault.target not in ("rank 0", "other rank")
        assert fault.layout.zero_stage > 0 or not fault.layout.offload_optimizer
    assert {fault.phase for fault in plan(1, 9, phases=("saving", "report"), kinds=("kill",))} == {"saving", "report"}


def history() -> History:
    weights = {"a": torch.arange(1.0, 9.0), "b": torch.ones(3)}
    samples = {step: Counter({f"{step}-{row}": 1 for row in range(4)}) for step in (1, 2, 3)}
    return History({1: 3.0, 2: 2.5, 3: 2.0}, {1: 32, 2: 64, 3: 96}, {3: 2.2}, samples, weights)


def test_what_differs_is_told() -> None:
    same = history()
    rounded = replace(history(), losses={1: 3.0, 2: 2.5 * (1 + 1e-6), 3: 2.0})
    assert differences(rounded, same) == []
    assert repeated(same) == []
    wrong = {
        "losses: 1 missing, the first is 3": replace(same, losses={1: 3.0, 2: 2.5}),
        "losses: 1 too many, the first is 4": replace(same, losses={**same.losses, 4: 1.0}),
        "losses: 4.0e-05 apart at most, the first is 2": replace(same, losses={**same.losses, 2: 2.5001}),
        "losses: nan apart at most, the first is 2": replace(same, losses={**same.losses, 2: float("nan")}),
        "held_out: 4.5e-02 apart at most, the first is 3": replace(same, held_out={3: 2.1}),
        "tokens: others than in the undisturbed run, the first in step 2": replace(same, tokens={1: 32, 2: 65, 3: 96}),
        "samples: others than in the undisturbed run, the first in step 2": replace(
            same, samples={**same.samples, 2: same.samples[1]}
        ),
        "weights: inf apart at most, the first is b": replace(same, weights={**same.weights, "b": torch.ones(4)}),
        "weights: 1.0e-03 apart at most, the first is a": replace(
            same, weights={**same.weights, "a": same.weights["a"] * 1.001}
        ),
    }
    for line, other in wrong.items():
        assert differences(other, same) == [line]
    assert repeated(replace(same, samples={**same.samples, 2: same.samples[1]})) == [
        "samples: 4 were read more than once"
    ]


def test_the_newest_attempt_at_a_step_is_what_was_read(tmp_path: Path) -> None:
    run, reads = tmp_path / "run", tmp_path / "reads"
    reads.mkdir()
    (reads / "1-0.jsonl").write_text('{"step": 0, "rows": ["a", "b"]}\n{"step": 1, "rows": ["x"]}\n{"step": 2, "ro')
    (reads / "2-0.jsonl").write_text('{"step": 1, "rows": ["c"]}\n')
    (reads / "2-1.jsonl").write_text('{"step": 1, "rows": ["d"]}\n')
    save_weights(run / "checkpoints", {"w": torch.ones(2)}, {"best": {}})
    lines = [{"kind": "step", "step": step, "loss": 1.0, "tokens": 8} for step in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_history(run, reads)
    assert found.samples == {1: Counter("ab"), 2: Counter("cd")}
    assert found.losses == {1: 1.0, 2: 1.0}
    assert torch.equal(found.weights["w"], torch.ones(2))


@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
@pytest.mark.parametrize("where", [0.2, 0.9])
def test_a_damaged_checkpoint_is_no_longer_intact(how: str, where: float, tmp_path: Path) -> None:
    """The driver's own look at it agrees with the trainer's."""
    checkpoint = save_weights(tmp_path, {"w": torch.randn(64)}, {"best": {}})
    assert is_intact(checkpoint)
    open_checkpoint(checkpoint)
    damage(checkpoint, how, where)
    assert not is_intact(checkpoint)
    with pytest.raises(CorruptCheckpoint):
        open_checkpoint(checkpoint)


def test_phases_are_told_apart_by_what_a_run_writes(tmp_path: Path) -> None:
    run, cache, console = tmp_path / "run", tmp_path / "cache", tmp_path / "console"
    (cache / "tokens").mkdir(parents=True)
    (run / "checkpoints").mkdir(parents=True)
    (run / "events.jsonl").write_text('{"name": "finished"}\n')  # of an attempt before
    watch = Watch(run, cache, console, steps=4, evaluate_every=3)

    def add(file: Path, text: str) -> str:
        with open(file, "a") as opened:
            opened.write(f"{text}\n")
        return watch.phase()

    assert watch.phase() == "setup"
    assert add(console, "reading corpus ...") == "reading"
    assert add(console, "training tokenizer ...") == "tokenizer"
    assert add(console, "training tokenizer: done in 0.5 s") == "reading"
    assert add(cache / "tokens" / "key.lock", "") == "encoding"
    assert add(console, str(run)) == "loading"
    assert add(run / "events.jsonl", '{"name": "lost", "step": 1}') == "loading"  # of the attempt before
    assert add(run / "events.jsonl", '{"name": "resume", "step": 1}') == "steps"
    aside = run / "checkpoints" / ".step-00000002.partial"
    aside.mkdir()
    assert add(run / "metrics.jsonl", '{"kind": "step", "step": 2}') == "saving"
    assert add(run / "metrics.jsonl", '{"kind": "step", "step": 3}') == "evaluation"
    assert add(run / "metrics.jsonl", '{"kind": "evaluation", "step": 3}') == "saving"
    aside.rmdir()
    assert watch.phase() == "steps"
    assert add(run / "events.jsonl", '{"name": "finished"}') == "report"
    assert watch.made == [2, 3]


def fault(phase: str, kind: str, target: str) -> Fault:
    return Fault(1, phase, kind, target, 0.6, 0, Layout(2), False)


def test_how_an_attempt_may_end() -> None:
    assert codes(Struck(fault("steps", "kill", "launcher"), "steps")) == {-9}
    assert codes(Struck(fault("steps", "kill", "other rank"), "steps")) == {1}
    assert codes(Struck(fault("steps", "HUP", "group"), "saving")) == {75}
    assert codes(Struck(fault("setup", "TERM", "launcher"), "setup")) == {143}
    assert codes(Struck(fault("setup", "TERM", "launcher"), "setup", frozen=True)) == {75, 143}
    assert codes(Struck(fault("encoding", "disk", "cache"), "encoding")) == {1}


def test_the_table_counts_where_faults_really_struck() -> None:
    survived = Struck(fault("steps", "kill", "launcher"), "saving")
    broke = Struck(fault("saving", "kill", "launcher"), "saving", problems=["orphan"])
    missed = Struck(fault("saving", "INT", "launcher"), None)
    assert table([survived, broke, missed]).splitlines() == [
        "| phase  | kill | all |",
        "|--------|------|-----|",
        "| saving | 1/2  | 1/2 |",
        "| all    | 1/2  | 1/2 |",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "savin"], "--only: 'savin' is no phase and no kind"),
        (["--only", "setup,pause"], "--only: none of these kinds can strike in these phases"),
        (["--faults", "0"], "--faults: 0 given, 1 at least wanted"),
        (["--fault", "13"], "--fault: 13 is not one of the plan's 12"),
        (["--folder", "."], "--folder: . is there already"),
        (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["--sead", "1"], "--sead: no such argument"),
    ],
)
def test_bad_input_is_one_line(words: list[str], told: str) -> None:
    with pytest.raises(UserError) as error:
        chosen(arguments(words), disks=True)
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_run_survives_twelve_faults_from_outside(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    words = ["--seed", "1", "--faults", "12", "--folder", tmp_path / "chaos", "--json", told]
    done = subprocess.run([ROOT / "scripts" / "chaos", *words], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(told.read_text())
    assert {struck["fault"]["number"] for struck in found["faults"] if struck["hit"]} == set(range(1, 13))
    assert {struck["hit"] for struck in found["faults"]} >= set(PHASES)
    assert all(run["problems"] == [] for run in found["runs"])
