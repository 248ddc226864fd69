"""What earlier versions wrote means what it meant: the one place that knows their configurations.

`config.yaml` says its format. 1: version 0.1.0, which wrote none. 2: texts of encoders lay end to end. 3: this version.

A configuration is written whole, so a default that changes later moves no run that exists. Three things are left to do
when an older one is read: keys that were renamed get their new names, keys that did not exist get the value they were
introduced with (trainer/utils/schema.py), and what a format meant by a value is written out by its step below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.utils.errors import UserError
from trainer.utils.schema import Section, section_in

FORMAT = 3

# Old dotted key -> its name now. An old name is read for one release, here and on the command line.
RENAMED: dict[str, str] = {}


def _as_format_2(plain: dict[str, Any]) -> dict[str, Any]:
    """0.1.0 wrote the same keys with the same meaning, and no format."""
    return plain


def _as_format_3(plain: dict[str, Any]) -> dict[str, Any]:
    """`data.boundaries` was read by decoders alone: packed texts of all others lay end to end, whatever it said."""
    model, data, objective, task = (plain.get(group) for group in ("model", "data", "objective", "task"))
    if not (isinstance(model, dict) and isinstance(data, dict) and isinstance(objective, dict)):
        return plain  # the schema says what is wrong
    tunes = isinstance(task, dict) and task.get("kind") is not None
    pairs = objective.get("question") is not None or objective.get("name") == "unilm"
    if model.get("family") == "decoder" or data.get("packing") != "packed" or tunes or pairs:
        return plain
    return {**plain, "data": {**data, "boundaries": False}}


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _as_format_2, 2: _as_format_3}


def upgraded(plain: dict[str, Any], schema: type[Section]) -> dict[str, Any]:
    """The plain data of a frozen configuration of any earlier format, as this version would have written it.

    Raises UserError where a newer version wrote it.
    """
    plain = dict(plain)
    written = plain.pop("format", 1)
    plain.pop("numerics", None)  # what its keys came to where it was frozen, for readers of the file
    if type(written) is not int or written < 1:
        raise UserError(f"format {written!r} given, a whole number from 1 to {FORMAT} wanted")
    if written > FORMAT:
        raise UserError(f"format {written} was written by a newer isoflop, this one reads up to {FORMAT}; upgrade it")
    for number in range(written, FORMAT):
        plain = STEPS[number](plain)
    for old, new in RENAMED.items():
        _move(plain, old.split("."), new.split("."))
    return _completed(plain, schema)


def _move(plain: dict[str, Any], old: list[str], new: list[str]) -> None:
    """Give a value its new place; where both names are given the new one counts."""
    holder: Any = plain
    for name in old[:-1]:
        holder = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(holder, dict) or old[-1] not in holder:
        return
    value, target = holder.pop(old[-1]), plain
    for name in new[:-1]:
        target = target.setdefault(name, {})
    target.setdefault(new[-1], value)


def _completed(plain: dict[str, Any], schema: type[Section]) -> dict[str, Any]:
    """With every key that is newer than the configuration, in its sections too, lists and tables of them included."""
    full = {**schema.introduced(), **plain}
    for name, field in schema.model_fields.items():
        inner = section_in(field.annotation)
        if inner is None:
            continue
        whole = inner is field.annotation
        if whole and inner.introduced():  # the group itself may be newer
            full.setdefault(name, {})
        if name in full:
            full[name] = _completed_within(full[name], inner, whole=whole)
    return full


def _completed_within(value: Any, inner: type[Section], *, whole: bool) -> Any:
    """`whole`: the value is the section itself, not a list or a table of such."""
    if whole:
        return _completed(value, inner) if isinstance(value, dict) else value
    if isinstance(value, dict):
        return {name: _completed_within(part, inner, whole=True) for name, part in value.items()}
    if isinstance(value, list):
        return [_completed_within(part, inner, whole=True) for part in value]
    return value
