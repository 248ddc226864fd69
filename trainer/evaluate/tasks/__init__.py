"""Zero-, one- and few-shot tasks: the shipped suite, lm-eval's YAML files, and SuperGLUE's folders."""

from __future__ import annotations

from pathlib import Path

from trainer.config import DataConfig
from trainer.evaluate.suite import SUITE
from trainer.evaluate.tasks import superglue
from trainer.evaluate.tasks.harness import read_tasks
from trainer.evaluate.tasks.runner import Result, run_task
from trainer.evaluate.tasks.shipped import own_shots, shipped_names, shipped_task
from trainer.evaluate.tasks.task import Item, Metric, Task
from trainer.utils.errors import UserError, nearest

__all__ = ["Item", "Metric", "Result", "Task", "find_tasks", "own_shots", "run_task"]


def find_tasks(names: list[str], count: int, seed: int, data: DataConfig) -> list[Task]:
    """The tasks that these names mean: of the suite, `suite` for all of it, or a path to a task file or folder.

    count: items of each task of the suite. Raises UserError for a name that is neither, with the nearest one.
    """
    found: list[Task] = []
    for name in names:
        path = Path(name)
        if name == "suite":
            found += [shipped_task(one, count, seed, data) for one in shipped_names(data)]
        elif name in SUITE:
            found.append(shipped_task(name, count, seed, data))
        elif folders := superglue.folders(path):
            found += [superglue.read_task(folder) for folder in folders]
        elif path.exists():
            found += read_tasks(path)
        else:
            known = ["suite", *SUITE]
            hint = nearest(name, known)
            raise UserError(f"tasks: {name}: no such task or file{hint}; there is {', '.join(known)}, and task files")
    return found
