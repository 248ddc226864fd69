"""What a plugin can bring: the registries by the names of their groups of entry points."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from trainer.descriptions.activations import ACTIVATIONS
from trainer.descriptions.evaluations import EVALUATIONS
from trainer.descriptions.hooks import HOOKS
from trainer.descriptions.launchers import LAUNCHERS
from trainer.descriptions.norms import NORMS
from trainer.descriptions.objectives import OBJECTIVES
from trainer.descriptions.optimizers import OPTIMIZERS
from trainer.descriptions.readers import READERS, readers_by_suffix
from trainer.descriptions.registry import Description, Registry
from trainer.descriptions.rewards import REWARDS
from trainer.descriptions.schedules import SCHEDULES
from trainer.descriptions.tasks import TASKS
from trainer.descriptions.trackers import TRACKERS
from trainer.utils.errors import UserError
from trainer.utils.schema import INTRODUCED

KINDS: dict[str, Registry[Any]] = {
    "objectives": OBJECTIVES,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "activations": ACTIVATIONS,
    "norms": NORMS,
    "trackers": TRACKERS,
    "hooks": HOOKS,
    "evaluations": EVALUATIONS,
    "readers": READERS,
    "tasks": TASKS,
    "rewards": REWARDS,
    "launchers": LAUNCHERS,
}

Found = list[tuple[Registry[Any], type[Description]]]


def descriptions_in(values: Iterable[Any]) -> Found:
    """The descriptions among these values, each with its registry; ours and those that begin with _ are none."""
    return [
        (registry, one)
        for one in dict.fromkeys(value for value in values if isinstance(value, type))
        for registry in KINDS.values()
        if issubclass(one, registry.base) and not _is_ours(one) and not one.__name__.startswith("_")
    ]


def _is_ours(one: type) -> bool:
    return one.__module__.partition(".")[0] == "trainer"


def add(found: Found) -> None:
    """Add descriptions to their registries: all, or none. Raises UserError where they do not fit."""
    done: Found = []
    try:
        for registry in KINDS.values():
            new = [one for its, one in found if its is registry]
            if not new:
                continue
            for one in new:
                _mark_introduced(registry, one)
            registry.add(new)
            done += [(registry, one) for one in new]
        readers_by_suffix()
    except Exception:
        remove(done)
        raise


def remove(found: Found) -> None:
    """Take descriptions back that `add` added."""
    for registry in {id(registry): registry for registry, _ in found}.values():
        registry.remove(one for its, one in found if its is registry)


def _mark_introduced(registry: Registry[Any], one: type[Description]) -> None:
    """A key of a plugin counts as introduced with its default: runs without it are what they were."""
    try:
        defaults = one.Keys().model_dump(mode="json")
    except ValidationError as error:
        wrong = "; ".join(f"the key {error['loc'][0]!r}: {error['msg']}" for error in error.errors())
        raise UserError(f"{one.__module__}.{one.__qualname__}: {wrong}; every key has a default") from None
    own = {name for its in registry.own for name in its.Keys.model_fields}
    for name, field in one.Keys.model_fields.items():
        if name not in own:
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            field.json_schema_extra = {INTRODUCED: defaults[name], **extra}
