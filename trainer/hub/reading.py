"""Checkpoints of Hugging Face's transformers, read exactly or refused. No transformers is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.hub.bert import ELECTRA, electra_discriminator_entries
from trainer.hub.families import FAMILIES, SPECIAL_TOKENS
from trainer.hub.family import Entry, Family
from trainer.hub.files import TensorFiles, named, read_json
from trainer.hub.gpt import NEOX
from trainer.hub.heads import Tuned, is_of_pretraining, tuned_head
from trainer.hub.table import Key, read_table
from trainer.hub.unsupported import why
from trainer.models import initialize, pretraining_model
from trainer.utils.errors import UserError

SEED = 0  # of the parts that a folder lacks and that are drawn
DEEPEST = 10_000  # layers
ROUNDED = 2**-8  # that constants below 1 may be off by, as in bf16


@dataclass(frozen=True)
class Imported:
    """A model of the hub in our terms."""

    model: ModelConfig  # with vocabulary and max_length stated
    weights: dict[str, Tensor]  # fp32, by our names
    special_tokens: dict[str, int] = field(default_factory=dict)  # as in config.json: bos_token_id, ...
    architecture: str = ""  # the class of transformers that the folder holds
    task: dict[str, Any] = field(default_factory=dict)  # keys of the group `task`, of a tuned one
    drawn: tuple[str, ...] = ()  # parts of the model that the folder lacks, drawn with SEED
    folder: Path = Path()  # that it was read from


@dataclass(frozen=True)
class Given:
    """A folder whose config.json and names of tensors are read."""

    folder: Path
    config: dict[str, Any]  # by the names of the family's table
    family: Family
    files: TensorFiles
    names: dict[str, str]  # today's name of a tensor -> the name in the file

    def tensor(self, name: str) -> Tensor | None:
        """A tensor by its name or, where it stands only there, by that of a tensor that it is tied to."""
        found = next((one for one in self.same(name) if one in self.names), None)
        return None if found is None else self.files.read(self.names[found])

    def same(self, name: str) -> list[str]:
        """The names under which a tensor may stand, its own first."""
        return [name, *(alias for alias, of in self.family.aliases if of == name)]


def read_checkpoint(folder: Path, generator: Path | None = None) -> Imported:
    """Read a checkpoint of transformers. `generator`: for an ELECTRA discriminator, the folder of its generator.

    Raises UserError naming every tensor that is missing, left over or of a wrong shape, before any value is read.
    """
    config = read_json(folder / "config.json")
    family = _family(config, folder)
    files = TensorFiles(folder)
    files.gather(family.by_expert)
    given = Given(folder, _by_table(config, family, folder), family, files, _modern_names(files.shapes, family))
    special = {name: one for name in SPECIAL_TOKENS if type(one := config.get(name)) is int and one >= 0}
    try:
        fields = read_table(family.table, given.config, given.tensor)
        tuned = tuned_head(family.type, given.config, given.names, given.files.shapes)
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(str(folder)) else f"{folder}/{text}") from None
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, LookupError) as error:
        raise UserError(f"{folder / 'config.json'}: a value is of the wrong kind ({error})") from None
    _not_beyond_the_weights(fields, given)
    if family is ELECTRA and any(name.startswith("discriminator_predictions.") for name in given.names):
        return _electra(given, fields, generator, special)
    model = _model(fields, given)
    if model.family == "encoder_decoder" and not any("decoder." in name for name in given.names):
        raise UserError(
            f"{folder}: no tensor of a decoder: an encoder of {family.type} alone is not supported; take the folder of "
            f"{family.architecture}"
        )
    if tuned is not None:
        return Imported(model, _load_tuned(model, tuned, given), special, tuned.architecture, tuned.task, folder=folder)
    entries = list(family.entries(model))
    drawn = [one for one in entries if not any(name in given.names for name in given.same(one.theirs))]
    heads = [one for one in entries if all(is_of_pretraining(part) for part in one.ours)]
    if not drawn or drawn != [one for one in heads if one in drawn] or len(drawn) != len(_language(heads)):
        drawn = []
    if drawn and model.sentence_head and not family.pairs_alone:
        pairs = next(one.theirs for one in heads if one not in drawn)
        raise UserError(
            f"{folder}: {pairs} without {drawn[0].theirs}: no class of {family.type} has this head "
            f"alone; take the folder of {family.architecture}, or leave {pairs.rpartition('.')[0]}.* out for its body"
        )
    _check_constants(model, given)
    weights = _load([one for one in entries if one not in drawn], _skeleton(model, given), given)
    parts = tuple(part for one in drawn for part in one.ours)
    architecture, weights = family.architecture_of(model), weights | _draw(model, parts)
    return Imported(model, weights, special, architecture, drawn=parts, folder=folder)


def _language(heads: list[Entry]) -> list[Entry]:
    """Those of the head that predicts tokens: a body has none of them."""
    return [one for one in heads if one.ours[0].startswith("head.")]


def _family(config: Mapping[str, Any], folder: Path) -> Family:
    kind = config.get("model_type")
    if kind is None:
        raise UserError(f"{folder / 'config.json'}: model_type is not stated; there is {', '.join(FAMILIES)}")
    if not isinstance(kind, str) or kind not in FAMILIES:
        name = str(kind)[:99]
        raise UserError(f"{folder / 'config.json'}: model_type {name!r} is not supported{why(name, FAMILIES)}")
    if config.get("quantization_config") is not None:
        raise UserError(
            f"{folder / 'config.json'}: quantization_config: quantised weights are not read; take the folder of the "
            "model before it was quantised"
        )
    return FAMILIES[kind].as_stated(config)


def _by_table(config: Mapping[str, Any], family: Family, folder: Path) -> dict[str, Any]:
    """config.json by the names that the family's table has. Raises UserError where two names of one key differ."""
    result = {key: value for key, value in config.items() if key not in family.synonyms}
    for key, name in family.synonyms.items():
        if key in config and result.setdefault(name, config[key]) != config[key]:
            raise UserError(
                f"{folder / 'config.json'}: {key}={config[key]!r} and {name}={result[name]!r} are one key of a "
                f"{family.type} with two values; leave out the wrong one"
            )
    return result


def _not_beyond_the_weights(fields: Mapping[str, Any], given: Given) -> None:
    """Raise UserError for sizes that the tensors cannot have, before a model of that size is built."""
    keys = {row.ours: row.theirs for row in given.family.table if isinstance(row, Key)}
    most = DEEPEST if fields.get("shared_layers") else min(DEEPEST, len(given.files.shapes))
    for name in ("depth", "decoder_depth"):
        depth = fields.get(name)
        if isinstance(depth, int) and depth > most:
            raise UserError(
                f"{given.folder / 'config.json'}: {keys.get(name, name)}={depth}: the folder has "
                f"{len(given.files.shapes):,} tensors, which is fewer than so many layers have"
            )
    for name in (
        "vocabulary",
        "width",
        "heads",
        "kv_heads",
        "head_size",
        "ffn_width",
        "embedding_width",
        "token_types",
    ):
        value = fields.get(name)
        if isinstance(value, int) and value > given.files.numbers:
            raise UserError(
                f"{given.folder / 'config.json'}: {keys.get(name, name)}={value}: the folder's tensors have only "
                f"{given.files.numbers:,} numbers together"
            )


def _model(fields: Mapping[str, Any], given: Given) -> ModelConfig:
    file, kind = given.folder / "config.json", given.family.type
    keys = {row.ours: row.theirs for row in given.family.table if isinstance(row, Key)}
    try:
        return ModelConfig.model_validate({"name": kind, "init_residual": False, **fields})
    except ValidationError as error:
        lines = []
        for one in error.errors():
            name = ".".join(map(str, one["loc"]))
            what = f"{keys.get(name, name)}={str(one['input'])[:99]}: " if name else ""
            lines.append(f"{file}: {what}{one['msg'].removeprefix('Value error, ')}")
        raise UserError("\n".join(dict.fromkeys(lines))) from None


def _modern_names(names: Iterable[str], family: Family) -> dict[str, str]:
    """Today's name -> the name in the file: older checkpoints lack the bare model's prefix or say gamma and beta."""
    names = list(names)
    bare = bool(family.prefix) and not any(name.startswith(family.prefix) for name in names)
    result = {}
    for name in names:
        modern = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        result[family.prefix + modern if bare else modern] = name
    if family is NEOX and "lm_head.weight" in result:
        result["embed_out.weight"] = result.pop("lm_head.weight")
    return result


def _skeleton(model: ModelConfig, given: Given) -> dict[str, Tensor]:
    """Our parameters by name, without values; names of shared tensors once."""
    try:
        with torch.device("meta"):
            net = pretraining_model(model, model.vocabulary or 1, model.max_length or 1)
    except (RuntimeError, OverflowError, ValueError, TypeError) as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{given.folder / 'config.json'}: no model has such sizes ({text})") from None
    return dict(net.named_parameters())


def _check_constants(model: ModelConfig, given: Given) -> None:
    """Raise UserError where a tensor that follows from config.json is another one, as one that was learned."""
    with torch.device("meta"):  # a size that no memory holds is told first
        shapes = {name: one.shape for name, one in given.family.constants(model).items() if name in given.names}
    for name, shape in shapes.items():
        found = given.files.shapes[given.names[name]]
        if found != shape:
            raise UserError(f"{given.folder}: {name}: of shape {list(found)}, {list(shape)} wanted")
    for name, wanted in given.family.constants(model).items() if shapes else ():
        off = float((given.files.read(given.names[name]) - wanted).abs().max()) if name in shapes else 0.0
        if not off <= ROUNDED:
            raise UserError(
                f"{given.folder}: {name}: off by {off:.1g} from what config.json describes; a {given.family.type} has "
                "fixed positions there, learned ones are not supported"
            )


def _draw(model: ModelConfig, parts: Iterable[str]) -> dict[str, Tensor]:
    """Parts of a new model, by our names."""
    parts = tuple(parts)
    if not parts:
        return {}
    net = pretraining_model(model, model.vocabulary or 1, model.max_length or 1)
    initialize(net, SEED)
    values = dict(net.named_parameters())
    return {part: values[part].detach().clone() for part in parts}


def _load(entries: list[Entry], ours: Mapping[str, Tensor], given: Given) -> dict[str, Tensor]:
    """Check all names and shapes, then read. ours: tensors of the shapes wanted, by our names."""
    folder, family, files = given.folder, given.family, given.files
    wrong, sources = [], {}
    taken = {entry.theirs for entry in entries}
    for entry in entries:
        name = entry.theirs
        if not all(part in ours for part in entry.ours):
            raise UserError(f"{folder}: {name}: {family.architecture} has it, config.json describes a model without")
        wanted = tuple(entry.layout.join([ours[part] for part in entry.ours]).shape)
        also = [one for one in given.same(name) if one in given.names and (one == name or one not in taken)]
        if not also:
            wrong.append(f"{name}: missing, {list(wanted)} wanted")
            continue
        sources[name] = also
        for one in also:
            found = tuple(files.shapes[given.names[one]])
            if found != wanted:
                wrong.append(f"{one}: of shape {list(found)}, {list(wanted)} wanted")
            elif why := files.unreadable(given.names[one]):
                wrong.append(f"{one}: {why}")
    known = {one for also in sources.values() for one in also} | taken
    for name in given.names:
        if name not in known and not family.ignores(name):
            wrong.append(f"{name}: left over, {family.architecture} has no such tensor")
    if wrong:
        raise UserError("\n".join(f"{folder}: {line}" for line in wrong))
    weights: dict[str, Tensor] = {}
    unsound = []
    for entry in entries:
        first, *others = sources[entry.theirs]
        value = files.read(given.names[first])
        if lost := int((~value.isfinite()).sum()):
            unsound.append(f"{first} ({lost:,} of {value.numel():,} values)")
        for other in others:
            if (
                not lost
                and not first.endswith("decoder.bias")
                and not torch.equal(files.read(given.names[other]), value)
            ):
                raise UserError(
                    f"{folder}: {other}: differs from {first}, but config.json ties the two; leave out the wrong one, "
                    "or say tie_word_embeddings=false where they are two"
                )
        parts = entry.layout.split(value, [ours[part].shape for part in entry.ours])
        weights |= {part: one.contiguous() for part, one in zip(entry.ours, parts, strict=True)}
    if unsound:
        raise UserError(
            f"{folder}: {named(unsound, 5)}: nan or inf; a file is damaged or its run had diverged: "
            "take the folder anew, or an earlier checkpoint of it"
        )
    return weights


# --- tuned models ----------------------------------------------------------------------------------------------------


def _load_tuned(model: ModelConfig, tuned: Tuned, given: Given) -> dict[str, Tensor]:
    """The backbone's weights under `body.`, as in a tuned run, and those of its head."""
    ours = _skeleton(model, given)
    outputs = 2 if tuned.task["kind"] == "span" else len(tuned.task.get("labels", ())) or 1
    shapes = {"dense.weight": (model.width, model.width), "dense.bias": (model.width,)}
    shapes |= {"output.weight": (outputs, model.width), "output.bias": (outputs,)}
    heads = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    entries = [one for one in given.family.entries(model) if not any(is_of_pretraining(part) for part in one.ours)]
    given = replace(given, names={name.removeprefix(tuned.prefix): file for name, file in given.names.items()})
    weights = _load([*entries, *tuned.entries], {**ours, **heads}, given)
    return {name if name in heads else f"body.{name}": value for name, value in weights.items()}


# --- ELECTRA ---------------------------------------------------------------------------------------------------------


def _electra(given: Given, fields: dict[str, Any], generator: Path | None, special: dict[str, int]) -> Imported:
    """A discriminator with its generator; the two share one embedding. Where there is none, one is drawn."""
    inside = given.folder / "generator"
    beside = generator or (inside if inside.is_dir() else None)
    if beside is None:
        heads = max(1, fields["heads"] // 4)
        sizes = {"generator_width": heads * (fields["width"] // fields["heads"]), "generator_heads": heads}
        model = _model({**fields, **sizes}, given)
        weights = _load(list(electra_discriminator_entries(model)), _skeleton(model, given), given)
        parts = tuple(name for name in _skeleton(model, given) if name not in weights)
        return Imported(
            model, weights | _draw(model, parts), special, "ElectraForPreTraining", drawn=parts, folder=given.folder
        )
    small = read_checkpoint(beside)
    if small.model.depth != fields["depth"] or small.model.ffn_channels * fields["width"] != (
        small.model.width * fields["ffn_width"]
    ):
        raise UserError(f"{beside}: this generator has another depth or feed-forward share than the discriminator")
    model = _model({**fields, "generator_width": small.model.width, "generator_heads": small.model.heads}, given)
    weights = _load(list(electra_discriminator_entries(model)), _skeleton(model, given), given)
    for mine, theirs in zip(ELECTRA.entries(model), ELECTRA.entries(small.model), strict=True):
        for ours, part in zip(mine.ours, theirs.ours, strict=True):
            value = small.weights[part]
            if ours in weights and not torch.equal(weights[ours], value):
                raise UserError(f"{beside}: {theirs.theirs}: differs from the discriminator's, but the two share it")
            weights[ours] = value
    return Imported(model, weights, special, "ElectraForPreTraining", folder=given.folder)
