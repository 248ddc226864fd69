"""What attention keeps of a forward pass until the backward pass has read it, and what that pass takes for a while, in
bytes.

Fused kernels keep queries, keys, values, the output, one logarithm per row and the mask (Dao et al. 2022). The
reference keeps scores. So does PyTorch's attention on a CPU under a bias that learns: it is then composed of
operations, which compute in fp32 whatever the products' dtype is.
"""

from __future__ import annotations

from typing import NamedTuple

from trainer.books import kernels
from trainer.books.experts import trip_bytes
from trainer.books.stack_pass import FP32, Pass
from trainer.config.disentangled import rows_used, score_terms
from trainer.config.recomputation import scores

OF_LAYER = ("relative", "disentangled")  # positions with a bias of each layer's own
BUCKET = 8  # bytes of a bucket's number
RANDOM = 25  # bytes of the words on the way to one number of dropout's mask


def attention_bytes(stack: Pass, keys: int, use: kernels.Use) -> int:
    """Of one attention of queries at all positions of the stack to `keys` positions."""
    model, low, tokens, others = stack.model, stack.low, stack.rows * stack.tokens, stack.rows * keys
    query, key = model.heads * model.head_channels, model.key_heads * model.head_channels
    total = low * (2 * tokens * query + 2 * others * stack.key_channels)  # query, output; key, value
    total += low * tokens * query * stack.by_heads  # the output of all heads beside that of all positions
    if model.qk_norm != "none":  # its input and statistics, in fp32 where it is not fused
        heads = model.heads + model.key_heads
        statistics = {"projection": 2, "head": heads, "heads": 2 * heads}[model.qk_norm]
        fused_norm = kernels.norm(stack.config) == "triton"
        kept = {"heads": 2 * FP32}.get(model.qk_norm, low if fused_norm else FP32)  # of "heads" the normalised one too
        total += kept * (tokens * query + others * key) + FP32 * tokens * statistics
    if model.position == "relative":  # queries by distance, and the distances, which all rows share
        total += low * query * (tokens + stack.tokens + keys)
        if scores(stack.config.engine.activation_checkpointing):  # queries by type, and without a bias, to begin again
            total += 2 * low * query * tokens
    return total + _relative_rows(stack) + score_bytes(stack, keys, use)


def score_bytes(stack: Pass, keys: int, use: kernels.Use) -> int:
    """Of one attention what `selective` computes again: scores and what is made of them and for them, as far as the
    backend keeps it."""
    model, low, tokens, others = stack.model, stack.low, stack.rows * stack.tokens, stack.rows * keys
    query, key = model.heads * model.head_channels, stack.key_channels
    if stack.in_parts:
        return FP32 * tokens * model.heads  # one logarithm per row
    square = tokens * keys * stack.sharing  # of this rank's part of the heads, at all positions
    if stack.composed(use):
        copies = FP32 * (tokens + 2 * others) * query - low * (tokens * query + 2 * others * key)  # all heads, in fp32
        return copies + square * model.heads * _each_score(stack, use) + _hidden(stack, keys, use)
    fused = kernels.attention(stack.config, use) == "triton"
    total = 0 if fused or model.key_heads == 1 else low * 2 * others * (query - key)  # keys and values, expanded
    total += FP32 * tokens * model.heads  # one logarithm per row
    if model.position in OF_LAYER:
        return total + low * square * model.heads  # the bias of a layer; SDPA's holds its mask
    if not use.across and model.position in ("alibi", "buckets"):  # one for all layers, if there is one
        return total
    mask = low * square * stack.sharing  # of all positions, whatever the number of heads
    return total + (0 if fused or not kernels.masked(stack.config, use) else mask)


def _each_score(stack: Pass, use: kernels.Use) -> int:
    """Bytes that composed attention keeps of each score: its probability; the reference also its numerator, what was
    capped, and a byte of dropout's mask."""
    if stack.of_operations(use):
        return FP32
    return FP32 * (2 + (stack.model.score_softcap is not None)) + (stack.model.attention_rate > 0)


def _hidden(stack: Pass, keys: int, use: kernels.Use) -> int:
    """Bytes of which scores a layer hides, the same for all heads; the reference finds buckets in each layer."""
    fused = stack.of_operations(use)
    of_layer = not fused or stack.model.position in OF_LAYER
    buckets = stack.model.position == "buckets" and not fused and not use.across
    return stack.tokens * keys * (stack.rows * of_layer + BUCKET * buckets)


class Passing(NamedTuple):
    """Bytes that composed attention takes while it runs, beside what it keeps."""

    forward: int
    backward: int


def passing_bytes(stack: Pass, keys: int, use: kernels.Use) -> Passing:
    """Of one attention to `keys` positions: the scores and their bias, hidden and not; gradients of the scores around
    the softmax. Dropout's random words take most."""
    low, of_layer = stack.low, (not use.across) * (stack.model.position in OF_LAYER)
    if not stack.composed(use):
        return Passing(0, 0)
    pairs = stack.rows * stack.tokens * keys * stack.model.heads * stack.sharing
    if stack.of_operations(use):
        return Passing(pairs * (FP32 + 1 + low * (1 + of_layer)), pairs * 2 * FP32)
    random = RANDOM if stack.model.attention_rate else FP32
    return Passing(pairs * (random + FP32 * of_layer), pairs * 4 * FP32)


def workspace(stack: Pass) -> int:
    """Bytes that the backward pass of one layer takes for a while: what it adds up, sends and receives."""
    trip = (
        trip_bytes(stack.model, stack.rows, stack.tokens, stack.low) if stack.config.engine.expert_parallel > 1 else 0
    )
    return max(_ordered(stack) + _exchanged(stack), trip)


def _exchanged(stack: Pass) -> int:
    """Bytes on their way in one attention over sequences that ranks share: by heads what is sent, beside what is kept
    of it; around a ring a second slice of keys and values, and their gradients in fp32, twice."""
    if stack.sharing == 1:
        return 0
    query, key = stack.model.heads * stack.model.head_channels, stack.key_channels
    tokens, others = stack.rows * stack.tokens, stack.rows * max(stack.tokens, stack.source)
    if stack.by_heads:
        return stack.low * (tokens * query + 2 * others * key)
    return 2 * 2 * others * key * (stack.low + FP32)


def _ordered(stack: Pass) -> int:
    """Bytes of the ordered backward pass of one attention, which adds dQ in float32."""
    model, choice = stack.model, kernels.choice
    if stack.config.kernels.backward != "ordered" or choice.ordered_lacks(model.head_channels, stack.low):
        return 0
    uses = [(stack.tokens, stack.use()), (stack.source, stack.use(across=True))]
    return max(
        int(choice.ordered_bytes(stack.rows, model.heads, stack.tokens, keys, model.head_channels))
        * (keys > 0 and kernels.attention(stack.config, use) == "triton")
        for keys, use in uses
    )


def _relative_rows(stack: Pass) -> int:
    """Bytes that the products with relative positions keep: of each a copy of queries or keys, and the rows."""
    model, terms = stack.model, len(score_terms(stack.model))
    if not terms:
        return 0
    query, (_, rows) = model.heads * model.head_channels, rows_used(model, stack.tokens)
    projected = rows * (stack.low * query + (stack.kept(model.width, query) if stack.cast else 0))
    return terms * (stack.low * stack.rows * stack.tokens * query + projected)


def shared_bias(stack: Pass) -> int:
    """Bytes of the bias of all heads that SDPA wants whole, the same for all layers, with its gradient if it learns."""
    model = stack.model
    whole = model.position in ("alibi", "buckets") and kernels.attention(stack.config, stack.use()) == "sdpa"
    if stack.composed(stack.use()):  # of each pair its bucket, and who sees whom
        shared = model.position == "disentangled" or (model.position == "buckets" and stack.of_operations(stack.use()))
        return stack.tokens**2 * (BUCKET * shared + stack.rows * (1 + model.two_stream))
    if not whole:
        return 0
    copies = 2 if model.position == "buckets" else 1
    return copies * stack.low * stack.rows * stack.tokens**2 * stack.sharing * model.heads
