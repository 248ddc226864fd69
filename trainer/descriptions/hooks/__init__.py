"""The hooks: what observes a training from inside. Any number of them may be on; the package has none of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from trainer.descriptions.registry import Description, Registry


class HookDescription(Description):
    """Its implementation is called as `(config, run)` with the Config and the run's folder on every rank, and returns
    a `trainer.training.hooks.Hook`."""

    off: ClassVar[tuple[str, Any]]  # a key of its own, and its default, which leaves the hook out

    @classmethod
    def faults(cls) -> list[str]:
        name, value = cls.off
        if name not in cls.Keys.model_fields:
            return [f"its Keys have no {name!r}, which `off` says switches it off"]
        default = cls.Keys.model_fields[name].default
        return [] if default == value else [f"the default of {name!r} is {default!r}: a hook is off where nobody asks"]

    def takes_part(self, group: Any) -> bool:
        return bool(getattr(group, self.off[0]) != self.off[1])


HOOKS: Registry[HookDescription] = Registry("hook", "trainer.descriptions.hooks", HookDescription)


def hooks_on(group: Any) -> list[HookDescription]:
    """The hooks that the values of the group `hooks` ask for."""
    return [one for one in HOOKS.values() if one.takes_part(group)]
