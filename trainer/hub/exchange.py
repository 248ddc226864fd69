"""Models of ours as checkpoints of transformers: safetensors and config.json. No transformers is needed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from trainer.config.dropout_rates import DROPOUT
from trainer.config.model import ModelConfig
from trainer.hub import experts
from trainer.hub.fairseq import BART, MBART
from trainer.hub.families import FAMILIES, OTHER_NAMES, SPECIAL_TOKENS
from trainer.hub.family import Entry, Family
from trainer.hub.files import write_json, write_tensors
from trainer.hub.heads import Head, is_of_pretraining
from trainer.hub.pegasus import PEGASUS
from trainer.hub.switch import SWITCH
from trainer.hub.t5 import MT5, T5
from trainer.hub.table import read_table, write_table
from trainer.utils.errors import UserError

# What config.json does not say: names, initial weights and training.
_NOT_IN_JSON = {"name", "size", "init", "init_std", "init_residual", "generator_weight", "experts", *DROPOUT}
# What folders of a discriminator and of its generator say together.
_OF_GENERATORS = ("generator_width", "generator_heads", "generator_depth", "embedding_sharing")


# Keys of an imported config.json that are of that file, not of the model.
_OF_THE_FILE = {"_name_or_path", "transformers_version", "torch_dtype", "auto_map", "architectures"}


@dataclass(frozen=True)
class AsItCame:
    """config.json and generation_config.json of the folder that a run was imported from."""

    config: Mapping[str, Any]
    generation: Mapping[str, Any] | None  # null where there was no such file
    tuned: bool = False  # since then, so that keys of the model may have changed


def type_of(model: ModelConfig) -> Family:
    """The model_type that says everything about this model: the one that it is named for, if it does, as XLM-R and
    RoBERTa are alike. Raises UserError naming what the nearest one cannot say."""
    nearest_type, fewest = "", None
    named = f"{model.name}-"
    for family in sorted(FAMILIES.values(), key=lambda one: not named.startswith(f"{one.type}-")):
        try:
            lost = _lost(model, family)
        except (UserError, ValidationError, TypeError, ValueError):
            continue
        if not lost:
            return family
        if fewest is None or len(lost) < len(fewest):
            nearest_type, fewest = family.type, lost
    missed = fewest or []
    if "experts.count" in missed:  # without experts, or with others: what else is said of them follows
        missed = [name for name in missed if name == "experts.count" or not name.startswith("experts.")]
    raise UserError(
        f"model={model.name} has no counterpart in transformers; the nearest, {nearest_type}, cannot have "
        + ", ".join(f"model.{name}={attrgetter(name)(model)}" for name in missed)
    )


def _lost(model: ModelConfig, family: Family) -> list[str]:
    """Keys that differ after writing config.json and reading it again."""

    def names(name: str) -> Tensor | None:
        """Stands for the tensors that will be written: what decides is whether they are there, and tied."""
        entry = next((one for one in family.entries(model) if one.theirs == name), None)
        if entry is None:
            return torch.zeros(1) if name in {alias for alias, _ in family.aliases} and model.tied else None
        return torch.ones(1) if name == "lm_head.weight" or entry.ours == ("head.bias",) else torch.zeros(1)

    if model.family == "encoder_decoder" and family not in (BART, MBART, PEGASUS, T5, MT5, SWITCH):
        return list(ModelConfig.model_fields)
    read = read_table(family.table, write_table(family.table, model), names)
    other = ModelConfig.model_validate({"name": model.name, **read})
    if family.discriminator is not None:
        other = other.model_copy(update={name: getattr(model, name) for name in _OF_GENERATORS})
    found = _resolved(other)
    return [name for name, value in _resolved(model).items() if value != found.get(name)]


def _resolved(model: ModelConfig) -> dict[str, Any]:
    fields = {name: getattr(model, name) for name in ModelConfig.model_fields if name not in _NOT_IN_JSON}
    fields["global_every"] = [model.local(layer) for layer in range(model.depth)]  # what a shallow model makes of it
    fields["global_last"] = None  # said by that
    fields["decoder_depth"] = model.decoder_side.depth
    if model.pooler == "none":
        fields["pooler_activation"] = None
    fields["kv_heads"], fields["head_size"] = model.key_heads, model.head_channels
    fields["ffn_width"], fields["embedding_width"] = model.ffn_channels, model.embedding_channels
    fields["pooler"] = "none" if model.pooler == "finetuning" else model.pooler
    fields["attention_scale"] = model.attention_scale or model.head_channels**-0.5
    fields |= experts.said(model)
    if model.embedding_channels == model.width:
        fields["embedding_projection"] = None
    if model.position not in ("learned", "sinusoidal"):
        fields["position_offset"] = 0
    if model.position not in ("learned", "rotary", "sinusoidal"):
        fields["max_length"] = None
    if model.position != "rotary":
        fields |= {name: None for name in fields if name.startswith("rotary_")}
    elif model.rotary_scaling == "none":
        fields |= {"rotary_factor": None, "rotary_original_length": None, "rotary_scaled": None}
    if model.position != "sinusoidal":
        fields["sinusoids"] = None
    if model.position not in ("buckets", "disentangled"):
        fields |= {"relative_buckets": None, "relative_distance": None}
    if model.position != "disentangled":
        fields |= {"relative_terms": None, "relative_shared": None, "relative_norm": None}
    if model.generator is None:
        fields |= dict.fromkeys(_OF_GENERATORS)
    return fields


def write_checkpoint(
    folder: Path,
    model: ModelConfig,
    weights: Mapping[str, Tensor],
    special_tokens: Mapping[str, Any],
    head: Head | None = None,
    came: AsItCame | None = None,
    drawn: Collection[str] = (),
) -> Family:
    """Write config.json, generation_config.json and the weights into an existing, empty folder.

    `model` states vocabulary and max_length; `weights` are by our names. Raises UserError where transformers has no
    such model. A generator goes to the folder `generator` inside. head: a new one in place of pre-training's.
    came: what an imported model said of itself besides, which stands again, its special tokens too. drawn: parts, by
    our names, that were never trained: a head or a generator of which one is drawn is left out.
    """
    family = type_of(model).as_stated(came.config if came else {})
    entries = list(family.entries(model))
    if head is not None:
        body = [entry for entry in entries if all(part in weights for part in entry.ours)]
        entries = [replace(entry, theirs=head.prefix + entry.theirs) for entry in body] + head.entries
        _write(folder, family, head.architecture, model, entries, weights, special_tokens, head.keys, came)
        return family
    architecture, inside = family.architecture_of(model), None
    if family.discriminator is not None and model.generator is not None:
        inside = model.generator
        architecture, tensors = family.discriminator
        entries = list(tensors(model))
        if architecture == family.body:
            entries = _of_the_body(entries, family)
    elif family.pairs_alone and model.sentence_head and any(part.startswith("head.") for part in drawn):
        architecture, entries = family.pairs_alone, [entry for entry in entries if not set(entry.ours) & set(drawn)]
    elif any(is_of_pretraining(part) for part in drawn):
        architecture, entries = family.body, _of_the_body(entries, family)
    _write(folder, family, architecture, model, entries, weights, special_tokens, came=came)
    if inside is not None and not any(part.startswith("replaced.generator.") for part in drawn):
        (folder / "generator").mkdir()
        small = list(family.entries(model))
        _write(folder / "generator", family, family.architecture, inside, small, weights, special_tokens)
    return family


def _of_the_body(entries: list[Entry], family: Family) -> list[Entry]:
    """Those without the heads, by the names that the class without a head has."""
    return [
        replace(entry, theirs=entry.theirs.removeprefix(family.prefix))
        for entry in entries
        if not all(is_of_pretraining(part) for part in entry.ours)
    ]


def _write(
    folder: Path,
    family: Family,
    architecture: str,
    model: ModelConfig,
    entries: list[Entry],
    weights: Mapping[str, Tensor],
    special_tokens: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
    came: AsItCame | None = None,
) -> None:
    tokens = {name: value for name, value in special_tokens.items() if name in SPECIAL_TOKENS}
    if model.family == "encoder_decoder":
        tokens.setdefault("decoder_start_token_id", tokens.get("pad_token_id", 0))
    generation: Mapping[str, Any] | None = {"_from_model_config": True, **special_tokens, **tokens}
    tokens |= {name: tokens[same] for name, same in OTHER_NAMES.get(family.type, {}).items() if same in tokens}
    config = {"model_type": family.type, "architectures": [architecture], **tokens, **write_table(family.table, model)}
    if came is not None:
        kept = {name: value for name, value in came.config.items() if name not in _OF_THE_FILE}
        own = {name: value for name, value in config.items() if name not in tokens}
        config = {**kept, **own} if came.tuned else {**own, **kept, "model_type": family.type}
        generation = came.generation
    write_json(folder / "config.json", {**config, **(more or {}), "dtype": "float32"})
    if generation is not None:
        write_json(folder / "generation_config.json", generation)
    tensors = {entry.theirs: entry.layout.join([weights[part].float() for part in entry.ours]) for entry in entries}
    write_tensors(folder, family.published(tensors) | dict(family.constants(model)))
