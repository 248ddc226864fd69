"""Fine-tuning as one call, for programs that tune many runs: a run and a task in, metrics out."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from trainer.descriptions.trackers import words_off
from trainer.run.child_process import apart
from trainer.run.start import ready
from trainer.run_folder import RunFolder
from trainer.utils.errors import UserError

UNINTERRUPTED = ("evaluation.every_steps=null", "checkpoint.every_steps=null")


def finetune(
    run: Path | str, task: str | None, *overrides: str, steps: int | None = None, seed: int | None = None
) -> dict[str, Any]:
    """Tune a run on a task, silently and in a process of its own; the result as `isoflop finetune --json` prints it:
    metrics, intervals, baselines, and the folder of the new run.

    task: an option of the group `task`; null: the overrides describe one, as on the command line. The checks before
    the run raise UserError; a run that fails raises RuntimeError.
    """
    words = [f"from={run}", *words_off(), *UNINTERRUPTED, *([] if task is None else [f"task={task}"])]
    words += [] if steps is None else [f"budget.steps={steps}"]
    words += [] if seed is None else [f"seed={seed}"]
    config, folder = ready([*words, *overrides], to_train=True)

    def work() -> int:
        from launch import run_local
        from trainer.evaluate.task_scores import score_task
        from trainer.report.ledger import append_ledger

        with contextlib.redirect_stdout(io.StringIO()):
            code = run_local(config, folder.path)
            append_ledger(folder.path)
        if code == 0:
            score_task(folder.path)
        return code

    code = apart(work)
    if code:
        raise RuntimeError(f"{folder.path}: tuning ended with exit code {code}")
    return task_result(folder)


def task_result(folder: RunFolder) -> dict[str, Any]:
    """What was scored last. Raises UserError where nothing was."""
    try:
        result: dict[str, Any] = json.loads((folder.path / "task.json").read_text())
    except (OSError, ValueError):
        raise UserError(f"{folder.path}: no scores of a task; isoflop eval {folder.path} makes them") from None
    return result
