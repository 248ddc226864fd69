"""The reference of all configuration keys, as pages of Markdown made from the typed schema.

A page a group, a heading a key: what it takes with its bounds, its unit, its default, its kind (science, numerics or
machinery), and the sentence that `isoflop train --help` prints. Nothing is written down twice: a key that is added to
the schema is on its page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from trainer.compose import groups
from trainer.compose.json_schema import BOUNDS
from trainer.compose.reading import read
from trainer.compose.site_table import GROUP as SITES
from trainer.compose.site_table import regions
from trainer.config import MACHINERY, SCIENCE, Config, GridConfig, LadderConfig
from trainer.config.choice import Choosing
from trainer.config.numerics import RAW_NUMERICS, kind
from trainer.utils.schema import COUNT_WORD, INTRODUCED, Section, section_in

FOLDER = "reference"
LISTS = {"ladder": LadderConfig, "grid": GridConfig}  # groups of their own verbs, not of one run
BOUND_WORDS = {"minimum": "at least {}", "exclusiveMinimum": "above {}", "maximum": "at most {}"}
BOUND_WORDS |= {"exclusiveMaximum": "below {}"}
TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true` or `false`",
    "null": "null",
}
KINDS = {
    "science": "decides the outcome, and is part of the science hash",
    "numerics": "arithmetic: changes the outcome within a spread, is a tag of the run and in no hash",
    "machinery": "decides speed, memory and price, and never the outcome",
    "many runs": "describes a list of runs",
}


@dataclass(frozen=True)
class Key:
    name: str  # dotted, `model.depth`
    field: FieldInfo
    takes: str  # in words, `whole number, at least 1`
    kind: str
    choices: Mapping[str, str]  # what it chooses from: name -> a sentence
    readers: tuple[str, ...]  # of a key that only some choices read: `optim.name=adamw`
    usual: Any  # what a run without words has


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown, of every group and of the index."""
    values = read([])  # the package's files alone, without a host's or a person's
    names = [*SCIENCE, *MACHINERY, *LISTS]
    keys = {name: list(keys_of(name, values)) for name in names}
    keys = {name: found for name, found in keys.items() if found}
    made = {f"{FOLDER}/{name}.md": _page(name, found) for name, found in keys.items()}
    return {f"{FOLDER}/index.md": _index(keys), **made}


def keys_of(group: str, values: Mapping[str, Any]) -> Iterator[Key]:
    """The keys of a group, those of sections within it after it."""
    section = section_of(group)
    if section is None:
        yield _key(group, Config.model_fields[group], Config.model_json_schema(), (), values)
        return
    yield from _keys(group, section, values)


def section_of(group: str) -> type[Section] | None:
    return LISTS.get(group) or section_in(Config.model_fields[group].annotation)


def _keys(prefix: str, section: type[Section], values: Mapping[str, Any]) -> Iterator[Key]:
    schema = section.model_json_schema(mode="validation")
    readers = _readers(section)
    for name, field in section.model_fields.items():
        inside = field.annotation
        if isinstance(inside, type) and issubclass(inside, Section):
            yield from _keys(f"{prefix}.{name}", inside, values)
            continue
        choices = section.CHOICES.get(name, {}) if issubclass(section, Choosing) else {}
        told = {one: description.help for one, description in choices.items()}
        yield _key(f"{prefix}.{name}", field, schema, readers.get(name, ()), values, told)
        for place, one in _tables(f"{prefix}.{name}", inside):
            yield from _keys(place, one, {})


def _tables(dotted: str, annotation: Any) -> Iterator[tuple[str, type[Section]]]:
    """Sections that a key holds in a list or by names of a person's, with how their keys are written."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield dotted, annotation
        return
    inside = {tuple: "[]", list: "[]", dict: ".<name>"}.get(get_origin(annotation), "")  # type: ignore[arg-type]
    found = {place: one for argument in get_args(annotation) for place, one in _tables(dotted + inside, argument)}
    yield from found.items()


def _key(
    dotted: str,
    field: FieldInfo,
    schema: Mapping[str, Any],
    readers: tuple[str, ...],
    values: Mapping[str, Any],
    choices: Mapping[str, str] | None = None,
) -> Key:
    name = dotted.rpartition(".")[2]
    takes = _takes(schema["properties"][name], schema.get("$defs", {}))
    counts = "many runs" if dotted.split(".")[0] in LISTS else kind(dotted)
    return Key(dotted, field, takes, counts, choices or {}, readers, _usual(dotted, field, values))


def _usual(dotted: str, field: FieldInfo, values: Mapping[str, Any]) -> Any:
    found: Any = values
    for part in dotted.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return field.default
        found = found[part]
    return found


def _readers(section: type[Section]) -> dict[str, tuple[str, ...]]:
    """Of keys that not everything reads: which choices do."""
    if not issubclass(section, Choosing):
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for choice, registry in section.CHOICES.items():
        for key in registry.keys_read:
            found[key] = tuple(f"{choice}={name}" for name in registry.readers(key))
    return found


def _takes(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a key takes, in words, of its part of a JSON Schema."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        properties = definitions[name].get("properties")
        return (
            "a table with " + ", ".join(f"`{one}`" for one in properties)
            if properties
            else _takes(definitions[name], definitions)
        )
    if "enum" in node or "const" in node:
        return ", ".join(f"`{_written(one)}`" for one in node.get("enum", [node.get("const")]))
    if "anyOf" in node:
        parts = [_takes(one, definitions) for one in node["anyOf"] if one.get("pattern") != COUNT_WORD]
        counted = " (also `50k`, `50m`, `1.5b`)" if len(parts) < len(node["anyOf"]) else ""
        return "; or ".join(dict.fromkeys(parts)) + counted
    if node.get("type") == "array":
        many = node.get("prefixItems")
        each = (
            ", ".join(_takes(one, definitions) for one in many) if many else _takes(node.get("items", {}), definitions)
        )
        return f"list of {each}"
    if node.get("type") == "object":
        inside = node.get("additionalProperties")
        return f"table of {_takes(inside, definitions)}" if isinstance(inside, Mapping) else "table"
    numbers = {BOUNDS.get(word, word): value for word, value in node.items()}
    bounds = [text.format(_number(numbers[word])) for word, text in BOUND_WORDS.items() if word in numbers]
    return ", ".join([TYPES.get(node.get("type", ""), "any value"), *bounds])


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _written(value: Any) -> str:
    """As a person writes it on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Section):
        value = value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_written(one)}" for name, one in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else repr(value) if value == "" else str(value)


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True) if not field.is_required() else None


def _page(group: str, keys: list[Key]) -> str:
    section = section_of(group)
    about = (section.__doc__ or "").split("\n")[0].strip() if section else str(Config.model_fields[group].description)
    first = keys[0].kind if group not in MACHINERY else "machinery"
    lines = [f"# {group}", "", about, "", f"*{first.capitalize()}*: {KINDS[first]}.", ""]
    for key in keys:
        lines += _entry(key, first)
    if (options := _options(group)) and options != ["default"]:
        listed = ", ".join(f"`{one}`" for one in options)
        lines += ["## Presets", "", f"`{group}=` one of these files of `conf/{group}`, or yours: {listed}.", ""]
    if group == "engine":
        raw = ", ".join(f"`{one}`" for one in RAW_NUMERICS)
        lines += [f"DeepSpeed's own keys under `engine.deepspeed` that are numerics: {raw}.", ""]
    return "\n".join(lines)


def _options(group: str) -> list[str]:
    found = groups().get(group, [])
    if group != SITES:
        return found
    return [*(one for one in found if one not in regions()), "<country>-<year>", "gcp-<region>-<year>"]


def _entry(key: Key, usual_kind: str) -> list[str]:
    extra = key.field.json_schema_extra
    extra = extra if isinstance(extra, dict) else {}
    default = _default(key.field)
    facts = [f"- takes: {_plain(key.takes)}"]
    facts += [f"- unit: {extra['unit']}"] if extra.get("unit") else []
    facts += [
        f"- default: `{_written(default)}`" if not key.field.is_required() else "- default: none, it has to be given"
    ]
    if key.usual != default and _written(key.usual) != _written(default):
        facts[-1] += f"; a run without words has `{_written(key.usual)}`"
    facts += [f"- kind: {key.kind}"] if key.kind != usual_kind else []
    if key.kind == "science" and INTRODUCED in extra and extra[INTRODUCED] != default:
        facts.append(f"- of runs that are older than the key: `{_written(extra[INTRODUCED])}`")
    facts += [f"- read by: {', '.join(f'`{one}`' for one in key.readers)}"] if key.readers else []
    choices = [f"    - `{name}`: {_plain(text)}" for name, text in key.choices.items()]
    facts += ["- choices:", *choices] if choices else []
    anchor = key.name.replace("[]", "").replace("<name>", "name")
    return [f"### {_escaped(key.name)} {{ #{anchor} }}", "", _plain(str(key.field.description or "")), "", *facts, ""]


def _plain(text: str) -> str:
    """Words of help as Markdown: what would be a mark there is none here."""
    parts = text.split("`")
    quoted = [part if index % 2 else _escaped(part) for index, part in enumerate(parts)]
    return "`".join(quoted)


def _escaped(text: str) -> str:
    for mark in "\\*_[]<":
        text = text.replace(mark, f"\\{mark}" if mark != "<" else "&lt;")
    return text


def _index(keys: Mapping[str, list[Key]]) -> str:
    count = sum(len(found) for found in keys.values())
    lines = [
        "# Every key",
        "",
        f"{count} keys in {len(keys)} groups, made from the typed schema of this version: what a key takes, with its "
        "bounds, its unit and its default. `isoflop train --help` prints the same beside the values that hold on your "
        "host, and `isoflop schema` gives it to an editor.",
        "",
        *(f"- **{name}**: {text}." for name, text in KINDS.items()),
        "",
        "| group | keys | kind | what it says |",
        "|---|---|---|---|",
    ]
    for group, found in keys.items():
        section = section_of(group)
        about = (section.__doc__ or "").split("\n")[0].strip() if section else str(found[0].field.description)
        kinds = ", ".join(dict.fromkeys(key.kind for key in found))
        lines.append(f"| [{group}]({group}.md) | {len(found)} | {kinds} | {_plain(about).replace('|', '&#124;')} |")
    return "\n".join([*lines, ""])
