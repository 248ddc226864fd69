"""The room for checkpoints is compared with what a run writes, before it starts."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainer.books.layout import checkpoint_bytes
from trainer.cli.main import main
from trainer.config import CheckpointConfig, Config
from trainer.run.disk import checkpoints_at_once, require_room
from trainer.training.checkpoint import folder_of, prune, steps_in


def config_of(steps: int | None = 1000, **keep: object) -> Config:
    budget = {"steps": steps} if steps else {"steps": None, "hours": 1}
    return Config.model_validate({"budget": budget, "checkpoint": keep, "model": {"depth": 2, "width": 32}})


@pytest.mark.parametrize(
    "keep",
    [
        {"every_steps": 100},
        {"every_steps": 100, "keep_last": 1, "keep_best": False},
        {"every_steps": 100, "keep_last": 4, "keep_every": 300},
        {"every_steps": 400, "keep_every": 600, "keep_best": False},
        {"every_steps": None},
        {"every_steps": 999, "keep_last": 5},
    ],
)
def test_as_many_at_once_as_a_run_really_has(keep: dict[str, object], tmp_path: Path) -> None:
    """Against the folder itself: what `prune` leaves, and the next one beside it."""
    config = CheckpointConfig.model_validate(keep)
    saves = [*range(config.every_steps, 1000, config.every_steps), 1000] if config.every_steps else [1000]
    most = 0
    for step in saves:
        folder_of(tmp_path, step).mkdir()
        most = max(most, len(steps_in(tmp_path)))
        prune(tmp_path, config, step, saves[0])  # the first stays the best: it takes a place of its own
    assert checkpoints_at_once(config_of(**keep)) == most


def test_without_a_known_number_of_steps(tmp_path: Path) -> None:
    assert checkpoints_at_once(config_of(None, keep_last=3, keep_best=False)) == 4


@pytest.mark.parametrize(("share", "refused", "says"), [(0.9, True, ""), (1.1, False, "nearly full"), (99, False, "")])
def test_room(
    share: float,
    refused: bool,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = Config.model_validate({"model": {"depth": 8, "width": 1024}})
    needed = checkpoint_bytes(config) * checkpoints_at_once(config)
    disk = SimpleNamespace(f_bavail=int(needed * share), f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    if refused:
        with pytest.raises(
            ValueError, match=r"run\.root: .*checkpoint\.keep_last=1.*run\.root to another disk"
        ) as error:
            require_room(config, tmp_path / "runs/e/a")
        assert "\n" not in str(error.value)
        assert str(tmp_path) in str(error.value)
    else:
        require_room(config, tmp_path / "runs/e/a")
        told = capsys.readouterr().err
        assert told.count("\n") == bool(says)
        assert says in told


def test_checkpoints_that_are_there_already_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of()
    needed = checkpoint_bytes(config) * checkpoints_at_once(config)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=needed // 2, f_frsize=1))
    folder = folder_of(tmp_path / "checkpoints", 100)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(needed // 2 + 1))
    require_room(config, tmp_path)


def test_the_command_refuses(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=1000, f_frsize=1))
    assert main(["train", *tiny]) == 2
    assert capsys.readouterr().err.startswith("isoflop: run.root: ")
    assert not (tmp_path / "runs").exists()
