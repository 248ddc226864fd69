"""JSON Schemas of the documents that other programs read: derived from the types that write them, and kept as files.

A schema has a version in its name. Within a version keys may be added, and readers pass over those that they do not
know; what is renamed, removed or means something else is the next version. A document that states no version is of
version 1.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from trainer.books.quantity import PriceTag, Quantity, Row
from trainer.meter.instrument import Description
from trainer.publish.document import Published, PublishedRun, PublishedTable, Total
from trainer.publish.energy_lines import CostComponent, CostEnd, CostOpen, EnergyOpen, EnergyReading
from trainer.publish.forms import Answer
from trainer.trackers.records import EvaluationRecord, Event, StepRecord
from trainer.utils.bounded import read_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).with_name("schemas")
VERSIONS = {"pricetag": 1, "ledger": 1, "event": 1, "metrics": 1, "energy": 1, "cost": 1, "published": 1}
TITLES = {
    "pricetag": "pricetag.json of a run, and plan.json: what it costs, planned and measured",
    "ledger": "one line of ledger.jsonl: what a run of the root was and took; the last line of a run counts",
    "event": "one line of events.jsonl: what happened to a run",
    "metrics": "one line of metrics.jsonl: an optimizer step, or an evaluation",
    "energy": "one line of energy-<host>.jsonl: what a process of a run reads of its devices",
    "cost": "one line of cost-<verb>-<time>-<process>.jsonl: what a command outside of a run's ranks took",
    "published": "published.json of isoflop publish",
}
_COMMENT = re.compile(r"^    (\w+): .*?  # (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class LedgerLine:
    """One run as the ledger keeps it; the line of a run that has just begun has no figures yet."""

    run: str  # <experiment>/<run id>
    experiment: str  # folder of the run under its root
    science_hash: str  # identity of the experiment
    status: str  # finished, stopped, failed, halted, interrupted, running or not started
    time: float | None  # of its last event, seconds since the epoch
    steps: int  # optimizer steps that stand
    project: str | None = None  # what the run is of
    numerics: str = "not stated"  # tag of its arithmetic
    replayed_steps: int = 0  # trained twice, after a restart
    held_out_bits_per_byte: float | None = None  # its best
    measured: dict[str, Any] = field(default_factory=dict)  # column of the price tag; null is not stated
    currency: str | None = None  # of cost.amount
    segments: dict[str, float] = field(default_factory=dict)  # joules by process; a copy brings them along
    init: dict[str, Any] = field(default_factory=dict)  # whose weights it began with
    branch: dict[str, Any] = field(default_factory=dict)  # whose state it branched from


def schema_text(name: str) -> str:
    """The schema of a kind of document, as it is packaged."""
    return read_text(FOLDER / file_name(name))


def file_name(name: str) -> str:
    return f"{name}-{VERSIONS[name]}.json"


def derived(name: str) -> dict[str, Any]:
    """The schema as the types say it now; a test holds the packaged file against it."""
    made = {
        "pricetag": _price_tag,
        "ledger": lambda: _of(LedgerLine),
        "event": lambda: _of(Event),
        "metrics": _metrics,
        "energy": lambda: _by_kind({"open": _of(EnergyOpen, Description), "reading": _of(EnergyReading)}),
        "cost": _cost,
        "published": _published,
    }[name]()
    head = {"$schema": DIALECT, "$id": f"urn:isoflop:{name}:{VERSIONS[name]}", "title": TITLES[name]}
    return {**head, **{word: value for word, value in made.items() if word != "title"}}


def text_of(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _of(kind: type, *parts: type) -> dict[str, Any]:
    """A schema of a typed structure; what its source says beside a key is the key's description."""
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    for one in (kind, *parts):
        where = schema if one is kind else schema["$defs"][one.__name__]
        for base in reversed(one.__mro__[:-1]):
            for key, said in _COMMENT.findall(inspect.getsource(base)):
                if key in where.get("properties", {}):
                    where["properties"][key]["description"] = said
    return _tidy(schema)


def _tidy(node: Any) -> Any:
    """Without pydantic's titles, and open to keys of later versions."""
    if isinstance(node, list):
        return [_tidy(one) for one in node]
    if not isinstance(node, dict):
        return node
    named = {name: _tidy(one) for name, one in node.items() if not (name == "title" and isinstance(one, str))}
    if named.get("additionalProperties") is False:
        del named["additionalProperties"]
    return named


def _price_tag() -> dict[str, Any]:
    schema = _of(PriceTag, Row, Quantity)
    column = {"type": "object", "description": "bare numbers, nested by the rows' keys; null is not stated"}
    null = {"type": "null"}
    times = {"type": "object", "additionalProperties": {"type": "number"}}
    schema["properties"] |= {
        "version": {"const": VERSIONS["pricetag"]},
        "planned": column,
        "measured": column,
        "equivalents": {
            "anyOf": [{"type": "object", "properties": {"source": {"type": "string"}, "times": times}}, null]
        },
    }
    schema["required"] = ["title", "planned", "measured", "rows", "notes"]
    return schema


def _metrics() -> dict[str, Any]:
    """A number that is not finite is written as null."""
    kinds = {"step": _of(StepRecord), "evaluation": _of(EvaluationRecord)}
    for schema in kinds.values():
        schema["properties"] = {name: _nullable(one) for name, one in schema["properties"].items()}
    return _by_kind(kinds)


def _cost() -> dict[str, Any]:
    first = _of(CostOpen, Description)
    first["properties"] |= {"cost": {"const": VERSIONS["cost"]}}
    first["required"] = [*first["required"], "cost"]
    return _by_kind({"open": first, "reading": _of(EnergyReading), "end": _of(CostEnd, CostComponent)})


def _by_kind(kinds: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """One of these, which each line says by its key `kind`."""
    parts: dict[str, Any] = {}
    for kind, schema in kinds.items():
        parts |= schema.pop("$defs", {})
        schema["properties"] = {"kind": {"const": kind}} | schema["properties"]
        schema["required"] = ["kind", *schema["required"]]
    return {"oneOf": list(kinds.values()), **({"$defs": parts} if parts else {})}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {"type": ["number", "null"]} if schema.get("type") == "number" else schema


def _published() -> dict[str, Any]:
    schema = _of(Published, PublishedRun, PublishedTable, Total)
    answer = _of(Answer)
    answer["properties"] |= {"form_title": {"type": "string"}, "form_date": {"type": "string"}}
    answer["required"] = [*answer["required"], "form_title", "form_date"]
    schema["$defs"]["Answer"] = answer
    schema["properties"]["fields"]["items"] = {"$ref": "#/$defs/Answer"}
    schema["properties"] |= {"version": {"const": VERSIONS["published"]}, "kind": {"const": "isoflop published"}}
    return schema
