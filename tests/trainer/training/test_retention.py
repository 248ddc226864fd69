"""Which checkpoints stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import CheckpointConfig
from trainer.training.checkpoint import prune, remove_leftovers
from trainer.utils.checkpoint_files import folder_of, steps_in


@pytest.mark.parametrize(
    ("rules", "best", "kept"),
    [
        ({"keep_last": 2, "keep_best": False}, 10, [40, 50]),
        ({"keep_last": 1, "keep_best": True}, 20, [20, 50]),
        ({"keep_last": 1, "keep_best": True}, None, [50]),
        ({"keep_last": 1, "keep_best": False, "keep_every": 20}, None, [20, 40, 50]),
        ({"keep_last": 9}, None, [10, 20, 30, 40, 50]),
    ],
)
def test_the_newest_the_best_and_every_so_many_stay(
    rules: dict[str, int], best: int | None, kept: list[int], tmp_path: Path
) -> None:
    for step in (10, 20, 30, 40, 50):
        folder_of(tmp_path, step).mkdir()
    gone = prune(tmp_path, CheckpointConfig.model_validate(rules), 50, best)
    assert steps_in(tmp_path) == kept
    assert sorted([*gone, *kept]) == [10, 20, 30, 40, 50]


def test_a_damaged_checkpoint_that_the_run_went_back_before_takes_no_place(tmp_path: Path) -> None:
    for step in (10, 20, 25, 30):  # 30 is damaged; the run went on from 20 and was stopped at 25
        folder_of(tmp_path, step).mkdir()
    prune(tmp_path, CheckpointConfig(keep_last=1, keep_best=False), 25, None)
    assert steps_in(tmp_path) == [25, 30]


def test_what_a_killed_process_left_is_removed_and_never_counted(tmp_path: Path) -> None:
    folder_of(tmp_path, 10).mkdir()
    (tmp_path / ".step-00000020.partial").mkdir()
    assert steps_in(tmp_path) == [10]
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]
