"""What every section of the configuration is made of."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _count(value: Any) -> Any:
    """Accept 5e6, "5m" and "1.5b" where a whole number is wanted. Raises ValueError for other words."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([kmbt]?)\s*", value.lower())
        if not match:
            raise ValueError(f"{value!r} given; a whole number wanted, also with k, m, b or t behind it, as in 50m")
        value = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}[match[2]]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _paths(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _ids(value: Any) -> Any:
    return (value,) if isinstance(value, int) else tuple(value) if isinstance(value, list) else value


def _no_truth(value: Any) -> Any:
    """To Python, true is 1 and false is 0."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} given, a number wanted")
    return value


def plain_name(value: str) -> str:
    """What can be the name of a folder anywhere. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=,+-]{0,150}", value):
        raise ValueError(f"{value!r} is not a plain folder name (letters, digits and . _ = , + -)")
    return value


INTRODUCED, KIND = "introduced", "kind"
# C0, DEL, C1, the two line breaks of Unicode, and what is no text in UTF-8.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def folder_path(value: str) -> str:
    """What can be a folder and a word of a batch script. Raises ValueError."""
    if CONTROL.search(value):
        raise ValueError(f"{value!r} holds a line break or another control character; choose another folder")
    return value


# What a file may say for each is the input type: a JSON Schema is made of it (trainer/compose/json_schema.py).
COUNT_WORD = r"^\s*([0-9]*\.?[0-9]+([eE][0-9]+)?)\s*([kmbtKMBT]?)\s*$"
CountWord = Annotated[str, Field(pattern=COUNT_WORD)]
Count = Annotated[int, BeforeValidator(_count, json_schema_input_type=int | CountWord)]
NoTruth = BeforeValidator(_no_truth)  # for a choice of numbers: Annotated[Literal[0, 1], NoTruth]
Id = Annotated[int, Field(ge=0)]
Ids = Annotated[tuple[Id, ...], BeforeValidator(_ids, json_schema_input_type=int | list[int])]
Steps = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_ids, json_schema_input_type=int | list[int])
]
Paths = Annotated[tuple[str, ...], BeforeValidator(_paths, json_schema_input_type=str | list[str])]


def key(default: Any, help: str, unit: str | None = None, **bounds: Any) -> Any:
    """One configuration key: its default, its sentence of help, its unit and its bounds.

    `introduced=value` belongs to every key that is newer than 0.1.0: the value under which a run is what it was before
    the key existed. A configuration that was written then is read with it, whatever the default is by now, and the
    science hash leaves the key out while it has that value. `kind="numerics"` marks a key of a machinery group that
    changes arithmetic (trainer/config/numerics.py).
    """
    extra: dict[str, Any] = {"unit": unit} if unit else {}
    extra |= {name: bounds.pop(name) for name in (INTRODUCED, KIND) if name in bounds}
    return Field(default, description=help, json_schema_extra=extra or None, **bounds)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=(), allow_inf_nan=False)

    @classmethod
    def introduced(cls) -> dict[str, Any]:
        """The keys that are newer than 0.1.0, with the value that each was introduced with."""
        extras = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        return {n: extra[INTRODUCED] for n, extra in extras.items() if isinstance(extra, dict) and INTRODUCED in extra}

    @classmethod
    def numerics(cls) -> list[str]:
        """The keys that change arithmetic."""
        extras = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        return [name for name, extra in extras.items() if isinstance(extra, dict) and extra.get(KIND) == "numerics"]


def section_in(annotation: Any) -> type[Section] | None:
    """The section that a key holds, alone, in a list or in a table, or that may be missing."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)


def identity(section: Section) -> dict[str, Any]:
    """The section as plain data, without the keys that have the value they were introduced with.

    So is every section in it; one that is all new and has only such keys is left out.
    """
    before, plain = section.introduced(), section.model_dump(mode="json")
    kept = [name for name in plain if name not in before or plain[name] != before[name]]
    parts = {name: _identity(getattr(section, name), plain[name]) for name in kept}
    return {name: part for name, part in parts.items() if part is not NOTHING}


NOTHING = object()


def _identity(value: Any, plain: Any) -> Any:
    if isinstance(value, Section):
        return identity(value) or (NOTHING if value.introduced() else {})
    if isinstance(value, dict):
        return {name: _identity(value[name], part) for name, part in plain.items()}
    if isinstance(value, tuple):
        return [_identity(one, part) for one, part in zip(value, plain, strict=True)]
    return plain
