"""What a user can write: verbs with their flags and words, keys of the configuration, groups, exit codes, entry points.

One fact a line, sorted: `<kind> | <fact>`. What the program writes is in outputs.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from tests.golden.files import HERE, read_text
from tests.golden.product import (
    EXIT_CODES,
    MACHINERY,
    ROOT,
    SCIENCE,
    VERBS,
    Config,
    GridRoot,
    LadderRoot,
    kind_of_key,
    main,
)

FILE = HERE / "interface.txt"
OURS = ("trainer", "kernels", "launch")  # folders of the product's packages
PLACEHOLDERS = {"key", "name", "objective", "schema"}  # of help texts, before a `=` that is no word of the verb's own
# Words that no help text lists, and what to say to hear of them.
UNLISTED = (
    ("train", "resume="),
    ("train", "from="),
    ("train", "new_science=maybe"),
    ("train", "new_science=true"),
    ("data", "shwo"),
    ("completion", "fish"),
)


def said(*words: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    return code, out.getvalue(), err.getvalue()


def command() -> Iterator[str]:
    """Flags of the command itself."""
    code, out, _ = said("--version")
    yield f"flag | isoflop | --version | exit {code}: {len(out.splitlines())} lines, {out.split()[0]} <version>"


def verbs() -> Iterator[str]:
    for verb in VERBS:
        yield f"verb | {verb}"
        _, _, err = said(verb, "--no-such-flag")
        yield f"flags | {verb} | {err.strip().rpartition('there is ')[2]}"
        code, out, _ = said(verb, "--help")
        if code:  # completion has no help of its own
            continue
        own, _, keys = out.partition("\nScience (decides")
        if keys:
            yield f"help lists keys | {verb}"
        own = "\n".join(line for line in own.splitlines() if not re.match(r" +(ladder|grid)[.=]", line))
        found = re.findall(r"(?<![\w.])([a-z_]+(?:\.<name>)?)=(?=\S)", own)
        for word in {*found, *re.findall(r"--[a-z-]+", own)} - PLACEHOLDERS:
            yield f"word | {verb} | {word}"
        for line in own.splitlines():
            if line.startswith(f"isoflop {verb}"):
                yield f"usage | {verb} | {re.split(r': |   +', line)[0]}"
            elif verb == "price" and (name := re.match(r"  ([a-z_0-9]+)  ", line)):
                yield f"word | price | {name[1]}"
    for verb, word in UNLISTED:
        code, _, err = said(verb, word)
        yield f"unlisted word | {verb} | {word} | exit {code}: {err.splitlines()[0]}"


def exit_codes() -> Iterator[str]:
    for name, code in EXIT_CODES.items():
        yield f"exit code | {code} | {name}"
    with mock.patch.dict(VERBS, {"wait": mock.Mock(side_effect=KeyboardInterrupt)}):
        yield f"exit code | {said('wait')[0]} | interrupted outside of a run"
    yield f"exit code | {said('train', 'no_such_key=1')[0]} | a key that is unknown"
    yield f"exit code | {said('no-such-verb')[0]} | a verb that is unknown"


def kind_of(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON schema as a few words: `integer >= 1 or null`."""
    if "$ref" in schema:
        return kind_of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        kinds = [kind_of(one, definitions) for one in schema["anyOf"]]
        return " ".join([" or ".join(kinds), *bounds_of(schema)])
    if "enum" in schema or "const" in schema:
        return " | ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        items = [kind_of(one, definitions) for one in schema.get("prefixItems", [schema.get("items", {})])]
        return f"list of {', '.join(items)}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"map to {kind_of(inner, definitions)}" if isinstance(inner, dict) else "section"
    return " ".join([str(schema.get("type", "anything")), *bounds_of(schema)])


def bounds_of(schema: dict[str, Any]) -> list[str]:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    return [f"{sign} {schema[name]:g}" for name, sign in signs.items() if name in schema]


def section_in(field: dict[str, Any], definitions: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(how its members are written behind the key, schema) of the section that a key holds, itself or as the members of
    a list or a map; ("", {}) of a plain value."""
    inside = {"": field, "[]": field.get("items"), ".<name>": field.get("additionalProperties")}
    for number, one in enumerate(field.get("anyOf", [])):
        inside[f" {number}"] = one
    for where, inner in inside.items():
        if isinstance(inner, dict) and "$ref" in inner:
            return where.split(" ")[0], definitions[inner["$ref"].rpartition("/")[2]]
    return "", {}


def keys_of(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key; kind, default and unit) of every key, and of the members of lists and maps as `[]` and `<name>`."""
    for name, field in schema.get("properties", {}).items():
        where, section = section_in(field, definitions)
        if prefix or "properties" not in section:
            default = f" = {json.dumps(field['default'])}" if "default" in field else ""
            unit = f" [{field['unit']}]" if "unit" in field else ""
            yield prefix + name, f"{kind_of(field, definitions)}{default}{unit}"
        yield from keys_of(section, definitions, f"{prefix}{name}{where}.")


def keys() -> Iterator[str]:
    for root in (Config, LadderRoot, GridRoot):
        schema = root.model_json_schema(mode="serialization")  # what a key holds; a file may say it otherwise
        for name, kind in keys_of(schema, schema.get("$defs", {})):
            group = name.split(".")[0].split("[")[0]
            part = kind_of_key(name) if group in (*SCIENCE, *MACHINERY) else "many runs"
            yield f"key | {name} | {part} | {kind}"


def groups() -> Iterator[str]:
    text = "".join(said(verb, "--help")[1] for verb in ("train", "sweep", "grid"))
    for group, options in re.findall(r"^  ([a-z]+)=(\S+)", text, re.MULTILINE):
        for option in options.split("|"):
            yield f"option | {group}={option}"


def sources() -> list[Path]:
    return sorted(file for folder in OURS for file in (ROOT / folder).rglob("*.py"))


def environment_variables() -> Iterator[str]:
    for file in sources():
        for name in re.findall(r"\bISOFLOP_[A-Z_]+", file.read_text()):
            yield f"environment variable | {name}"


def entry_points() -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in project["scripts"]:
        yield f"entry point | {name}"
    for extra in project["optional-dependencies"]:
        yield f"extra | isoflop[{extra}]"
    for file in sources():
        if re.search(r'^if __name__ == "__main__":', file.read_text(), re.MULTILINE):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
            yield f"entry point | python -m {module}"


def build() -> list[str]:
    """Every fact, sorted."""
    parts = (command, verbs, exit_codes, keys, groups, environment_variables, entry_points)
    return sorted({" ".join(fact.split()) for part in parts for fact in part()})


def make(folder: Path) -> None:
    FILE.write_text("\n".join(build()) + "\n")


def golden() -> list[str]:
    """The fixture. The test fails where it is missing."""
    return read_text(FILE, "interface").splitlines()
