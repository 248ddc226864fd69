"""The trackers: who hears of a run's steps. Any number of them may be on."""

from __future__ import annotations

from typing import Any, ClassVar

from trainer.descriptions.registry import Description, Registry


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

    @classmethod
    def faults(cls) -> list[str]:
        if cls.off is None or cls.off[0] in cls.Keys.model_fields:
            return []
        return [f"its Keys have no {cls.off[0]!r}, which `off` says switches it off"]

    def takes_part(self, group: Any) -> bool:
        return self.off is None or getattr(group, self.off[0]) != self.off[1]


TRACKERS: Registry[TrackerDescription] = Registry("tracker", "trainer.descriptions.trackers", TrackerDescription)


def trackers_on(group: Any) -> list[TrackerDescription]:
    """The trackers that the values of the group `tracker` ask for. Those that are always on come first: what another
    one shows is in the run's folder by then."""
    return sorted((one for one in TRACKERS.values() if one.takes_part(group)), key=lambda one: one.off is not None)
