"""Checkpoints of Hugging Face's transformers, in and out, as safetensors and config.json. No transformers is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.hub.bert import ALBERT, BERT, ELECTRA, ROBERTA, XLMR, XLMR_XL, electra_discriminator_entries
from trainer.hub.fairseq import BART, MBART, OPT, XGLM
from trainer.hub.family import Entry, Family
from trainer.hub.files import TensorFiles, read_json, write_json, write_tensors
from trainer.hub.gpt import BLOOM, GPT, GPT2, NEOX
from trainer.hub.heads import Head
from trainer.hub.llama import LLAMA, OLMO2
from trainer.hub.modernbert import MODERNBERT
from trainer.hub.t5 import MT5, T5
from trainer.hub.table import read_table, write_table
from trainer.hub.xlnet import XLNET
from trainer.models import pretraining_model
from trainer.utils.errors import UserError, nearest

FAMILIES = {
    family.type: family
    for family in (
        *(GPT2, GPT, NEOX, LLAMA, OLMO2, OPT, BLOOM, XGLM),
        *(BERT, ROBERTA, XLMR, XLMR_XL, ALBERT, ELECTRA, XLNET, MODERNBERT),
        *(BART, MBART, T5, MT5),
    )
}
SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
# What config.json does not say: names, initial weights and training.
_NOT_IN_JSON = {"name", "size", "init", "init_std", "init_residual", "generator_weight"}


@dataclass(frozen=True)
class Imported:
    """A model of the hub in our terms."""

    model: ModelConfig  # with vocabulary and max_length stated
    weights: dict[str, Tensor]  # fp32, by our names
    special_tokens: dict[str, int] = field(default_factory=dict)  # as in config.json: bos_token_id, ...


# --- in --------------------------------------------------------------------------------------------------------------


def read_checkpoint(folder: Path, generator: Path | None = None) -> Imported:
    """Read a checkpoint of transformers. `generator`: for an ELECTRA discriminator, the folder of its generator.

    Raises UserError naming every tensor that is missing, left over or of a wrong shape, before any value is read.
    """
    config = read_json(folder / "config.json")
    family = _family(config, folder)
    files = TensorFiles(folder)
    renamed = _modern_names(files.shapes, family)

    def tensor(name: str) -> Tensor | None:
        return files.read(renamed[name]) if name in renamed else None

    try:
        fields = read_table(family.table, config, tensor)
    except UserError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{folder / 'config.json'}: a value is of the wrong kind ({error})") from None
    special = {name: int(config[name]) for name in SPECIAL_TOKENS if isinstance(config.get(name), int)}
    if family is ELECTRA and any(name.startswith("discriminator_predictions.") for name in renamed):
        return _electra(folder, fields, files, renamed, generator, special)
    model = _model(fields, config.get("model_type"), folder)
    return Imported(model, _load(model, list(family.entries(model)), family, files, renamed, folder), special)


def _family(config: Mapping[str, Any], folder: Path) -> Family:
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        hint = nearest(str(kind), FAMILIES)
        raise UserError(
            f"{folder / 'config.json'}: model_type {kind!r} is not supported{hint}; there is {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def _model(fields: Mapping[str, Any], name: Any, folder: Path) -> ModelConfig:
    try:
        return ModelConfig.model_validate({"name": str(name), "init_residual": False, **fields})
    except ValidationError as error:
        lines = [f"{folder / 'config.json'}: {'.'.join(map(str, one['loc']))} {one['msg']}" for one in error.errors()]
        raise UserError("\n".join(lines)) from None


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


def _skeleton(model: ModelConfig) -> dict[str, Tensor]:
    """Our parameters by name, without values; names of shared tensors once."""
    with torch.device("meta"):
        net = pretraining_model(model, model.vocabulary or 1, model.max_length or 1)
    return dict(net.named_parameters())


def _load(
    model: ModelConfig,
    entries: list[Entry],
    family: Family,
    files: TensorFiles,
    renamed: Mapping[str, str],
    folder: Path,
) -> dict[str, Tensor]:
    """Check all names and shapes, then read."""
    ours = _skeleton(model)
    held = {entry.theirs: entry for entry in entries}
    wrong = []
    for name, entry in held.items():
        if not all(part in ours for part in entry.ours):
            raise UserError(f"{folder}: {name}: {family.architecture} has it, config.json describes a model without")
        wanted = tuple(entry.layout.join([ours[part] for part in entry.ours]).shape)
        if name not in renamed:
            wrong.append(f"{name}: missing, {list(wanted)} wanted")
        elif (found := tuple(files.shapes[renamed[name]])) != wanted:
            wrong.append(f"{name}: of shape {list(found)}, {list(wanted)} wanted")
    repeated = {alias: name for alias, name in family.aliases if alias not in held and name in held}
    for name in renamed:
        if name not in held and name not in repeated and not family.ignores(name):
            wrong.append(f"{name}: left over, {family.architecture} has no such tensor")
    if wrong:
        raise UserError("\n".join(f"{folder}: {line}" for line in wrong))
    weights: dict[str, Tensor] = {}
    for name, entry in held.items():
        parts = entry.layout.split(files.read(renamed[name]), [ours[part].shape for part in entry.ours])
        weights |= {part: value.contiguous() for part, value in zip(entry.ours, parts, strict=True)}
    for alias, name in repeated.items():
        if alias in renamed and not torch.equal(files.read(renamed[alias]), files.read(renamed[name])):
            wrong.append(f"{folder}: {alias}: differs from {name}, but config.json ties the two")
    if wrong:
        raise UserError("\n".join(wrong))
    return weights


def _electra(
    folder: Path,
    fields: dict[str, Any],
    files: TensorFiles,
    renamed: Mapping[str, str],
    generator: Path | None,
    special: dict[str, int],
) -> Imported:
    """A discriminator with its generator; the two share one embedding."""
    beside = generator or (folder / "generator" if (folder / "generator").is_dir() else None)
    if beside is None:
        raise UserError(
            f"{folder}: an ELECTRA discriminator is trained beside a generator; give generator=<its folder>"
        )
    small = read_checkpoint(beside)
    if small.model.depth != fields["depth"] or small.model.ffn_channels * fields["width"] != (
        small.model.width * fields["ffn_width"]
    ):
        raise UserError(f"{beside}: this generator has another depth or feed-forward share than the discriminator")
    model = _model(
        {**fields, "generator_width": small.model.width, "generator_heads": small.model.heads}, "electra", folder
    )
    entries = list(electra_discriminator_entries(model))
    weights = _load(model, entries, ELECTRA, files, renamed, folder)
    for mine, theirs in zip(ELECTRA.entries(model), ELECTRA.entries(small.model), strict=True):
        for ours, part in zip(mine.ours, theirs.ours, strict=True):
            value = small.weights[part]
            if ours in weights and not torch.equal(weights[ours], value):
                raise UserError(f"{beside}: {theirs.theirs}: differs from the discriminator's, but the two share it")
            weights[ours] = value
    return Imported(model, weights, special)


# --- out -------------------------------------------------------------------------------------------------------------


def type_of(model: ModelConfig) -> Family:
    """The model_type that says everything about this model. Raises UserError naming what the nearest one cannot say."""
    nearest_type, fewest = "", None
    for family in FAMILIES.values():
        try:
            lost = _lost(model, family)
        except (UserError, ValidationError, TypeError, ValueError):
            continue
        if not lost:
            return family
        if fewest is None or len(lost) < len(fewest):
            nearest_type, fewest = family.type, lost
    raise UserError(
        f"model={model.name} has no counterpart in transformers; the nearest, {nearest_type}, cannot have "
        + ", ".join(f"model.{name}={getattr(model, name)}" for name in fewest or ())
    )


def _lost(model: ModelConfig, family: Family) -> list[str]:
    """Keys that differ after writing config.json and reading it again."""

    def names(name: str) -> Tensor | None:
        """Stands for the tensors that will be written: what decides is whether they are there, and tied."""
        entry = next((one for one in family.entries(model) if one.theirs == name), None)
        if entry is None:
            return torch.zeros(1) if name in {alias for alias, _ in family.aliases} and model.tied else None
        return torch.ones(1) if name == "lm_head.weight" or entry.ours == ("head.bias",) else torch.zeros(1)

    if model.family == "encoder_decoder" and family not in (BART, MBART, T5, MT5):
        return list(ModelConfig.model_fields)
    read = read_table(family.table, write_table(family.table, model), names)
    other = ModelConfig.model_validate({"name": model.name, **read})
    if family is ELECTRA:
        other = other.model_copy(
            update={"generator_width": model.generator_width, "generator_heads": model.generator_heads}
        )
    found = _resolved(other)
    return [name for name, value in _resolved(model).items() if value != found[name]]


def _resolved(model: ModelConfig) -> dict[str, Any]:
    fields = {name: getattr(model, name) for name in ModelConfig.model_fields if name not in _NOT_IN_JSON}
    fields["global_every"] = [model.local(layer) for layer in range(model.depth)]  # what a shallow model makes of it
    fields["kv_heads"], fields["head_size"] = model.key_heads, model.head_channels
    fields["ffn_width"], fields["embedding_width"] = model.ffn_channels, model.embedding_channels
    fields["pooler"] = "none" if model.pooler == "finetuning" else model.pooler
    fields["attention_scale"] = model.attention_scale or model.head_channels**-0.5
    if model.embedding_channels == model.width:
        fields["embedding_projection"] = None
    if model.position not in ("learned", "sinusoidal"):
        fields["position_offset"] = 0
    if model.position not in ("learned", "rotary", "sinusoidal"):
        fields["max_length"] = None
    if model.position != "rotary":
        fields |= {name: None for name in fields if name.startswith("rotary_")}
    elif model.rotary_scaling == "none":
        fields |= {"rotary_factor": None, "rotary_original_length": None}
    if model.position != "buckets":
        fields |= {"relative_buckets": None, "relative_distance": None}
    return fields


def write_checkpoint(
    folder: Path,
    model: ModelConfig,
    weights: Mapping[str, Tensor],
    special_tokens: Mapping[str, int],
    head: Head | None = None,
) -> Family:
    """Write config.json, generation_config.json and the weights into an existing, empty folder.

    `model` states vocabulary and max_length; `weights` are by our names. Raises UserError where transformers has no
    such model. ELECTRA's generator goes to the folder `generator` inside. head: a new one in place of pre-training's.
    """
    family = type_of(model)
    entries = list(family.entries(model))
    if head is not None:
        entries = [entry for entry in entries if all(part in weights for part in entry.ours)] + head.entries
        _write(folder, family, head.architecture, model, entries, weights, special_tokens, head.keys)
        return family
    architecture, inside = family.architecture, None
    if family is ELECTRA and model.generator is not None:
        inside = model.generator
        architecture, entries = "ElectraForPreTraining", list(electra_discriminator_entries(model))
    _write(folder, family, architecture, model, entries, weights, special_tokens)
    if inside is not None:
        (folder / "generator").mkdir()
        small = list(family.entries(model))
        _write(folder / "generator", family, family.architecture, inside, small, weights, special_tokens)
    return family


def _write(
    folder: Path,
    family: Family,
    architecture: str,
    model: ModelConfig,
    entries: list[Entry],
    weights: Mapping[str, Tensor],
    special_tokens: Mapping[str, int],
    more: Mapping[str, Any] | None = None,
) -> None:
    tokens = {name: value for name, value in special_tokens.items() if name in SPECIAL_TOKENS}
    if model.family == "encoder_decoder":
        tokens.setdefault("decoder_start_token_id", tokens.get("pad_token_id", 0))
    config = {"model_type": family.type, "architectures": [architecture], **tokens, **write_table(family.table, model)}
    write_json(folder / "config.json", {**config, **(more or {}), "dtype": "float32"})
    generation = {name: value for name, value in tokens.items()}
    write_json(folder / "generation_config.json", {"_from_model_config": True, **generation})
    tensors = {entry.theirs: entry.layout.join([weights[part].float() for part in entry.ours]) for entry in entries}
    write_tensors(folder, tensors)
