"""The linear layers of the blocks, one by one: what of a step is in fp8 (`engine.linear`), and what that moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trainer.books.lengths import lengths
from trainer.config import Config
from trainer.config.disentangled import rows_used, score_terms
from trainer.config.host import fp8
from trainer.config.linear import takes_fp8
from trainer.config.model import ModelConfig

LOW = 2  # bytes of a number of an activation or a gradient
FP32 = 4


@dataclass(frozen=True)
class LinearLayer:
    """A matrix of so many inputs and outputs, and the rows that a forward pass multiplies with it."""

    rows: int  # of one call
    inputs: int
    outputs: int
    calls: int = 1  # in a forward pass, of all matrices of this shape that are called alike
    matrices: int = 1  # of these

    @property
    def numbers(self) -> int:
        return self.inputs * self.outputs

    @property
    def forward_flop(self) -> int:
        return 2 * self.rows * self.numbers * self.calls


def block_layers(config: Config, sequences: int) -> list[LinearLayer]:
    """Of a forward pass over so many sequences, all linear layers of all blocks; the products of experts aside."""
    model, (source, target) = config.backbone, lengths(config)
    found = list(_stack(model, sequences, source, streams=2 if config.two_streams else 1))
    if target:
        found += _stack(model.decoder_side, sequences, target, read=source)
    if model.generator is not None:
        found += _stack(model.generator, sequences, source)
    return found


def fp8_layers(config: Config, sequences: int) -> list[LinearLayer]:
    """Of these, those that multiply in fp8."""
    layers = block_layers(config, sequences) if fp8(config) else []
    return [one for one in layers if takes_fp8(one.inputs, one.outputs)]


def _stack(model: ModelConfig, sequences: int, length: int, read: int = 0, streams: int = 1) -> Iterator[LinearLayer]:
    """read: tokens of the encoder that are read across."""
    width, hidden, tokens = model.width, model.ffn_channels, sequences * length
    calls, blocks = model.depth * streams, 1 if model.shared_layers else model.depth
    yield from _attention(model, tokens, tokens, calls, blocks)
    if read:
        yield from _attention(model, tokens, sequences * read, calls, blocks)
    query = model.heads * model.head_channels
    if model.position == "relative":
        yield LinearLayer(2 * length, width, query, calls, blocks)
    if terms := len(score_terms(model)):
        own = 0 if model.relative_shared else terms * blocks  # else those of queries and keys serve again
        yield LinearLayer(rows_used(model, length)[1], width, query, terms * calls, own)
    inwards, routed = 2 if model.gated else 1, model.experts.layers(model.depth)
    dense, dense_blocks = calls - routed * streams, blocks - routed
    if dense_blocks:
        yield LinearLayer(tokens, width, hidden, inwards * dense, inwards * dense_blocks)
        yield LinearLayer(tokens, hidden, width, dense, dense_blocks)
    if routed and model.experts.shared:
        shared = model.experts.shared * model.expert_channels
        yield LinearLayer(tokens, width, shared, inwards * routed * streams, inwards * routed)
        yield LinearLayer(tokens, shared, width, routed * streams, routed)


def _attention(model: ModelConfig, tokens: int, others: int, calls: int, blocks: int) -> Iterator[LinearLayer]:
    width, query, key = model.width, model.heads * model.head_channels, model.key_heads * model.head_channels
    yield LinearLayer(tokens, width, query, calls, blocks)
    yield LinearLayer(others, width, key, 2 * calls, 2 * blocks)
    yield LinearLayer(tokens, query, width, calls, blocks)


def fp8_share(config: Config) -> float:
    """Of the operations of a sample's forward pass in linear layers, of blocks and others, what is in fp8."""
    from trainer.books.step_flops import step_flops

    account = step_flops(config, "composed")
    products = account.forward_sample - account.scores + account.pass_forward
    return sum(one.forward_flop for one in fp8_layers(config, 1)) / max(products, 1)


def fp8_line(config: Config) -> str | None:
    """What a plan says of it."""
    if not fp8(config):
        return None
    return (
        f"engine.linear: {fp8_share(config):.0%} of the operations in linear layers are in fp8, in training alone; "
        "MFU stays a share of the bf16 peak, beside which fp8 runs can come to more than 100%"
    )


def scaling_bytes(config: Config, sequences: int) -> int:
    """Moved by scaling the operands of a forward and a backward pass over so many sequences.

    Each is read for its largest number and read again to be written in 8 bits; the transposed copies that the products
    of the backward pass want are read and written in 8 bits."""
    return sum(
        one.calls * (one.numbers * (2 * FP32 + 3) + one.rows * (one.inputs + one.outputs) * (2 * LOW + 3))
        for one in fp8_layers(config, sequences)
    )
