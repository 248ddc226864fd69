"""A model that muP or CompleteP scales as the plain model that computes the same: its factors go into its weights.

transformers has no such factors. A branch's is that of its last weights, the attention scores' that of the queries, the
output head's that of its matrix or, where that is the embedding, of the norm before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.utils.errors import UserError

PLAIN = {"mup_base_width": None, "mup_base_head_size": None, "mup_base_depth": None, "mup_depth_power": 1.0}
# The end of each branch by where its norms are; these names stand between a block's and a parameter's.
ENDS = {
    "pre": ("attention.output", "cross_attention.output", "feed_forward.down"),
    "reordered": ("attention_norm", "feed_forward_norm"),
    "sandwich": ("attention_post_norm", "cross_post_norm", "feed_forward_post_norm"),
}
NORMS = ("rmsnorm", "layernorm", "offset_rmsnorm")  # whose parameters a factor can go into


def plain_model(model: ModelConfig) -> ModelConfig:
    """The model without muP's and CompleteP's keys. Raises UserError where a factor has no weights to go into."""
    plain = model.model_copy(update=PLAIN)
    if plain == model:
        return model
    into_norms = model.branch_factor != 1 and model.norm_position != "pre"
    into_norms |= model.tied and _head_ratio(model, plain) != 1
    if into_norms and model.norm not in NORMS:
        raise UserError(
            f"export: model.norm={model.norm} has no weights that the factors of muP and CompleteP could go into; the "
            "model has no counterpart in transformers"
        )
    if model.tied and _head_ratio(model, plain) != 1 and not (model.final_norm or _transforms(model)):
        raise UserError(
            "export: model.mup_base_width: a tied head without a norm before it has no weights that its factor could "
            "go into; the model has no counterpart in transformers"
        )
    return plain


def unscaled(model: ModelConfig, weights: Mapping[str, Tensor], *, heads: bool = True) -> dict[str, Tensor]:
    """The weights of `plain_model(model)`, by our names, in their dtypes. heads: with those of pre-training."""
    plain, changed = plain_model(model), dict(weights)
    if plain == model:
        return changed
    ends = tuple(f".{end}." for end in ENDS.get(model.norm_position, ()))
    _multiply(changed, (name for name in weights if any(end in name for end in ends)), model.branch_factor, model)
    ours, theirs = model.score_scale, plain.score_scale
    usual = model.head_channels**-0.5
    part = ".query." if model.qk_norm == "none" else ".query_norm."
    _multiply(changed, (name for name in weights if part in name), (ours or usual) / (theirs or usual), model)
    tables = (name for name in weights if name.endswith("tokens.weight"))
    _multiply(changed, tables, _row_ratio(model), model)
    if not heads:
        return changed
    ratio = _head_ratio(model, plain)
    if not model.tied:
        _multiply(changed, ["head.weight"], ratio, model)
    else:
        side = "decoder." if model.family == "encoder_decoder" else ""
        last = "head.transform.norm." if _transforms(model) else f"{side}norm."
        _multiply(changed, (name for name in weights if name.startswith(last)), ratio, model)
    _multiply(changed, (name for name in weights if name == "sentence.weight"), 1 / model.width_growth, model)
    return changed


def _head_ratio(model: ModelConfig, plain: ModelConfig) -> float:
    """What the input of the head, or its matrix, is multiplied by; a tied matrix has the rows' factor already."""
    rows = _row_ratio(model) if model.tied else 1.0
    return model.head_factor / plain.head_factor / rows


def _row_ratio(model: ModelConfig) -> float:
    return model.width_growth**-0.5 if model.embedding_scale else 1.0


def _transforms(model: ModelConfig) -> bool:
    return model.head_transform and model.family != "encoder_decoder"


def _multiply(weights: dict[str, Tensor], names: Iterable[str], factor: float, model: ModelConfig) -> None:
    """In place. Norms whose factor is 1 + weight have the factor as a whole multiplied."""
    for name in names if factor != 1 else ():
        offset = "norm" in name and name.endswith("weight") and model.norm == "offset_rmsnorm"
        weights[name] = (1 + weights[name]) * factor - 1 if offset else weights[name] * factor
