"""A run that is stopped, killed or moved goes on as if nothing had happened."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.training.half_way import half_way
from tests.trainer.training.layout_probe import trained_together
from trainer.trackers import read_events, read_metrics
from trainer.training.checkpoint import latest_valid_checkpoint
from trainer.training.distributed import World

STEPS = 12


def losses(run: Path) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in read_metrics(run) if record["kind"] == "step"}


def weights(run: Path, step: int = STEPS) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {name: tensor for file in folder.glob("model*.safetensors") for name, tensor in load_file(file).items()}


def assert_same_bits(run: Path, other: Path) -> None:
    assert losses(run) == losses(other)
    ours, theirs = weights(run), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def assert_same_curve(run: Path, other: Path) -> None:
    ours, theirs = losses(run), losses(other)
    assert ours.keys() == theirs.keys() == set(range(1, STEPS + 1))
    worst = max(abs(ours[step] / theirs[step] - 1) for step in ours)
    assert worst < 1e-5, f"loss differs by {worst:.1e} relative"


@pytest.fixture(scope="module")
def tiny(tiny: list[str]) -> list[str]:
    """Under muP parameters learn at different rates: every layout and every resume must keep them apart."""
    return [*tiny, "model.mup_base_width=16"]


@pytest.fixture(scope="module")
def undisturbed(tiny: list[str], command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One rank, ZeRO 0, from step 1 to the end, checkpoints every 4 steps."""
    folder = tmp_path_factory.mktemp("undisturbed")
    result = command(folder)("train", *tiny, "run.id=whole")
    assert result.returncode == 0, result.stderr
    return folder / "runs" / "llama-mini-causal-text" / "whole"


def test_same_layout_is_bit_equal_after_kill_9(undisturbed: Path, isoflop: Any, tiny: list[str]) -> None:
    chance = random.Random(int(os.environ.get("ISOFLOP_TEST_SEED", "7")))
    words = ["train", *tiny, "run.id=killed"]
    run = isoflop.folder / "runs" / "llama-mini-causal-text" / "killed"
    for step in sorted(chance.sample(range(1, STEPS), 2)):  # twice in the life of one run
        isoflop.kill_when(lambda text, step=step: f"step {step}/" in text, *words)
    result = isoflop(*words)
    assert result.returncode == 0, result.stderr
    assert_same_bits(run, undisturbed)


LAYOUTS = [
    ("launch.processes=2", "engine.zero_stage=0"),
    ("launch.processes=2", "engine.zero_stage=1"),
    ("launch.processes=3", "engine.zero_stage=2"),
    ("launch.processes=3", "engine.zero_stage=3"),
    ("engine.zero_stage=3", "engine.micro_batch=5"),
    ("engine.zero_stage=2", "engine.offload_optimizer=true", "engine.micro_batch=4"),
]


@pytest.fixture(scope="module")
def moved(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    """That run as it was after step 4, gone on in every layout, in processes that imported once."""
    folder = tmp_path_factory.mktemp("moved")
    shutil.copytree(undisturbed, folder / "whole")
    runs = [half_way(folder / "whole", f"run-{number}", after=4) for number in range(len(LAYOUTS))]
    trained_together(folder, [[f"resume={run}", *layout] for run, layout in zip(runs, LAYOUTS, strict=True)])
    return dict(zip(LAYOUTS, runs, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: "-".join(word.split("=")[1] for word in layout))
def test_any_layout_goes_on_with_the_same_curve(
    layout: tuple[str, ...], undisturbed: Path, moved: dict[tuple[str, ...], Path]
) -> None:
    run = moved[layout]
    assert [event["step"] for event in read_events(run) if event["name"] == "resume"] == [4]
    assert_same_curve(run, undisturbed)
    moved_weights, whole = weights(run), weights(undisturbed)
    for name, tensor in whole.items():
        torch.testing.assert_close(moved_weights[name], tensor, rtol=1e-3, atol=2e-5)


def test_from_three_ranks_at_stage_3_back_to_one(undisturbed: Path, isoflop: Any, tiny: list[str]) -> None:
    """What many ranks wrote, one rank reads; and the layout that divides nothing evenly is the hardest to write."""
    first = isoflop("train", *tiny, "run.id=moved", "launch.processes=3", "engine.zero_stage=3")
    assert first.returncode == 0, first.stderr
    run = isoflop.folder / "runs" / "llama-mini-causal-text" / "moved"
    for step in (8, 12):
        shutil.rmtree(run / "checkpoints" / f"step-{step:08d}")
    second = isoflop("train", f"resume={run}", "launch.processes=1", "engine.zero_stage=0")
    assert second.returncode == 0, second.stderr
    assert_same_curve(run, undisturbed)


def test_term_saves_and_exits_75_then_the_printed_line_goes_on(
    undisturbed: Path, isoflop: Any, tiny: list[str], corpus: Path
) -> None:
    """It is run in a new shell and another folder, of a run whose root has a space and a quote in its name and whose
    text is named from the folder where it was started."""
    text = f"data.path={os.path.relpath(corpus, isoflop.folder)}"
    words = isoflop.arguments(
        "train", *tiny, text, "run.id=stopped", "checkpoint.every_steps=null", """run.root="it's mine\""""
    )
    process = subprocess.Popen(words, cwd=isoflop.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 3/"):
            process.send_signal(signal.SIGTERM)
            break
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    (printed,) = re.findall("go on with: (.*)", err)
    shell = ["env", "-i", f"HOME={isoflop.folder}", "PATH=/usr/bin:/bin", "/bin/sh", "-c", printed]
    result = subprocess.run(shell, cwd="/", capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert_same_bits(isoflop.folder / "it's mine" / "llama-mini-causal-text" / "stopped", undisturbed)


def test_kill_9_while_a_checkpoint_is_written(isoflop: Any, tiny: list[str]) -> None:
    """A large model makes the write long enough to be hit; what was written aside is never taken for a checkpoint."""
    words = [
        "train",
        *tiny,
        "run.id=hit",
        "model.width=512",
        "model.depth=4",
        "budget.steps=4",
        "checkpoint.every_steps=2",
    ]
    words += ["evaluation.every_steps=null", "evaluation.samples=1"]
    run = isoflop.folder / "runs" / "llama-mini-causal-text" / "hit"
    aside = run / "checkpoints" / ".step-00000004.partial"
    isoflop.kill_when(lambda _: aside.exists(), *words)
    assert not (run / "checkpoints" / "step-00000004").exists()
    assert aside.exists()
    result = isoflop(*words)
    assert result.returncode == 0, result.stderr
    assert "going on from step-00000002" in result.stdout
    assert not aside.exists()
    assert sorted(losses(run)) == [1, 2, 3, 4]


def test_damage_is_named_and_the_checkpoint_before_it_used(undisturbed: Path, isoflop: Any) -> None:
    run = isoflop.folder / "run"
    shutil.copytree(undisturbed, run)
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    victim = run / "checkpoints" / "step-00000008" / "model.safetensors"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    result = isoflop("train", f"resume={run}")
    assert result.returncode == 0, result.stderr
    assert "checkpoint of step 8 is damaged (model.safetensors: its sha256 differs) and was not used" in result.stdout
    assert "going on from step-00000004" in result.stdout
    assert_same_bits(run, undisturbed)


def test_every_file_of_a_checkpoint_is_guarded(undisturbed: Path, tmp_path: Path) -> None:
    """A byte flipped at either end or in the middle, a byte missing, a file missing: named, and the one before used."""
    source = undisturbed / "checkpoints"
    world = World(0, 1, 0, torch.device("cpu"))

    def flip(place: int) -> Callable[[bytes], bytes]:
        return lambda content: content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    files = sorted(path.name for path in (source / "step-00000012").iterdir())
    assert files == ["manifest.json", "model.safetensors", "moments-00001-of-00001.safetensors"]
    for name in files:
        size = (source / "step-00000012" / name).stat().st_size
        harm: list[Callable[[bytes], bytes | None]] = [flip(0), flip(size // 2), flip(size - 1)]
        harm += [lambda content: content[:-1], lambda content: b"", lambda content: None]
        for number, damage in enumerate(harm):
            copy = tmp_path / f"{name}-{number}"
            shutil.copytree(source, copy)
            victim = copy / "step-00000012" / name
            damaged = damage(victim.read_bytes())
            victim.unlink() if damaged is None else victim.write_bytes(damaged)
            checkpoint, lines = latest_valid_checkpoint(copy, world)
            assert checkpoint is not None
            assert checkpoint.step == 8, (name, number)
            assert len(lines) == 1
            assert name in lines[0]
            shutil.rmtree(copy)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_full_disk_loses_nothing_but_the_steps_since_the_last_checkpoint(isoflop: Any, tiny: list[str]) -> None:
    disk = isoflop.folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this host does not let root mount a tmpfs")
    run, steps = disk / "llama-mini-causal-text" / "full", 60
    try:
        words = ["train", *tiny, f"run.root={disk}", "run.id=full", "checkpoint.every_steps=3", f"budget.steps={steps}"]
        with ThreadPoolExecutor() as beside:
            beside.submit(_fill, disk, run / "checkpoints" / "step-00000003")
            result = isoflop(*words)
        assert result.returncode == 1, result.stdout + result.stderr
        assert "could not be written (No space left on device); the last complete one: step" in result.stdout
        assert "Traceback" not in result.stderr
        kept = sorted(path.name for path in (run / "checkpoints").iterdir())
        assert kept and all(name.startswith("step-") for name in kept)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        again = isoflop(*words)
        assert again.returncode == 0, again.stderr
        assert f"going on from {kept[-1]}" in again.stdout
        assert sorted(losses(run)) == list(range(1, steps + 1))
    finally:
        subprocess.run(["umount", disk], check=True)


def _fill(disk: Path, checkpoint: Path) -> None:
    """Leave the disk room for less than another checkpoint, once this one is there."""
    deadline = time.monotonic() + 300
    while not checkpoint.is_dir() and time.monotonic() < deadline:
        time.sleep(0.005)
    now = os.statvfs(disk)
    size = (now.f_blocks - now.f_bfree) * now.f_frsize + (200 << 10)
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
