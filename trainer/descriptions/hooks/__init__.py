"""The hooks: what observes a training from inside. Any number of them may be on; the package has none of its own."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.registry import Registry, Switched


class HookDescription(Switched):
    """Its implementation is called as `(config, run)` with the Config and the run's folder on every rank, and returns
    a `trainer.training.hooks.Hook`."""

    kind = "a hook"


HOOKS: Registry[HookDescription] = Registry("hook", "trainer.descriptions.hooks", HookDescription)


def hooks_on(group: Any) -> list[HookDescription]:
    """The hooks that the values of the group `hooks` ask for."""
    return [one for one in HOOKS.values() if one.takes_part(group)]
