"""The models there are, a row a family: who published them, their presets, and what of them goes in and out.

Presets are the files of conf/model, import and export are this package's tables; names and papers are described in
`trainer.descriptions.models`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from trainer.books.parameters import count
from trainer.compose import CONF
from trainer.config import TokenizerConfig
from trainer.config.model import ModelConfig
from trainer.descriptions.models import ModelFamily, families_of, model_families
from trainer.hub.exchange import type_of
from trainer.hub.heads import CLASSIFIERS, SPANS, TOKEN_CLASSIFIERS
from trainer.utils.errors import UserError

KINDS = {"decoder": "decoders", "encoder": "encoders", "encoder_decoder": "encoder-decoders"}
LENGTH = 512  # of learned positions, where a preset states none


@dataclass(frozen=True)
class ModelRow:
    """A family of models. presets: parameters by name, ascending. types, classes: of transformers, of its presets.

    tuned: classes of transformers of its tuned heads. checked: what is compared with transformers."""

    family: str
    kind: str
    paper: str
    presets: dict[str, int]
    objectives: tuple[str, ...]
    types: tuple[str, ...]
    classes: tuple[str, ...]
    tuned: tuple[str, ...]
    checked: tuple[str, ...]
    lacks: str


def model_rows() -> list[ModelRow]:
    """Every family that has presets: decoders, encoders, encoder-decoders, each as described. A preset of no family
    is one by itself, without a paper."""
    presets = {path.stem: _preset(path) for path in sorted((CONF / "model").glob("*.yaml"))}
    found: dict[str, tuple[ModelFamily, dict[str, ModelConfig]]] = {}
    for family in model_families():
        if own := {name: model for name, model in presets.items() if family.has(name)}:
            found[family.name] = (family, own)
    for name, model in presets.items():
        if not families_of(name):
            found[name] = (ModelFamily(name, "not described", (name,), ()), {name: model})
    rows = [_row(family, own) for family, own in found.values()]
    return sorted(rows, key=lambda row: [*KINDS.values()].index(row.kind))


def _preset(path: Path) -> ModelConfig:
    return ModelConfig.model_validate(yaml.safe_load(path.read_text()))


def _row(family: ModelFamily, presets: dict[str, ModelConfig]) -> ModelRow:
    sizes = {name: _parameters(model) for name, model in presets.items()}
    types = dict.fromkeys(_type_of(model) for model in presets.values())
    exchanged = [one for one in types if one is not None]
    names = [*(kind for kind, _ in exchanged), *family.types]
    heads = (CLASSIFIERS, TOKEN_CLASSIFIERS, SPANS)
    first = next(iter(presets.values()))
    checked = ["counts"] + ["logits"] * bool(exchanged)
    if exchanged and first.family != "encoder":
        checked.append("text")
    return ModelRow(
        family.name,
        KINDS[first.family],
        family.paper,
        dict(sorted(sizes.items(), key=lambda item: (item[1], item[0]))),
        family.objectives,
        tuple(dict.fromkeys(names)),
        tuple(dict.fromkeys(architecture for _, architecture in exchanged)),
        tuple(dict.fromkeys(head[kind][0] for kind in names for head in heads if kind in head)),
        tuple(checked),
        family.lacks,
    )


def _parameters(model: ModelConfig) -> int:
    return count(model, model.vocabulary or TokenizerConfig().vocabulary, model.max_length or LENGTH).published


def _type_of(model: ModelConfig) -> tuple[str, str] | None:
    """(model_type, class with the heads of pre-training) of transformers; null where it has no such model."""
    whole = {"vocabulary": model.vocabulary or TokenizerConfig().vocabulary, "max_length": model.max_length or LENGTH}
    try:
        family = type_of(model.model_copy(update=whole))
    except UserError:
        return None
    if model.generator is not None and family.discriminator is not None:
        return family.type, family.discriminator[0]
    return family.type, family.architecture_of(model)


def rows_to_json(rows: list[ModelRow]) -> list[dict[str, Any]]:
    """As plain data."""
    return [asdict(row) for row in rows]


HEAD = ("family", "paper", "presets", "objective=", "import", "export", "checked")


def format_rows(rows: list[ModelRow]) -> str:
    """A table in Markdown for each kind: what docs/models.md holds."""
    lines: list[str] = []
    for kind in KINDS.values():
        some = [row for row in rows if row.kind == kind]
        lines += [f"**{kind.capitalize()}**", "", f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
        lines += [f"| {' | '.join(_cells(row))} |" for row in some] + [""]
    return "\n".join(lines).rstrip()


def _cells(row: ModelRow) -> tuple[str, ...]:
    tuned = [name.rpartition("For")[2] for name in row.tuned]
    return (
        row.family + (f" (without {row.lacks})" if row.lacks else ""),
        row.paper,
        ", ".join(f"`{one}`" for one in _joined([*row.presets])),
        ", ".join(f"`{one}`" for one in row.objectives) or "none",
        ", ".join(f"`{one}`" for one in row.types) or "none",
        ", ".join([*(f"`{one}`" for one in row.classes), *(f"`For{one}`" for one in dict.fromkeys(tuned))]) or "none",
        ", ".join(row.checked),
    )


def _joined(names: list[str]) -> list[str]:
    """Names with what several of them begin with written once: `gpt2-{124m,355m}`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        begin, dash, end = name.rpartition("-")
        groups.setdefault(begin + dash, []).append(end)
    return [begin + (f"{{{','.join(ends)}}}" if len(ends) > 1 else ends[0]) for begin, ends in groups.items()]
