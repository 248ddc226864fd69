"""Which plugins there are, and what they bring into the registries."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from trainer.plugins.modules import (
    distribution_of,
    forget,
    imported,
    module_at,
    place_of,
    said,
    source_hash,
    source_of,
)
from trainer.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from trainer.descriptions.registry import Description
    from trainer.plugins.kinds import Found

VARIABLE = "ISOFLOP_PLUGINS"  # places of named plugins with commas between them, for the processes of a command too
PREFIX = "isoflop."  # of groups of entry points


@dataclass(frozen=True)
class Plugin:
    """A module from outside the package, and what it brought."""

    module: str
    source: Path  # a file, or the folder of a package
    sha256: str
    descriptions: Found
    distribution: str | None = None  # that installed it
    version: str | None = None
    place: str | None = None  # by which it was named; null: its distribution declares it

    @property
    def classes(self) -> list[type[Description]]:
        return [one for _, one in self.descriptions]

    @property
    def brings(self) -> dict[str, list[str]]:
        """Kind -> names."""
        found: dict[str, list[str]] = {}
        for registry, one in self.descriptions:
            found.setdefault(registry.kind, []).append(one.name)
        return found


LOADED: dict[str, Plugin] = {}  # by module


def named_in(text: str) -> list[str]:
    """The words of `[a,b]` or `a,b`."""
    words = text.strip().removeprefix("[").removesuffix("]").split(",")
    return [word for word in (word.strip(" '\"") for word in words) if word]


def load(named: Iterable[str] = ()) -> None:
    """Load the plugins of installed distributions, those that ISOFLOP_PLUGINS names and those named here.

    Processes that this one starts find them too. Raises UserError where one cannot be imported or does not fit.
    """
    _load_installed()
    words = [*named_in(os.environ.get(VARIABLE, "")), *named]
    places = list(dict.fromkeys(map(place_of, words)))
    for place in places:
        _load_named(place)
    if places:
        os.environ[VARIABLE] = ",".join(places)


def named_again() -> list[str]:
    """The word by which another command names the plugins that this one was given, if any."""
    return [f"plugins=[{named}]"] if (named := os.environ.get(VARIABLE)) else []


@cache
def _load_installed() -> None:
    """By module, so that several entry points into one are one plugin."""
    points: dict[str, list[EntryPoint]] = {}
    declared = importlib.metadata.entry_points()
    for group in sorted(group for group in declared.groups if group.startswith(PREFIX)):
        for point in declared.select(group=group):
            points.setdefault(point.module, []).append(point)
    for its in points.values():
        _load_points(its)


def _load_points(points: Sequence[EntryPoint]) -> None:
    """What the entry points into one module lead to: a description, or all of the kind in the module."""
    from trainer.plugins.kinds import KINDS, descriptions_in

    dist = points[0].dist
    name, version = (dist.name, dist.version) if dist else (None, None)
    of = f"{points[0].module}, of the installed {name} {version}"
    module = imported(points[0].module, of, f"install {name} again, or uninstall it")
    found: Found = []
    for point in points:
        kind = point.group.removeprefix(PREFIX)
        if kind not in KINDS:
            raise UserError(
                f"{of}: no entry points {point.group!r}{nearest(kind, KINDS)}; there are {', '.join(KINDS)}"
            )
        if point.attr and not hasattr(module, point.attr):
            raise UserError(f"{of}: the entry point {point.name} names {point.attr}, which it does not have")
        values = [getattr(module, point.attr)] if point.attr else vars(module).values()
        its = [one for one in descriptions_in(values) if one[0] is KINDS[kind]]
        if not its:
            raise UserError(f"{of}: the entry point {point.name} leads to no description of {kind}")
        found += [one for one in its if one not in found]
    _bring(module, found, name, version)


def _load_named(place: str) -> None:
    from trainer.plugins.kinds import KINDS, descriptions_in

    before = {*sys.modules}
    module = module_at(place)
    there = LOADED.get(module.__name__)
    if there is not None and source_hash(there.source) != there.sha256:
        raise UserError(f"plugins: {there.source} changed since it was loaded; start Python again")
    if there is not None and there.place is not None:
        return
    found = descriptions_in(vars(module).values())
    if not found:
        forget(module.__name__, before)
        raise UserError(f"plugins: {place} brings nothing: it has no description of {', '.join(KINDS)}")
    if there is not None:
        name, version = there.distribution, there.version
    else:
        name, version = (None, None) if Path(place).is_absolute() else distribution_of(module.__name__)
    try:
        _bring(module, found, name, version, place)
    except UserError:
        forget(module.__name__, before)
        raise


def require_implementations(taking_part: Iterable[Description]) -> None:
    """Import what the descriptions of plugins among these name. Raises UserError where that cannot be done."""
    classes = {type(one) for one in taking_part}
    for plugin in LOADED.values():
        for registry, one in plugin.descriptions:
            if one not in classes:
                continue
            try:
                with redirect_stdout(sys.stderr):
                    registry.implementation(one.name)
            except UserError:
                raise
            except Exception as error:
                raise UserError(f"{registry.kind} {one.name}: {one.implementation} {said(error)}") from error


def _bring(
    module: ModuleType, found: Found, distribution: str | None, version: str | None, place: str | None = None
) -> None:
    """What another plugin brought already is not added twice."""
    from trainer.plugins.kinds import add

    there = {one for plugin in LOADED.values() for one in plugin.classes}
    try:
        add([(registry, one) for registry, one in found if one not in there])
    except UserError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise UserError(f"plugin {module.__name__}: {type(error).__name__}: {text}") from error
    source = source_of(module)
    LOADED[module.__name__] = Plugin(module.__name__, source, source_hash(source), found, distribution, version, place)
