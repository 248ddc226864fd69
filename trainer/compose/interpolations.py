"""How much `${...}` in a configuration comes to, counted before any of it is resolved: texts that double twenty times
are a million texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.utils.errors import UserError

MOST = 10_000  # values that interpolations bring, those that these name in turn included
NAMED = re.compile(r"\$\{\s*(?:[\w.]+:)?([^${}]*)\}")  # a key, or what a resolver is given


def check_interpolations(plain: Mapping[str, Any]) -> None:
    """Raises UserError where resolving this unresolved configuration would bring more than `MOST` values."""
    count = _Count(plain)
    for key, text in _leaves(plain):
        if count.of(key) > MOST:
            raise UserError(f"{key}: {text!r} brings more than {MOST:,} values through what it names")


class _Count:
    """Values that each key comes to; one in a circle counts once, whoever resolves it says that it is one."""

    def __init__(self, plain: Mapping[str, Any]) -> None:
        self.plain, self.known = plain, {"": MOST}

    def of(self, key: str) -> int:
        """Of a leaf itself and all that it names; of a group all that is in it."""
        if key not in self.known:
            self.known[key] = 1
            value: Any = self.plain
            for part in key.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if isinstance(value, Mapping):
                named = [f"{key}.{name}" for name in value]
            else:
                named = [one for text in _texts(value) for one in _named(key, text)]
            self.known[key] = min(1 + sum(map(self.of, named)), MOST + 1)
        return self.known[key]


def _named(key: str, text: str) -> Iterator[str]:
    """The dotted keys that a text names, relative ones as seen from its own."""
    for found in NAMED.findall(text):
        for word in found.split(","):
            name = word.strip().strip("'\"").replace("[", ".").replace("]", "")
            ups = len(name) - len(name.lstrip("."))
            if ups:
                name = ".".join([*key.split(".")[:-ups], name.lstrip(".")])
            if name:
                yield name


def _leaves(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values, where these may hold an interpolation."""
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif any("${" in text for text in _texts(value)):
            yield f"{prefix}{name}", value


def _texts(value: Any) -> Iterator[str]:
    """Every text of a value, those of lists included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
