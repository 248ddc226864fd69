"""Zero- to few-shot tasks."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.evaluations import EvaluationDescription
from trainer.utils.schema import Count, Ids, Paths, key

LIMIT = 200


class Tasks(EvaluationDescription):
    """As `isoflop eval tasks=` asks them."""

    name = "tasks"
    help = "tasks, as isoflop eval asks them: bits per byte of the right answer, and accuracy"
    implementation = "trainer.evaluate.in_loop_tasks:Tasks"
    off = ("tasks", ())
    check = "trainer.evaluate.in_loop_tasks:check"
    flop = "trainer.evaluate.in_loop_tasks:flop"

    class Keys(EvaluationDescription.Keys):
        tasks: Paths = key(
            (),
            "tasks to ask during the run: names of the suite, files or folders in lm-eval's YAML, folders of SuperGLUE",
            introduced=[],
        )
        tasks_limit: Count = key(LIMIT, "items of each task at most", "items", ge=1, introduced=LIMIT)
        shots: Ids = key((), "examples in the context, one number or several; none: what each task says", introduced=[])

    def misfits(self, group: Any) -> list[str]:
        """What only tasks read is given with tasks; none is named twice."""
        wrong = []
        if not group.tasks:
            changed = {"tasks_limit": group.tasks_limit != LIMIT, "shots": bool(group.shots)}
            wrong += [f"{name}: only tasks read it; add evaluation.tasks=[...]" for name, it in changed.items() if it]
        for name, values in {"tasks": group.tasks, "shots": group.shots}.items():
            if twice := [one for number, one in enumerate(values) if one in values[:number]]:
                wrong.append(f"{name}: {twice[0]} is named twice")
        if "" in group.tasks:
            wrong.append("tasks: a name is empty; e.g. evaluation.tasks=[agreement,copy]")
        return wrong
