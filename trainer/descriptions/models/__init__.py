"""Families of published models: who published them, and what they were pre-trained with; a file for each kin.

What the presets are stands in conf/model, and what goes in and out of transformers in trainer/hub: here is only what
neither knows. `isoflop models` prints all of it together.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from trainer.descriptions.registry import importable


@dataclass(frozen=True)
class ModelFamily:
    """Models that one paper, or one release, describes.

    name: as its authors write it. paper: authors and year. presets: names of files in conf/model, with `*` for several.
    objectives: values of `objective=` that the paper trains with; others that train models of the kind work, too.
    lacks: what of the paper is not there, in a few words. types: of transformers (`model_type`) that are read
    as models of the family, beside those that its presets are written as.
    """

    name: str
    paper: str
    presets: tuple[str, ...]
    objectives: tuple[str, ...]
    lacks: str = ""
    types: tuple[str, ...] = ()

    def has(self, preset: str) -> bool:
        """Whether a preset is of this family."""
        return any(fnmatchcase(preset, pattern) for pattern in self.presets)


@cache
def model_families() -> tuple[ModelFamily, ...]:
    """All families: what the modules of this package name in `FAMILIES`, in the order of the modules' names."""
    modules = [importable(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__)]
    return tuple(family for module in modules for family in module.FAMILIES)


def families_of(preset: str, families: Iterable[ModelFamily] | None = None) -> list[ModelFamily]:
    """The families that claim a preset: one, where all is well."""
    return [one for one in families or model_families() if one.has(preset)]
