"""What feed-forwards that are computed tile by tile cost (`engine.feed_forward_tile`), beside the bytes they keep."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.books.lengths import lengths
from trainer.config import Config
from trainer.config.model import ModelConfig
from trainer.config.recomputation import Recomputation, in_tiles, whole_block

Side = tuple[ModelConfig, int, Recomputation]  # of a stack its model, tokens of a sample and what of it is recomputed


def tiles_again(config: Config) -> int:
    """Operations of one sample's feed-forwards that tiles compute again, all but the last product of each.

    Not those of blocks that are computed again as a whole: there they are counted with the block, which is computed up
    to its feed-forward, unless something follows that the backward pass needs.
    """
    work = 0
    for side, tokens, again in _sides(config):
        once = 2 * side.width * tokens * side.ffn_channels * (2 if side.gated else 1)
        needed = side.norm_position != "pre" or side.hidden_rate > 0  # dropout keeps the numbers of its rows
        for layer in range(side.depth):
            streams = 1 + (config.two_streams and layer < side.depth - 1)  # the last content stream has no reader
            work += streams * once if needed or not whole_block(again, layer) else 0
    return work


def copies_of_tiles(config: Config) -> int:
    """Bytes of low-precision weights that each tile makes for itself, so that none is kept."""
    return sum(
        2 * (1 if side.shared_layers else side.depth) * side.width * side.ffn_channels * (1 if side.gated else 2)
        for side, _, _ in _sides(config)
    )


def _sides(config: Config) -> Iterator[Side]:
    """The stacks whose feed-forwards are computed in tiles."""
    model, choice, (source, target) = config.backbone, config.engine.activation_checkpointing, lengths(config)
    sides: list[Side] = [(model, source, choice)]
    sides += [(model.decoder_side, target, choice)] if target else []
    sides += [] if model.generator is None else [(model.generator, source, False)]
    return (one for one in sides if in_tiles(config, -(-one[1] // config.engine.sequence_parallel)))
