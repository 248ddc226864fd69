"""Groups of the configuration whose keys come from descriptions: of what a key chooses, or of all that take part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import ValidationInfo, create_model, model_validator

from trainer.descriptions.registry import Description, Registry
from trainer.utils.errors import UserError
from trainer.utils.schema import Section

# Context for `model_validate`: keys that nothing reads are taken too. For configurations that were written before.
UNREAD_TAKEN = {"unread_taken": True}


class Choosing(Section, defer_build=True):
    """A group with keys that choose: each names a description, whose keys join the group (`with_keys`).

    So do the keys of all descriptions in `ALL`, of which several may take part in a run.
    """

    CHOICES: ClassVar[Mapping[str, Registry[Any]]] = {}  # by the key that chooses
    ALL: ClassVar[Registry[Any] | None] = None

    def __getattr__(self, key: str) -> Any:
        """A group that was made before a plugin was loaded has the plugin's keys at their defaults.

        A type checker sees the group's own keys only, and takes those of what is chosen by this.
        """
        if (field := type(self).model_fields.get(key)) is not None:
            return field.default
        return super().__getattr__(key)  # type: ignore[misc]

    @property
    def chosen(self) -> list[Description]:
        """The descriptions that this group's values name; null chooses nothing."""
        named = {key: getattr(self, key) for key in self.CHOICES}
        return [self.CHOICES[key][name] for key, name in named.items() if name is not None]

    @property
    def taking_part(self) -> list[Description]:
        """Those that are chosen, and of those in `ALL` what the values ask for."""
        return [*self.chosen, *(one for one in (self.ALL or {}).values() if one.takes_part(self))]

    @property
    def unused_of_plugins(self) -> list[str]:
        """Keys that only plugins have, and that nothing which takes part reads; at their defaults."""
        read = {key for one in self.taking_part for key in one.Keys.model_fields}
        keys = [key for registry in _registries(type(self)) for key in registry.keys_added if key not in read]
        return [key for key in keys if getattr(self, key) == type(self).model_fields[key].default]

    @property
    def unread(self) -> dict[str, str]:
        """Keys with another value than their default that what is chosen does not read -> a line that says so."""
        found = {}
        for choice, registry in self.CHOICES.items():
            name = getattr(self, choice)
            read = registry[name].Keys.model_fields if name is not None else {}
            for key in registry.keys_read:
                if key not in read and getattr(self, key) != type(self).model_fields[key].default:
                    readers = registry.readers(key)
                    do = "do" if len(readers) > 1 else "does"
                    found[key] = f"{key}: {registry.chosen_by}={name} does not read it; {', '.join(readers)} {do}"
        return found

    @model_validator(mode="after")
    def _keys_are_read(self, info: ValidationInfo) -> Choosing:
        """A key that is given has an effect, and its value is one that what reads it can use."""
        wrong = [] if info.context == UNREAD_TAKEN else [*self.unread.values()]
        wrong += [
            line for description in [*self.chosen, *(self.ALL or {}).values()] for line in description.misfits(self)
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


Group = TypeVar("Group", bound=Choosing)


def with_keys(group: type[Group]) -> type[Group]:
    """The group with the keys of all descriptions it chooses from; what chooses takes their names only.

    Descriptions that are added later change the group in its place, and what holds it. Raises UserError where a
    description has a key of the group's own, and as the registries do.
    """
    made = _made(group)
    for registry in _registries(group):
        registry.changed.append(lambda: _renew(made, group))
    return made


def _registries(group: type[Choosing]) -> list[Registry[Any]]:
    return [*group.CHOICES.values(), *([] if group.ALL is None else [group.ALL])]


def _made(group: type[Group]) -> type[Group]:
    fields: dict[str, Any] = {}
    own = group.model_fields
    for registry in _registries(group):
        if taken := [key for key in registry.keys_read if key in fields or hasattr(group, key) or key in own]:
            readers = ", ".join(registry.readers(taken[0]))
            raise UserError(f"{registry.kind} {readers}: the key {taken[0]!r} is another key of the same group already")
        fields |= {name: (field.annotation, field) for name, field in registry.keys_read.items()}
    for choice, registry in group.CHOICES.items():
        names: Any = Literal[tuple(registry)]  # type: ignore[valid-type]
        fields[choice] = (names | None if own[choice].default is None else names, own[choice])
    return create_model(group.__name__, __base__=group, __doc__=group.__doc__, __module__=group.__module__, **fields)


def _renew(made: type[Choosing], group: type[Choosing]) -> None:
    """Give `made` the keys that the descriptions have by now. It stays the same class: others have imported it."""
    fields = dict(_made(group).model_fields)
    made.model_fields.clear()
    made.model_fields.update(fields)
    made.model_rebuild(force=True)
    for holder in _sections(Section):
        held = [field for field in holder.model_fields.values() if field.annotation is made]
        for field in held:
            field.default = made()
        if held:
            holder.model_rebuild(force=True)


def _sections(section: type[Section]) -> Iterator[type[Section]]:
    for one in section.__subclasses__():
        yield one
        yield from _sections(one)
