"""Mixtures of experts in checkpoints: their keys in config.json, and their tensors, stacked or expert by expert."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainer.config.experts import ExpertsConfig
from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, both
from trainer.hub.layouts import BESIDE, ByExpert
from trainer.hub.table import Fields, Given, Json, Row, Several, whole, yes_or_no
from trainer.utils.errors import UserError

LOAD_LOSS, WIDTH, RENORMALISE = "router_aux_loss_coef", "moe_intermediate_size", "norm_topk_prob"

# What config.json does not say of experts, as it concerns training alone.
OF_TRAINING = {"capacity", "group", "balance", "balance_weight", "bias_rate", "z_loss"}


def said(model: ModelConfig) -> Mapping[str, Any]:
    """What a forward pass in evaluation depends on, by the keys of the model."""
    experts = model.experts
    if not experts.count:
        return {"experts.count": 0}
    own = {name: getattr(experts, name) for name in ExpertsConfig.model_fields if name not in OF_TRAINING}
    own |= {"width": experts.width or model.ffn_channels, "balance": experts.by_bias}
    sides = (model.depth, model.decoder_side.depth)
    own |= {"every": [experts.at(layer) for depth in sides for layer in range(depth)]}
    own |= {"dense_layers": None, "first": None}
    return {f"experts.{name}": value for name, value in own.items()}


def weight(config: Json, key: str, default: float) -> float:
    """The weight of a loss. Raises UserError where it is no number from 0 on."""
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e300:
        raise UserError(f"config.json: {key}={value!r}: a number from 0 on wanted")
    return float(value)


# --- keys of config.json ----------------------------------------------------------------------------------------------


def mixture(
    count: str,
    usual: tuple[int, int],
    loss: float,
    *,
    width: int | None = None,
    renormalises: bool = False,
    older: str | None = None,
) -> Row:
    """The row of experts in a decoder. count: the key of their number; older: another one, which is written too.

    usual: that number and the experts of a token where config.json is silent; loss: likewise the weight of the
    load-balancing loss; width: likewise the hidden size of an expert, null for a type whose experts are of the size of
    the feed-forward. renormalises: a token's weights are divided by their sum always, not by a key.
    """

    def read(given: Given) -> Fields:
        experts: Fields = {
            "count": whole(given.config, count, usual[0]),
            "per_token": whole(given.config, "num_experts_per_tok", usual[1]),
            "balance_weight": weight(given.config, LOAD_LOSS, loss),
            "z_loss": 0.0,
        }
        if width is not None:
            experts["width"] = whole(given.config, WIDTH, width)
        experts["renormalise"] = renormalises or yes_or_no(RENORMALISE, given.config.get(RENORMALISE, False))
        return {"experts": experts}

    def write(model: ModelConfig) -> Fields:
        experts = model.experts
        keys: Fields = {count: experts.count, "num_experts_per_tok": experts.per_token}
        keys[LOAD_LOSS] = experts.loss_weight
        if older is not None:
            keys[older] = experts.count
        if width is not None:
            keys[WIDTH] = experts.width or model.ffn_channels
        return keys if renormalises else keys | {RENORMALISE: experts.renormalise}

    return Several(read, write)


def _read_sparse(given: Given) -> Fields:
    """Which layers have experts, where decoder_sparse_step and mlp_only_layers tell it."""
    depth, every = given.fields["depth"], whole(given.config, "decoder_sparse_step", 1)
    dense = given.config.get("mlp_only_layers") or []
    if not isinstance(dense, list) or any(type(one) is not int for one in dense):
        raise UserError(f"config.json: mlp_only_layers={dense!r}: a list of the numbers of layers wanted")
    experts = {**given.fields["experts"], "every": every, "dense_layers": max(dense, default=-1) + 1}
    kind = ExpertsConfig.model_validate(experts)
    if any(kind.at(layer) != (layer not in dense and (layer + 1) % every == 0) for layer in range(depth)):
        raise UserError(f"config.json: mlp_only_layers={dense!r} is not supported; the first layers are")
    return {"experts": experts}


def _write_sparse(model: ModelConfig) -> Fields:
    experts = model.experts
    return {"decoder_sparse_step": experts.every, "mlp_only_layers": list(range(experts.dense_layers))}


SPARSE_LAYERS = Several(_read_sparse, _write_sparse)


def _read_shared(given: Given) -> Fields:
    """Qwen2-MoE: one feed-forward beside the experts, under a gate."""
    experts = given.fields["experts"]
    size = whole(given.config, "shared_expert_intermediate_size", 5632)
    if size % experts["width"]:
        raise UserError(
            f"config.json: shared_expert_intermediate_size={size} is not supported; a multiple of "
            f"moe_intermediate_size={experts['width']} is"
        )
    return {"experts": {**experts, "shared": size // experts["width"], "shared_gate": True}}


def _write_shared(model: ModelConfig) -> Fields:
    return {"shared_expert_intermediate_size": model.experts.shared * (model.experts.width or model.ffn_channels)}


SHARED_EXPERT = Several(_read_shared, _write_shared)


# --- tensors ----------------------------------------------------------------------------------------------------------

ROUTER = "mlp.gate.weight"


def feed_forward(model: ModelConfig, layer: int, theirs: str, ours: str) -> Iterator[Entry]:
    """The feed-forward of a layer, dense or of experts. theirs, ours: names of the layer."""
    if not model.experts.at(layer):
        for part in ("gate", "up", "down"):
            yield from both(f"{theirs}.mlp.{part}_proj", f"{ours}.feed_forward.{part}", bias=False)
        return
    inside = f"{ours}.feed_forward"
    yield Entry(f"{theirs}.{ROUTER}", (f"{inside}.router.weight",))
    yield Entry(f"{theirs}.mlp.experts.gate_up_proj", (f"{inside}.gate", f"{inside}.up"), BESIDE)
    yield Entry(f"{theirs}.mlp.experts.down_proj", (f"{inside}.down",))
    if model.experts.shared:
        for part in ("gate", "up", "down"):
            yield from both(f"{theirs}.mlp.shared_expert.{part}_proj", f"{inside}.shared.{part}", bias=False)
    if model.experts.shared_gate:
        yield from both(f"{theirs}.mlp.shared_expert_gate", f"{inside}.shared_gate", bias=False)


# How files spell what the classes of transformers 5 stack.
BY_NAME = (
    ByExpert(".mlp.experts.gate_up_proj", (".mlp.experts.{}.gate_proj.weight", ".mlp.experts.{}.up_proj.weight")),
    ByExpert(".mlp.experts.down_proj", (".mlp.experts.{}.down_proj.weight",)),
)
BY_NUMBER = (
    ByExpert(
        ".mlp.experts.gate_up_proj",
        (".block_sparse_moe.experts.{}.w1.weight", ".block_sparse_moe.experts.{}.w3.weight"),
    ),
    ByExpert(".mlp.experts.down_proj", (".block_sparse_moe.experts.{}.w2.weight",)),
    ByExpert(f".{ROUTER}", (".block_sparse_moe.gate.weight",)),
)
