"""What the keys of a model must have of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from trainer.config.disentangled import misfits as disentangled_misfits
from trainer.config.experts import misfits as expert_misfits
from trainer.config.languages import language_misfits
from trainer.config.layer_checks import layer_misfits


def model_misfits(model: Any) -> list[str]:
    """Lines `key: why` about the group `model`, of the first of these rules that finds something: later ones take for
    granted what earlier ones say."""
    return next((found for rule in RULES if (found := list(rule(model)))), [])


def _heads(model: Any) -> Iterator[str]:
    if model.head_size is None and model.width % model.heads:
        yield f"heads: {model.heads} does not divide width {model.width}; choose a divisor or set model.head_size"
    if model.heads % model.key_heads:
        yield f"kv_heads: {model.kv_heads} does not divide heads {model.heads}"
    generator = model.generator
    if generator is not None and generator.width % generator.heads:
        yield f"generator_heads: {generator.heads} does not divide generator_width {generator.width}"


def _positions(model: Any) -> Iterator[str]:
    buckets, distance = model.relative_buckets, model.relative_distance
    if model.position == "rotary" and (turning := model.rotary_channels) % 2:
        whose = "" if model.rotary_fraction == 1 else f" x rotary_fraction {model.rotary_fraction:g}"
        yield f"head_size: rotary positions need an even number of channels per head, got {turning}{whose}"
    if model.position == "buckets" and buckets is not None and (buckets % 2 or distance <= buckets // 2):
        yield f"relative_buckets: {buckets} must be even and less than twice relative_distance {distance}"
    if model.nope_every is not None and model.position != "rotary":
        yield f"nope_every: only model.position=rotary turns, got {model.position}"
    if model.position == "sinusoidal" and model.position_channels % 2:
        yield f"width: sinusoidal positions need an even number, got {model.position_channels}"
    if model.position == "relative" and (model.family != "encoder" or model.kv_heads not in (None, model.heads)):
        yield "position: relative needs model.family=encoder and as many kv_heads as heads"
    if model.position == "relative" and model.score_softcap is not None:
        yield (
            "score_softcap: position=relative scores distances and token types in a bias, which is added after a "
            "soft-cap; leave it null"
        )


def _blocks(model: Any) -> Iterator[str]:
    if model.qkv_bias and (model.bias or model.position == "relative"):
        other = "bias=true, which has them" if model.bias else "position=relative, which has biases of its own"
        yield f"qkv_bias: not beside model.{other}"
    if model.parallel and model.norm_position != "pre":
        yield f"parallel: needs model.norm_position=pre, got {model.norm_position}"
    if not model.first_norm and model.norm_position != "pre":
        yield f"first_norm: false needs model.norm_position=pre, got {model.norm_position}"


def _of_family(model: Any) -> Iterator[str]:
    for name in ("two_stream", "sentence_head", "generator_width"):
        if getattr(model, name) and model.family != "encoder":
            yield f"{name}: only an encoder has it, model.family is {model.family}"
    if model.decoder_depth is not None and model.family != "encoder_decoder":
        yield f"decoder_depth: only an encoder_decoder has it, model.family is {model.family}"


def _embedding(model: Any) -> Iterator[str]:
    if model.sentence_head and model.pooler != "pretraining":
        yield "sentence_head: needs model.pooler=pretraining"
    if model.embedding_projection == "tokens" and model.embedding_channels != model.width and not model.tied:
        yield "embedding_projection: tokens needs model.tied=true"


def _mup(model: Any) -> Iterator[str]:
    if model.mup_base_width is None:
        if model.mup_base_head_size is not None:
            yield "mup_base_head_size: needs model.mup_base_width"
        return
    not_worked_out = {"embedding_width": model.embedding_channels != model.width, **_not_worked_out(model)}
    for name in (name for name, there in not_worked_out.items() if there):
        yield f"mup_base_width: muP is not worked out for model.{name}={getattr(model, name)}"


def _depth(model: Any) -> Iterator[str]:
    if model.mup_base_depth is None:
        if model.mup_depth_power != 1:
            yield "mup_depth_power: needs model.mup_base_depth"
        return
    not_worked_out = {
        "norm_position": (model.norm_position == "post", "; its norms are on the residual stream"),
        "shared_layers": (model.shared_layers, "; one block learns from all depths"),
        "decoder_depth": (
            model.decoder_side.depth != model.depth,
            f"; both sides must be of one depth, model.depth is {model.depth}",
        ),
        **{name: (there, "") for name, there in _not_worked_out(model).items()},
    }
    for name, why in ((name, why) for name, (there, why) in not_worked_out.items() if there):
        yield f"mup_base_depth: CompleteP is not worked out for model.{name}={getattr(model, name)}{why}"


def _not_worked_out(model: Any) -> dict[str, bool]:
    return {
        "position": model.position in ("relative", "disentangled"),
        "two_stream": model.two_stream,
        "generator_width": model.generator_width is not None,
    }


def _languages(model: Any) -> list[str]:
    return language_misfits(model.languages, model.family)


RULES: tuple[Callable[[Any], Iterable[str]], ...] = (
    *(_heads, disentangled_misfits, _positions, layer_misfits, _blocks, _of_family, _languages, _embedding, _mup),
    _depth,
    expert_misfits,
)
