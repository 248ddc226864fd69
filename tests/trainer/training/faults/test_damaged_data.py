"""Whole runs whose prepared data are damaged: before the start, beside the training, and found only in the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ports import free_port
from trainer.cli.main import main
from trainer.compose import change, compose
from trainer.data import Prepared, prepare, verification
from trainer.data.verification import Verification
from trainer.run.start import ready
from trainer.run_folder import RunFolder
from trainer.trackers import read_events, read_metrics
from trainer.training.distributed import World
from trainer.training.faults.damaged_data import DataWatch
from trainer.utils.checkpoint_files import steps_in

ROOT = Path(__file__).resolve().parents[4]
LARGE = "verification.OPENED_BYTES = 0\n"  # as if every file were too large to be hashed at the start
PROGRAM = """
import os, sys
from pathlib import Path
from trainer import worker
from trainer.training import loop
from trainer.data import verification
from trainer.training.faults import damaged_data
"""
COMMAND = "from trainer.cli.main import main\nsys.exit(main(sys.argv[1:]))\n"
RANK = "worker.leave(worker.work(Path(sys.argv[1])))\n"
FLIP_AT_STEP_6 = """
verification.SCAN_SECONDS = 0.01
update, updates = loop.Engine.update, []
def flip_then(self, *settings):
    updates.append(settings)
    if len(updates) == 6 and self.world.is_first:
        file = Path(os.environ["VICTIM"])
        with open(file, "r+b") as opened:
            content = bytes(byte ^ 1 for byte in opened.read())
            opened.seek(0)
            opened.write(content)
    update(self, *settings)
loop.Engine.update = flip_then
"""
GATED = """
import time
damaged_data.FIRST_WORD_SECONDS = 0.0
digest = verification.Verification._digest
def gated(self, path):
    while not Path(os.environ["GATE"]).exists() and not self._closed.is_set():
        time.sleep(0.01)
    return digest(self, path)
verification.Verification._digest = gated
"""


@pytest.fixture(scope="module")
def undisturbed(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended well, on the cache that all tests share."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = isoflop(folder, "", "train", *tiny, "run.experiment=faults", "run.id=run", "evaluation.samples=8")
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "faults" / "run"


@pytest.fixture
def words(tiny: list[str], tmp_path: Path) -> list[str]:
    """Overrides of a run with a cache of its own."""
    own = [word for word in tiny if not word.startswith("run.cache=")]
    return [*own, f"run.cache={tmp_path / 'cache'}", "run.experiment=faults", "run.id=run", "evaluation.samples=8"]


@pytest.fixture
def prepared(words: list[str]) -> Prepared:
    return prepare(compose(words))


def environment(**variables: object) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **{name: str(value) for name, value in variables.items()}}


def isoflop(folder: Path, patches: str, *words: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """The command, with patches of the modules that PROGRAM imports."""
    program = [sys.executable, "-c", PROGRAM + patches + COMMAND, *words]
    return subprocess.run(
        program, cwd=folder, env=environment(**variables), capture_output=True, text=True, timeout=300
    )


def flip(file: Path, place: int) -> None:
    """One bit, in the middle of nowhere."""
    with open(file, "r+b") as opened:
        opened.seek(place)
        (byte,) = opened.read(1)
        opened.seek(place)
        opened.write(bytes([byte ^ 1]))


def names(run: Path) -> list[str]:
    return [event["name"] for event in read_events(run)]


def losses(run: Path) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in read_metrics(run) if record["kind"] == "step"}


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("isoflop: ")]


@pytest.mark.parametrize("opened_bytes", [verification.OPENED_BYTES, 0])
def test_a_shard_that_is_damaged_all_over_does_not_train(
    opened_bytes: int, words: list[str], prepared: Prepared, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """Hashed whole at the start, or sampled."""
    monkeypatch.setattr(verification, "OPENED_BYTES", opened_bytes)
    shard = prepared.folder / "train-00000.tokens"
    tokens = bytearray(shard.read_bytes())
    tokens[::2] = bytes(byte ^ 1 for byte in tokens[::2])
    shard.write_bytes(tokens)
    assert main(["train", *words, f"run.root={tmp_path / 'runs'}"]) == 2
    (line,) = lines(capsys.readouterr().err)
    assert line.startswith("isoflop: data: train-00000.tokens ")
    assert line.endswith(f"in {prepared.folder}; delete that folder and it is prepared again: rm -r {prepared.folder}")
    assert not (tmp_path / "runs").exists()


def test_one_bit_is_found_beside_the_training_and_nothing_is_kept_of_it(
    words: list[str], prepared: Prepared, tmp_path: Path
) -> None:
    flip(prepared.folder / "train-00000.tokens", 4097)
    done = isoflop(tmp_path, LARGE, "train", *words)
    run = tmp_path / "runs" / "faults" / "run"
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = lines(done.stderr)
    assert "train-00000.tokens does not match its sha256" in line and "a resume goes on from the beginning" in line
    (told,) = [event for event in read_events(run) if event["name"] == "damage"]
    assert told["data"]["file"] == "train-00000.tokens" and told["data"]["trusted_step"] == 0
    assert names(run)[-2:] == ["damage", "failed"] and "verified" not in names(run)
    (entry,) = map(json.loads, (tmp_path / "runs" / "ledger.jsonl").read_text().splitlines())
    assert entry["status"] == "failed"
    assert not list((run / "checkpoints").glob("step-*"))


def test_damage_in_mid_run_on_two_ranks_is_no_part_of_what_is_resumed(
    words: list[str], prepared: Prepared, undisturbed: Path, tmp_path: Path, capsys: Any
) -> None:
    """The shard changes at step 6, under both ranks. Resumed on a cache that is prepared anew the run has the losses
    of one that was never disturbed."""
    victim, run = prepared.folder / "train-00000.tokens", tmp_path / "runs" / "faults" / "run"
    ready([*words, f"run.root={tmp_path / 'runs'}"])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    place["VICTIM"] = victim
    program = [sys.executable, "-c", PROGRAM + FLIP_AT_STEP_6 + RANK, str(run)]
    ranks = [
        subprocess.Popen(
            program,
            cwd=tmp_path,
            env=environment(**place, RANK=rank, LOCAL_RANK=rank),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, 1], errors
    assert len(lines(errors[0])) == 1 and "train-00000.tokens does not match" in errors[0] and not lines(errors[1])
    (told,) = [event for event in read_events(run) if event["name"] == "damage"]
    trusted = told["data"]["trusted_step"]
    assert trusted <= 6 <= told["step"]
    aside = sorted(path.name for path in (run / "checkpoints").glob("untrusted-*"))
    assert told["data"]["set_aside"] == aside
    assert all(int(path.name[5:]) <= trusted for path in (run / "checkpoints").glob("step-*"))

    capsys.readouterr()
    assert main(["train", f"resume={run}"]) == 2
    assert "delete that folder" in capsys.readouterr().err
    shutil.rmtree(prepared.folder)
    again = isoflop(tmp_path, "", "train", f"resume={run}")
    assert again.returncode == 0, again.stderr
    ours, theirs = losses(run), losses(undisturbed)
    assert ours.keys() == theirs.keys() == set(range(1, 13))
    assert all(abs(ours[step] / theirs[step] - 1) < 1e-5 for step in ours)


def wait_for(ready: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_does_not_finish_before_all_is_hashed(words: list[str], prepared: Prepared, tmp_path: Path) -> None:
    run, gate, output = tmp_path / "runs" / "faults" / "run", tmp_path / "gate", tmp_path / "output.txt"
    program = [sys.executable, "-c", PROGRAM + GATED + COMMAND, "train", *words]
    with open(output, "w") as file:
        process = subprocess.Popen(
            program, cwd=tmp_path, env=environment(GATE=gate), stdout=file, stderr=file, text=True
        )
    try:
        wait_for(lambda: (run / "events.jsonl").exists() and "verifying" in names(run), process)
        assert not {"finished", "verified"} & set(names(run))
        assert max(losses(run)) == 12
        gate.touch()
        assert process.wait(timeout=120) == 0, output.read_text()
    finally:
        process.kill()
        process.wait()
    assert [name for name in names(run) if name in ("verified", "finished")] == ["verified", "finished"]


def test_who_is_asked_to_stop_does_not_wait(prepared: Prepared, tmp_path: Path, monkeypatch: Any) -> None:
    """The next attempt hashes again."""
    gate = threading.Event()
    monkeypatch.setattr(Verification, "_digest", lambda self, path: (gate.wait(60), "")[1])
    watch = DataWatch(prepared, World(0, 1, 0, torch.device("cpu")), tmp_path)
    told: list[str] = []
    reasons = iter([None, None, "SIGTERM"])
    reason = watch.wait(3, lambda: next(reasons), lambda name, *_, **__: told.append(name), lambda: None)
    assert (reason, told, watch.damaged) == ("SIGTERM", [], False)
    watch.close()
    gate.set()


@pytest.mark.parametrize(("trusted", "kept"), [(6, [4]), (0, []), (8, [4, 8])])
def test_checkpoints_after_the_trusted_step_are_set_aside(
    trusted: int, kept: list[int], prepared: Prepared, tmp_path: Path
) -> None:
    """Nothing goes on from them, and nothing is deleted."""
    checkpoints = tmp_path / "checkpoints"
    for step in (4, 8, 12):
        (checkpoints / f"step-{step:08d}").mkdir(parents=True)
    flip(prepared.folder / "train-00000.tokens", 4097)
    watch, told = DataWatch(prepared, World(0, 1, 0, torch.device("cpu")), tmp_path), []
    watch.begin(12, trusted)
    assert watch.wait(12, lambda: None, lambda *_, **__: None, lambda: None) is None and watch.damaged
    text = watch.conclude(12, checkpoints, lambda name, step, text, **data: told.append((name, step, data)))
    assert steps_in(checkpoints) == kept
    gone = [f"untrusted-step-{step:08d}" for step in (4, 8, 12) if step not in kept]
    assert sorted(path.name for path in checkpoints.glob("untrusted-*")) == gone
    assert text.endswith(f"a resume goes on from {f'step {kept[-1]}' if kept else 'the beginning'}")
    assert told[0][:2] == ("damage", 12) and told[0][2]["set_aside"] == gone


def test_eval_hashes_the_held_out_text_before_it_tells_a_number(
    undisturbed: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(verification, "OPENED_BYTES", 0)
    config = RunFolder(undisturbed).load_config()
    folder = prepare(config).folder.relative_to(config.run.cache)  # the cache has those of other tests too
    shutil.copytree(config.run.cache, tmp_path / "cache")
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    RunFolder(run).config.write_text(change(config, [f"run.cache={tmp_path / 'cache'}"]).to_yaml())
    flip(tmp_path / "cache" / folder / "held_out-00000.tokens", 1025)
    assert main(["eval", str(run)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "held_out-00000.tokens does not match its sha256" in err
    assert not (run / "evaluation.json").exists()
