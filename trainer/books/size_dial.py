"""The size dial: a model of a wanted parameter count in the proportions of a preset."""

from __future__ import annotations

import itertools
import math
from typing import Any

from trainer.books.parameters import count
from trainer.config import Config
from trainer.config.model import ModelConfig

CLOSE = 0.05  # a preset that is this near already stays as it is
FAR = 0.25  # further off than this is an error
WIDTHS = (*range(32, 256, 32), *range(256, 1024, 64), *range(1024, 4096, 128), *range(4096, 24577, 512))


def sized(config: Config) -> Config:
    """The same run with the shape that `model.size` asks for, if it does. Raises ValueError as `turned` does."""
    if config.model.size is None:
        return config
    return config.model_copy(update={"model": turned(config.model, config.vocabulary, config.max_length)})


def turned(model: ModelConfig, vocabulary: int, max_length: int) -> ModelConfig:
    """`model` with depth, width, heads and feed-forward such that it has about `model.size` parameters in total.

    Width over depth, the decoder's depth over the encoder's, feed-forward over width, heads over key heads and the
    generator's share stay the preset's; heads get 32, 64 or 128 channels, wider models wider ones, unless the preset
    states their size. Exact for the counts of `trainer.books`. The result states its shape alone: its `size` is None.
    Raises ValueError where no shape comes near.
    """
    assert model.size is not None
    wanted = model.size

    def total(shape: ModelConfig) -> int:
        return count(shape, vocabulary, max_length).published

    if abs(total(model) / wanted - 1) <= CLOSE:
        return model.model_copy(update={"size": None})
    aspect = min(max(model.width / model.depth, 32), 128)

    def cost(shape: ModelConfig) -> float:
        groups = (shape.heads / shape.key_heads) / (model.heads / model.key_heads)
        off = abs(math.log(shape.width / shape.depth / aspect)) + abs(math.log(groups))
        return 10 * abs(math.log(total(shape) / wanted)) + off

    best = min((shape for width in WIDTHS for shape in _depths(model, width, wanted, total)), key=cost)
    if abs(total(best) / wanted - 1) > FAR:
        raise ValueError(
            f"model.size: {wanted:,} parameters are out of reach: with a vocabulary of {vocabulary:,} the nearest "
            f"{model.name} has {total(best):,}; ask for that, or lower model.vocabulary"
        )
    return best


def _depths(model: ModelConfig, width: int, wanted: int, total: Any) -> list[ModelConfig]:
    """Shapes of this width whose depths come nearest to the wanted size: parameters are linear in the depth."""
    if model.shared_layers:
        return [_shape(model, width, model.depth)]
    experts = model.experts  # layers with them come at equal distances
    first, period = max(1, experts.dense_layers, experts.first or 0), experts.every
    least = max(2, 1 + next(filter(experts.at, itertools.count()))) if experts.count else 2
    if model.decoder_depth is not None:
        first = period = model.depth  # which the decoder follows without rounding
    one, more = total(_shape(model, width, first)), total(_shape(model, width, first + period))
    depth = max(least, min(512, int(period * (wanted - one) / (more - one) + first)))
    return [_shape(model, width, depth), _shape(model, width, depth + 1)]


def _shape(model: ModelConfig, width: int, depth: int) -> ModelConfig:
    ratio = width / model.width
    channels = model.head_size or (32 if width < 256 else 64 if width < 2048 else 128)
    heads = max(1, width // channels)
    groups = model.heads // model.key_heads
    kv_heads = max(n for n in range(1, heads + 1) if heads % n == 0 and n <= max(1, heads / groups))
    update: dict[str, Any] = {"size": None, "depth": depth, "width": width, "heads": heads}
    update["kv_heads"] = kv_heads if groups > 1 else None
    if model.decoder_depth is not None:
        update["decoder_depth"] = max(1, round(depth * model.decoder_depth / model.depth))
    if model.head_size is None and heads * channels != width:
        update["head_size"] = channels
    if model.ffn_width is not None:
        update["ffn_width"] = max(32, round(model.ffn_width * ratio / 32) * 32)
    if model.experts.width is not None:
        channels_of_one = max(32, round(model.experts.width * ratio / 32) * 32)
        update["experts"] = model.experts.model_copy(update={"width": channels_of_one})
    if model.embedding_width is not None:
        update["embedding_width"] = min(model.embedding_width, width)
    if model.generator is not None:
        small = max(1, round(heads * model.generator.width / model.width))
        update |= {"generator_width": small * channels, "generator_heads": small}
    if model.generator_depth is not None:
        update["generator_depth"] = max(1, round(depth * model.generator_depth / model.depth))
    return model.model_copy(update=update)
