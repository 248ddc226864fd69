"""Options of the group `tracker` for which there is no file: trackers, also of plugins, that one truth switches on.

So a list of trackers is a list of names, `tracker=[wandb,tensorboard,mine]`, whoever brought them.
"""

from __future__ import annotations

from typing import Any

from trainer.descriptions.trackers import TRACKERS

TRACKER_GROUP = "tracker"
DEFAULT = "default"  # the option that every choice stands upon


def switched() -> dict[str, dict[str, Any]]:
    """By the name of a tracker: the key that switches it on."""
    found = {name: one.off for name, one in TRACKERS.items() if one.off is not None}
    return {name: {key: True} for name, (key, off) in found.items() if off is False}


def switched_on(path: str) -> dict[str, Any] | None:
    """The keys of `tracker/<name>`, if that is one of `switched`."""
    group, _, name = path.removesuffix(".yaml").partition("/")
    return switched().get(name) if group == TRACKER_GROUP else None


def upon_default(names: list[str]) -> list[str]:
    """The options that these come to: what several trackers share is said once, and by the default first."""
    return list(dict.fromkeys([DEFAULT, *names]))
