"""What a forward pass keeps before the first block of a stack and after the last, and what its loss takes, in bytes."""

from __future__ import annotations

from trainer.books import kernels
from trainer.books.stack_pass import FP32, Pass
from trainer.config import Config
from trainer.config.host import precision
from trainer.descriptions.norms import NORMS


def embedding_bytes(stack: Pass) -> int:
    """Of the embedding: the input of its norm, that of the projection of a factorised one, the angles of positions."""
    model, each = stack.model, 0
    if model.embedding_norm:
        fused = kernels.norm(stack.config) == "triton"
        each += NORMS[model.norm].saved(model.position_channels, stream=FP32, fused=fused)
    if model.embedding_channels != model.width:
        each += stack.low * model.embedding_channels
    if model.position == "rotary":
        each += FP32 * model.rotary_channels
    return stack.rows * stack.tokens * each


def head_bytes(stack: Pass) -> int:
    """Of a head that predicts tokens: the input of the output matrix, and what is before that."""
    model = stack.model
    if model.family == "encoder_decoder":
        return stack.rows * stack.tokens * stack.low * model.width
    columns = model.embedding_channels
    each = stack.low * columns
    if model.head_transform:  # the inputs of its product, activation and norm
        each += stack.low * (model.width + columns) + FP32 * columns
    elif model.family == "decoder" and columns != model.width:
        each += stack.low * model.width
    if model.sentence_head and not stack.config.task.outputs:  # gradients of all places, of which one is not 0
        each += FP32 * model.width
    return stack.rows * stack.tokens * each


def detection_bytes(stack: Pass) -> int:
    """Of the head that finds replaced tokens: the inputs of its first product, its activation and its last product."""
    return stack.rows * stack.tokens * 3 * stack.low * stack.model.width


def loss_bytes(config: Config, tokens: int, columns: int) -> tuple[int, int]:
    """(bytes of logits at the most, bytes of gradients that a fused loss leaves)."""
    low = 2 if precision(config) == "bf16" else FP32
    backend, device = kernels.output_layer(config), kernels.device(config)
    if config.task.outputs or backend is None or config.backbone.generator is not None:
        capped = config.model.logit_softcap is not None and not config.task.outputs and low == FP32
        return (3 + capped) * FP32 * tokens * (config.task.outputs or config.vocabulary), 0
    # Triton turns logits into their gradient in place; PyTorch's own operations hold the gradient in fp32 beside them,
    # and a copy of logits that are capped or of low precision.
    copied = low < FP32 or config.model.logit_softcap is not None
    each = low if backend == "triton" else low + FP32 * (1 + copied)
    padded = head_rows(config)
    chunk, matrix = kernels.chunks.rows_per_chunk(tokens, padded, low, device) * padded, padded * columns
    rounded = low * matrix if low < FP32 and device == "cpu" else 0  # a chunk's part of the matrix's gradient, apart
    return max(chunk * each, low * chunk + rounded), low * tokens * columns + FP32 * matrix


def head_rows(config: Config) -> int:
    """Of the copy of the output matrix that is multiplied with."""
    low = 2 if precision(config) == "bf16" else FP32
    return int(kernels.chunks.padded_columns(config.vocabulary, low, kernels.device(config)))
