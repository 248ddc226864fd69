"""Descriptions of one kind by name, found in the files of a folder."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

from trainer.utils.errors import UserError, nearest
from trainer.utils.schema import Section


class Description:
    """What is known of a thing before its implementation is imported.

    A kind of thing derives a class from this, with the members that a description of the kind must have: annotations
    without a value. Its descriptions are classes derived from that one, each with a `name` of its own.
    """

    name: ClassVar[str]
    implementation: ClassVar[str]  # "module:attribute", imported on first use
    help: ClassVar[str]

    class Keys(Section, defer_build=True):
        """The configuration keys that this thing reads; those that several things read are inherited by all of them."""

    @classmethod
    def faults(cls) -> list[str]:
        """What is wrong with the description itself, beyond members that it lacks: a line for each."""
        return []

    def takes_part(self, group: Any) -> bool:
        """Of a kind of which all may take part in a run: whether the group's values ask for this one."""
        return any(getattr(group, name) != field.default for name, field in self.Keys.model_fields.items())

    def misfits(self, group: Any) -> list[str]:
        """What does not fit among the values of the group that chose this thing: `key: what is wrong`, one a line."""
        return []


class Switched(Description):
    """A thing that a key of its own switches on, and that is off where nobody asks."""

    kind: ClassVar[str]  # "a hook"
    off: ClassVar[tuple[str, Any]]  # a key of its own, and its default, which leaves the thing out

    @classmethod
    def faults(cls) -> list[str]:
        name, value = cls.off
        if name not in cls.Keys.model_fields:
            return [f"its Keys have no {name!r}, which `off` says switches it off"]
        default = cls.Keys.model_fields[name].default
        wrong = f"the default of {name!r} is {default!r}: {cls.kind} is off where nobody asks"
        return [] if default == value else [wrong]

    def takes_part(self, group: Any) -> bool:
        return bool(getattr(group, self.off[0]) != self.off[1])


D = TypeVar("D", bound=Description)


class Registry(Mapping[str, D], Generic[D]):
    """The descriptions of one kind, by name, in alphabetical order.

    `package` is scanned at the first question: every class of its modules that is derived from `base` and has a name.
    Reading it raises UserError, with a line for each thing that is wrong, where a description lacks a member, two have
    one name, or a key of two of them is not the same key. What comes from elsewhere is added to them (`add`), and is
    checked with them.
    """

    def __init__(self, kind: str, package: str, base: type[D], chosen_by: str | None = None) -> None:
        """chosen_by: the key or the group of the command line that chooses one; null: called as the kind."""
        self.kind, self.package, self.base, self.chosen_by = kind, package, base, chosen_by or kind
        self.changed: list[Callable[[], None]] = []  # called after an addition: what was made of the descriptions
        self._added: tuple[type[D], ...] = ()

    def __getitem__(self, name: str) -> D:
        """Raises UserError for a name that nothing of this kind has."""
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(self)
            raise UserError(f"{self.kind}: no {name!r}{nearest(name, self)}; there are {known}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def add(self, descriptions: Iterable[type[D]]) -> None:
        """Take descriptions from outside the package too.

        Raises UserError, and takes none of them, where they do not fit with those that are there.
        """
        before = self._added
        self._set_added((*before, *descriptions))
        try:
            list(self)
            for renew in self.changed:
                renew()
        except Exception:
            self._set_added(before)
            for renew in self.changed:
                renew()
            raise

    def remove(self, descriptions: Iterable[type[D]]) -> None:
        """Undo `add`."""
        gone = [*descriptions]
        self._set_added(tuple(one for one in self._added if one not in gone))
        for renew in self.changed:
            renew()

    def _set_added(self, descriptions: tuple[type[D], ...]) -> None:
        self._added = descriptions
        for cached in ("_by_name", "keys_read"):
            self.__dict__.pop(cached, None)

    def implementation(self, name: str, part: str = "implementation") -> Any:
        """What the description of this name says implements it, or a part of it that another member names.

        Raises UserError where that cannot be imported.
        """
        place = getattr(self[name], part)
        try:
            return imported(place)
        except (ImportError, AttributeError) as error:
            raise UserError(f"{self.kind} {name}: no {part} at {place} ({error})") from error

    def readers(self, key: str) -> list[str]:
        """Names of the things that read this configuration key."""
        return [name for name, description in self.items() if key in description.Keys.model_fields]

    @cached_property
    def keys_read(self) -> dict[str, Any]:
        """Field of every key that any description reads, by name, in the order of their first readers."""
        return {name: field for one in self.values() for name, field in one.Keys.model_fields.items()}

    @property
    def keys_added(self) -> list[str]:
        """Keys that only descriptions from outside the package read."""
        own = {key for one in self.own for key in one.Keys.model_fields}
        return [key for one in self._added for key in one.Keys.model_fields if key not in own]

    @cached_property
    def own(self) -> list[type[D]]:
        """The descriptions of the package, by name."""
        package = importlib.import_module(self.package)
        modules = [importable(f"{self.package}.{one.name}") for one in pkgutil.iter_modules(package.__path__)]
        found = [one for module in modules for one in vars(module).values() if self._describes(one, module)]
        return sorted(found, key=lambda one: (getattr(one, "name", ""), one.__module__))

    @cached_property
    def _by_name(self) -> dict[str, D]:
        found = [*self.own, *self._added]
        checks = (self._incomplete, self._misnamed, self._same_names, self._colliding_keys)
        if wrong := [line for check in checks for line in check(found)]:
            raise UserError("\n".join(wrong))
        if wrong := [f"{_place(one)}: {line}" for one in found for line in one.faults()]:
            raise UserError("\n".join(wrong))
        return {one.name: one() for one in sorted(found, key=lambda one: one.name)}

    def _describes(self, one: Any, module: ModuleType) -> bool:
        """Imported classes are not of this file; those that begin with _ are shared by several descriptions."""
        return (
            isinstance(one, type)
            and issubclass(one, self.base)
            and one.__module__ == module.__name__
            and not one.__name__.startswith("_")
        )

    def _incomplete(self, found: list[type[D]]) -> Iterator[str]:
        required = [name for one in reversed(self.base.__mro__) for name in inspect.get_annotations(one)]
        for one in found:
            if missing := [name for name in dict.fromkeys(required) if not hasattr(one, name)]:
                yield f"{_place(one)} lacks {', '.join(missing)}: every {self.kind} states it"

    def _misnamed(self, found: list[type[D]]) -> Iterator[str]:
        for one in found:
            name = getattr(one, "name", "none")
            if not (isinstance(name, str) and name.isidentifier()):
                yield f"{_place(one)}: its name is {name!r}, a word of letters, digits and _ wanted"

    def _same_names(self, found: list[type[D]]) -> Iterator[str]:
        first: dict[str, type[D]] = {}
        for one in found:
            name = getattr(one, "name", None)
            if name in first:
                yield f"{_place(one)}: {_place(first[name])} is the {self.kind} {name!r} already; choose another name"
            elif name is not None:
                first[name] = one

    def _colliding_keys(self, found: list[type[D]]) -> Iterator[str]:
        first: dict[str, type[D]] = {}
        for one in found:
            for key, field in one.Keys.model_fields.items():
                other = first.setdefault(key, one)
                if repr(other.Keys.model_fields[key]) != repr(field):
                    yield (
                        f"{_place(one)}: the key {key!r} is another one than that of {_place(other)}; "
                        "inherit it from there, or choose another name"
                    )


def imported(place: str) -> Any:
    """What "module:attribute" names. Raises ImportError and AttributeError."""
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def importable(name: str) -> ModuleType:
    """The module of this name. Raises UserError, in one line, for whatever its import raises."""
    try:
        return importlib.import_module(name)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} cannot be read: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _place(one: type[Description]) -> str:
    return f"{one.__module__}.{one.__qualname__}"
