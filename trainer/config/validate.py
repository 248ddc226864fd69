"""Plain data against the schema: every error at once, each as a line for a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from trainer.config import Config
from trainer.utils.errors import UserError, nearest
from trainer.utils.schema import section_in

UNIONS = (Union, UnionType)
# pydantic's error -> what is wanted in its place, in words of a configuration file.
WANTED = {
    "dict_type": "{name: value}",
    "model_type": "{name: value}",
    "model_attributes_type": "{name: value}",
    "list_type": "a list",
    "tuple_type": "a list",
}
Schema = TypeVar("Schema", bound=BaseModel)


def keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Every key of the schema, dotted."""
    names = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += keys(kind, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def validate(
    plain: Mapping[str, Any],
    wrong: Iterable[str] = (),
    schema: type[Schema] = Config,  # type: ignore[assignment]
    rules: Callable[[Schema], list[str]] = lambda config: [],
    context: Mapping[str, Any] | None = None,
) -> Schema:
    """Check plain data against the schema, then by `rules`, which say a line for each thing that is wrong.
    `context` is pydantic's.

    Raises UserError with every wrong key, what was given, what is allowed.
    """
    lines = list(wrong)
    data = {name: dict(value) if isinstance(value, Mapping) else value for name, value in plain.items()}
    seen: set[str] = set()
    config: Schema | None = None
    while True:
        try:
            config = schema.model_validate(data, context=context)
            break
        except ValidationError as error:
            found = error.errors(include_url=False)
        fresh = [line for one in found for line in _explain(one, schema) if line not in lines]
        # Rules over several keys make no sense over values that were put back to their defaults.
        fresh = [line for line in fresh if not any(name in line for name in seen)]
        lines += fresh
        if not any(_put_back(data, one["loc"], seen) for one in found):
            break
    if config is not None:  # else what is wrong hides the rest
        lines += [line for line in rules(config) if not any(name in line for name in seen)]
    if lines or config is None:
        raise UserError("\n".join(dict.fromkeys(lines)))
    return config


def _put_back(data: dict[str, Any], loc: tuple[Any, ...], seen: set[str]) -> bool:
    """Remove the wrong value so that what else is wrong can be seen."""
    branch: Any = data
    path = [part for part in loc if isinstance(part, str)]
    depth = 0
    for part in path[:-1]:
        if not isinstance(branch, dict) or part not in branch or not isinstance(branch[part], dict):
            break
        branch, depth = branch[part], depth + 1
    name = path[depth] if depth < len(path) else None
    if name is None or not isinstance(branch, dict) or name not in branch:
        return False
    seen.add(".".join(path[: depth + 1]))
    del branch[name]
    return True


def _explain(error: Mapping[str, Any], schema: type[BaseModel]) -> list[str]:
    """A pydantic error as lines for a person."""
    loc = [str(part) for part in error["loc"] if not isinstance(part, int) and part != "[key]"]
    name = _dotted(error["loc"])
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    if kind == "value_error":
        text = str(context["error"])
        if loc in ([], ["budget"]):
            return text.splitlines()
        section = section_of(loc, schema)
        prefix = f"{name}." if section else f"{name}: "
        return [prefix + line for line in text.splitlines()]
    if kind == "extra_forbidden":
        parent = name.rpartition(".")[0]
        known, section = keys(schema), section_of(loc[:-1], schema)
        beside = [f"{parent}.{key}" for key in section.model_fields] if section else []
        allowed = beside if parent else [*schema.model_fields, *known]
        near = nearest(name, allowed) or nearest(loc[-1], [key.split(".")[-1] for key in known])
        return [f"{name}: no such key{near}"]
    units = _units(loc, schema)
    want = WANTED.get(kind) or error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    near = ""
    if kind == "literal_error":
        choices = [part.strip(" '") for part in context["expected"].replace(" or ", ",").split(",")]
        near = nearest(str(given), choices)
    return [f"{name}: {given!r} given, {want}{units} wanted{near}"]


def _dotted(loc: Iterable[str | int]) -> str:
    """The name of a place in a configuration; an entry of a list by its number from 0 on, as Hydra has it."""
    name = ""
    for part in loc:
        if isinstance(part, int):
            name += f"[{part}]"
        elif part != "[key]":
            name += f".{part}" if name else part
    return name


def section_of(loc: list[str], schema: type[BaseModel]) -> type[BaseModel] | None:
    """The section of the schema at these names, if they lead to one."""
    model: Any = schema
    table = False  # of sections, whose names are the user's
    for part in loc:
        if table:
            table = False
            continue
        field = getattr(model, "model_fields", {}).get(part)
        model = section_in(field.annotation) if field else None
        table = field is not None and get_origin(field.annotation) is dict
    return model


def is_text(key: str, schema: type[BaseModel] = Config, *, lists: bool = False) -> bool:
    """Whether the schema wants text for this dotted key, so that 3.10 and 12e4567 are no numbers there; with `lists`
    also where it wants a list of texts."""
    *path, name = key.split(".")
    section = section_of(path, schema) if path else None
    if section is not None:
        field = section.model_fields.get(name)
        return field is not None and _wants_text(field.annotation, lists)
    *path, table = path or [""]
    section = section_of(path, schema) if path else None
    field = section.model_fields.get(table) if section else None
    kind = get_args(field.annotation) if field and get_origin(field.annotation) is dict else ()
    return len(kind) == 2 and _wants_text(kind[1], lists)


def _wants_text(annotation: Any, lists: bool = False) -> bool:
    """Text, or nothing at all; not text beside numbers."""
    if get_origin(annotation) is Annotated:
        return _wants_text(get_args(annotation)[0], lists)
    if lists and get_origin(annotation) is tuple:
        return all(_wants_text(kind) for kind in get_args(annotation) if kind is not Ellipsis)
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return annotation is str or (bool(kinds) and get_origin(annotation) in UNIONS and all(map(_wants_text, kinds)))


def _units(loc: list[str], schema: type[BaseModel]) -> str:
    section = section_of(loc[:-1], schema) if len(loc) > 1 else schema
    field = section.model_fields.get(loc[-1]) if section and loc else None
    extra = field.json_schema_extra if field else None
    return f" [{extra['unit']}]" if isinstance(extra, dict) and extra.get("unit") else ""
