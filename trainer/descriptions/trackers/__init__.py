"""The trackers: who hears of a run's steps. Any number of them may be on."""

from __future__ import annotations

from typing import Any, ClassVar

from trainer.descriptions.registry import Description, Registry
from trainer.utils.schema import Paths, key


class TrackerDescription(Description):
    """Its implementation is called as `(config, run, resumed_from)` with the Config, the run's folder and the step that
    the attempt goes on from, and returns a `trainer.trackers.Tracker`."""

    off: ClassVar[
        tuple[str, Any] | None
    ]  # the key of its own, and the value of it that switches it off; null: always on
    prints: ClassVar[bool] = False  # whether it tells the person at the terminal how the run goes
    check: ClassVar[str | None] = None  # "module:function", called with the Config before a run starts: UserError
    publish: ClassVar[str | None] = None  # "module:function", called with the RunData once its report is written
    # "module:function", called with the Config and that of the run which goes on, or None: the Config to freeze
    settle: ClassVar[str | None] = None
    notes: ClassVar[str | None] = None  # "module:function", called with the Config that is frozen: lines to print
    of_one_run: ClassVar[tuple[str, ...]] = ()  # own keys that name one run, and are not those of a run made from it
    # a module that it imports, and what pip installs to have it: asked for before a run starts
    library: ClassVar[tuple[str, str] | None] = None

    @classmethod
    def faults(cls) -> list[str]:
        if cls.off is None or cls.off[0] in cls.Keys.model_fields:
            return []
        return [f"its Keys have no {cls.off[0]!r}, which `off` says switches it off"]

    def takes_part(self, group: Any) -> bool:
        return self.off is None or getattr(group, self.off[0]) != self.off[1]


class _Naming(TrackerDescription):
    """A tracker under which runs have names, groups and words of their own."""

    class Keys(TrackerDescription.Keys):
        project: str | None = key(None, "project of W&B, experiment of MLflow; null: $WANDB_PROJECT, else isoflop")
        name: str | None = key(None, "name of the run in trackers; null: $WANDB_NAME, else the folder's")
        group: str | None = key(None, "group of the run in trackers; null: $WANDB_RUN_GROUP, else the experiment")
        job_type: str | None = key(None, "job type in trackers; null: $WANDB_JOB_TYPE")
        tags: Paths = key((), "tags in trackers; (): $WANDB_TAGS, with commas between them")
        notes: str | None = key(None, "notes in trackers; null: $WANDB_NOTES")


TRACKERS: Registry[TrackerDescription] = Registry("tracker", "trainer.descriptions.trackers", TrackerDescription)


def trackers_on(group: Any) -> list[TrackerDescription]:
    """The trackers that the values of the group `tracker` ask for. Those that are always on come first: what another
    one shows is in the run's folder by then."""
    return sorted((one for one in TRACKERS.values() if one.takes_part(group)), key=lambda one: one.off is not None)
