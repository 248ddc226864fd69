"""What every section of the configuration is made of."""

from __future__ import annotations

import re
from typing import Annotated, Any

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


def plain_name(value: str) -> str:
    """What can be the name of a folder anywhere. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=,+-]{0,150}", value):
        raise ValueError(f"{value!r} is not a plain folder name (letters, digits and . _ = , + -)")
    return value


# C0, DEL, C1, the two line breaks of Unicode, and what is no text in UTF-8.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def folder_path(value: str) -> str:
    """What can be a folder and a word of a batch script. Raises ValueError."""
    if CONTROL.search(value):
        raise ValueError(f"{value!r} holds a line break or another control character; choose another folder")
    return value


Count = Annotated[int, BeforeValidator(_count)]
Paths = Annotated[tuple[str, ...], BeforeValidator(_paths)]


def key(default: Any, help: str, unit: str | None = None, **bounds: Any) -> Any:
    """One configuration key: its default, its sentence of help, its unit and its bounds."""
    return Field(default, description=help, json_schema_extra={"unit": unit} if unit else None, **bounds)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=(), allow_inf_nan=False)
