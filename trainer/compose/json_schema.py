"""The typed configuration as a JSON Schema, so that an editor knows the keys of a file while it is written.

It says what stands in one file: types, bounds, choices, defaults, and that no other keys exist. What holds between keys
is checked when a configuration is composed. A file may say a part of everything, and leave a value to an interpolation.
"""

from __future__ import annotations

from typing import Any

from trainer.compose.sources import EXPERIMENT, groups
from trainer.config import Config, GridConfig, LadderConfig
from trainer.utils.errors import UserError, nearest
from trainer.utils.schema import INTRODUCED, KIND, Section, section_in

DIALECT = "https://json-schema.org/draft/2020-12/schema"
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
OMITTED = ("title", "required", INTRODUCED, KIND)
DEFAULTS, INTERPOLATION = "defaults", "interpolation"


def schemas() -> list[str]:
    """What `json_schema` takes: the groups that have files, and experiments."""
    return [*_sections(), EXPERIMENT]


def json_schema(group: str | None = None) -> dict[str, Any]:
    """Of a file of this group, such as conf/model/x.yaml; of an experiment; None: of the whole configuration.

    Raises UserError where there is no such group.
    """
    if group is not None and group not in schemas():
        raise UserError(f"schema: {group}: no such group{nearest(group, schemas())}; there is {', '.join(schemas())}")
    section = Config if group in (None, EXPERIMENT) else _sections()[str(group)]
    schema = _tidy(section.model_json_schema(mode="validation"))
    if section is Config:
        schema["description"] = "Keys of all groups." if group is None else "An experiment: overrides of all groups."
    definitions = schema.setdefault("$defs", {})
    for part in [schema, *definitions.values()]:
        if "properties" in part:
            part["properties"] = {name: _left_to_others(one) for name, one in part["properties"].items()}
    definitions |= {
        INTERPOLATION: {"type": "string", "pattern": r"\$\{"},
        DEFAULTS: _defaults_list(None if section is Config else group),
    }
    schema["properties"][DEFAULTS] = {"$ref": f"#/$defs/{DEFAULTS}"}
    return {"$schema": DIALECT, "title": f"isoflop: {group or 'configuration'}", **schema}


def _sections() -> dict[str, type[Section]]:
    found = {name: section_in(field.annotation) for name, field in Config.model_fields.items()}
    own = {name: section for name, section in found.items() if section is not None}
    return {**own, "ladder": LadderConfig, "grid": GridConfig}


def _tidy(node: dict[str, Any]) -> dict[str, Any]:
    """A schema of pydantic's with the words of the standard, and units where an editor shows them."""
    tidy: dict[str, Any] = {}
    for word, value in node.items():
        if word in OMITTED or (word == "default" and "$ref" in node):  # a group's keys say their own defaults
            continue
        if word in ("properties", "$defs"):
            value = {name: _tidy(one) for name, one in value.items()}
        elif isinstance(value, dict) and word != "default":
            value = _tidy(value)
        elif word in ("anyOf", "prefixItems"):
            value = [_tidy(one) for one in value]
        tidy[BOUNDS.get(word, word)] = value
    if "unit" in tidy:
        tidy["description"] = f"{tidy['description']} [{tidy.pop('unit')}]"
    return tidy


def _left_to_others(schema: dict[str, Any]) -> dict[str, Any]:
    """A key's schema that also takes `${another.key}`."""
    told: dict[str, Any] = {word: schema[word] for word in ("description", "default") if word in schema}
    rest = {word: value for word, value in schema.items() if word not in told}
    if rest == {"type": "string"} or "$ref" in rest:
        return schema
    kinds = rest["anyOf"] if list(rest) == ["anyOf"] else [rest]
    return {**told, "anyOf": [*kinds, {"$ref": f"#/$defs/{INTERPOLATION}"}]}


def _defaults_list(group: str | None) -> dict[str, Any]:
    """What a file begins with: other files of its group, or `override /group: option` in one of all groups."""
    options, chosen = groups(), {"type": ["string", "array", "null"]}
    choice: dict[str, Any] = {
        "type": "object",
        "patternProperties": {rf"^((optional|override) )*/?({'|'.join(options)})(@\S+)?$": chosen},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    beside = ["_self_"]
    if group is None:  # an editor offers these; files of one's own may be others
        offered = {name: {"anyOf": [{"enum": names}, chosen]} for name, names in options.items()}
        choice["properties"] = {name: one for group, one in offered.items() for name in (group, f"override /{group}")}
    else:
        beside += options.get(group, [])
    return {
        "description": "files that this one begins with; what follows says what differs",
        "type": "array",
        "items": {"anyOf": [{"enum": beside}, {"type": "string"}, choice]},
    }
