"""What autograd keeps of a forward pass until the backward pass has read it, in bytes, layer by layer.

Counted for eager PyTorch with autocast: norms keep their input in fp32, every linear layer keeps its own low-precision
copy of its input (autocast casts per call) and of its weight. Attention keeps queries, keys, values, its output, one
logarithm per row and its mask, as fused kernels do (Dao et al. 2022); the reference keeps its scores. Which of them
runs is what `backends` says, for the run as for this account.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.books import kernels
from trainer.books.experts import expert_bytes, hidden_kept
from trainer.books.parameters import parameters
from trainer.config import Config
from trainer.config.disentangled import rows_used, score_terms
from trainer.config.host import precision
from trainer.config.model import ModelConfig
from trainer.descriptions.norms import NORMS

FP32 = 4
CHUNK_BYTES = 1 << 28  # of logits that a fused loss makes at a time


@dataclass(frozen=True)
class Saved:
    """Bytes of one forward pass over one micro-batch that live until the backward pass."""

    block: int  # the largest block, activations only
    blocks: int  # all blocks of all stacks
    carried: int  # all that is kept of the blocks under checkpointing: their inputs
    weight_copies: int  # low-precision weights that autocast made
    head_copy: int  # of these, outside of the blocks
    around: int  # embedding, last norm, input of the head
    logits: int  # at the most: logits, their logarithms and gradients, fp32 each; of one chunk where the loss is fused
    head_gradients: int = 0  # that a fused loss forms in the forward pass: of its input and of the output matrix
    workspace: int = 0  # that the backward pass of one attention takes beside its gradients


@dataclass(frozen=True)
class _Pass:
    """One forward pass of one stack."""

    config: Config
    model: ModelConfig
    rows: int  # sequences
    tokens: int  # per sequence
    source: int = 0  # tokens of the encoder, per sequence, for cross-attention

    @property
    def cast(self) -> bool:
        return precision(self.config) == "bf16"

    @property
    def low(self) -> int:
        return 2 if self.cast else FP32

    @property
    def low_residual(self) -> bool:
        """A projected embedding comes out of autocast in low precision, and so does all that is added to it."""
        projected = self.model.embedding_channels != self.model.width and self.model.embedding_projection == "sum"
        return self.cast and projected

    @property
    def composed(self) -> bool:
        """Whether attention keeps its probabilities: the reference, and on a CPU SDPA with a bias that learns."""
        learns = self.model.position in ("buckets", "relative", "disentangled")
        backend = kernels.attention(self.config)
        return backend == "reference" or (backend == "sdpa" and learns and kernels.device(self.config) == "cpu")


def rows_per_chunk(tokens: int, vocabulary: int, element_bytes: int) -> int:
    """How many tokens' logits a fused loss holds at a time (as `kernels.loss.op.rows_per_chunk`)."""
    fitting = max(1, CHUNK_BYTES // max(1, vocabulary * element_bytes))
    size = max(128, min(1 << (fitting.bit_length() - 1), 1 << max(0, tokens // 8).bit_length()))
    return min(size, max(1, tokens))


def _loss(config: Config, tokens: int, columns: int) -> tuple[int, int]:
    """(bytes of logits at the most, bytes of gradients that a fused loss leaves)."""
    vocabulary, low = config.vocabulary, 2 if precision(config) == "bf16" else FP32
    backend = kernels.output_layer(config)
    if config.task.outputs or backend is None:
        capped = config.model.logit_softcap is not None and not config.task.outputs and low == FP32
        return (3 + capped) * FP32 * tokens * (config.task.outputs or vocabulary), 0
    # Triton turns logits into their gradient in place; PyTorch's own operations hold the gradient in fp32 beside them,
    # and a copy of logits that are capped or of low precision.
    copied = low < FP32 or config.model.logit_softcap is not None
    each = low if backend == "triton" else low + FP32 * (1 + copied)
    chunk, matrix = rows_per_chunk(tokens, vocabulary, low) * vocabulary, vocabulary * columns
    return max(chunk * each, low * (chunk + matrix)), low * tokens * columns + FP32 * matrix


def saved(config: Config, rows: int, source: int, target: int) -> Saved:
    """What a micro-batch of `rows` sequences keeps alive; `source` and `target` as in `trainer.books.lengths`."""
    model = config.backbone
    low = 2 if precision(config) == "bf16" else FP32
    streams = 2 if config.two_streams else 1
    stacks = [(_Pass(config, model, rows, source), model.depth * streams)]
    if target:
        stacks.append((_Pass(config, model, rows, target, source), model.decoder_side.depth))
    kept_whole = 0
    if (small := model.generator) is not None:  # it keeps its activations, also under checkpointing
        generator = _Pass(config, small, rows, source)
        kept_whole = small.depth * _block(generator) + rows * source * low * small.width * 2
    each = [_block(stack) for stack, _ in stacks]
    with_experts = [model.experts.layers(side.depth) for side in (model, model.decoder_side)][: len(stacks)]
    more = [expert_bytes(model, one.rows, one.tokens, one.low) - one.rows * one.tokens * _fed(one) for one, _ in stacks]
    routed = sum(extra * layers for extra, layers in zip(more, with_experts, strict=True))
    largest = max(
        size + (max(0, extra) if layers else 0) for size, extra, layers in zip(each, more, with_experts, strict=True)
    )

    head, last = _Pass(config, model, rows, target or source), rows * (target or source)
    columns = model.width if model.family == "encoder_decoder" else model.embedding_channels
    around = kept_whole + (rows * (source + target) * _norm(head) if model.final_norm else 0) + last * low * columns
    around += rows * (source + target) * _norm(head) if model.embedding_norm else 0
    around += last * (low * (model.width + columns) + FP32 * columns) if model.head_transform else 0
    around += sum(_shared_bias(stack) for stack, _ in stacks)
    logits, head_gradients = _loss(config, last, columns)
    return Saved(
        block=largest,
        blocks=sum(size * depth for size, (_, depth) in zip(each, stacks, strict=True)) + routed,
        carried=sum(FP32 * model.width * rows * stack.tokens * depth for stack, depth in stacks),
        weight_copies=_weight_copies(config) if low == 2 else 0,
        head_copy=2 * config.vocabulary * columns if low == 2 else 0,
        around=around,
        logits=logits,
        head_gradients=head_gradients,
        workspace=max(_workspace(stack, keys) for stack, _ in stacks for keys in (stack.tokens, stack.source) if keys),
    )


def _norm(stack: _Pass) -> int:
    """Bytes that a norm of the residual stream keeps per token."""
    stream, fused = stack.low if stack.low_residual else FP32, kernels.norm(stack.config) == "triton"
    return NORMS[stack.model.norm].saved(stack.model.width, stream=stream, fused=fused)


def _fed(stack: _Pass) -> int:
    """Bytes that the inside of a dense feed-forward keeps per token."""
    return stack.low * hidden_kept(stack.model) * stack.model.ffn_channels


def _block(stack: _Pass) -> int:
    model, low, tokens = stack.model, stack.low, stack.rows * stack.tokens
    width = model.width
    apart = 1 if model.shared_norm else 2  # norms before the branches
    copies = (3 + (2 if model.gated else 1)) if stack.cast and not stack.low_residual else apart  # of their outputs
    after = 2 if model.norm_position == "sandwich" else 0
    norms = (apart + after) * _norm(stack)
    norms -= FP32 * width if model.parallel and not model.shared_norm else 0  # two norms read the same
    total = tokens * (norms + low * copies * width + _fed(stack))
    total += _attention(stack, stack.tokens)
    if stack.source:
        total += tokens * ((1 + after // 2) * _norm(stack) + low * width) + _attention(stack, stack.source, across=True)
        total += stack.rows * stack.source * low * width * (2 if stack.cast else 0)
    return total


def _attention(stack: _Pass, keys: int, *, across: bool = False) -> int:
    model, low, tokens, others = stack.model, stack.low, stack.rows * stack.tokens, stack.rows * keys
    query, key = model.heads * model.head_channels, model.key_heads * model.head_channels
    fused = kernels.attention(stack.config) == "triton"
    total = low * (
        2 * tokens * query + 2 * others * (key if fused or model.key_heads == 1 else query)
    )  # query, output; key, value, expanded
    if model.qk_norm != "none":  # in fp32: input, normalised input, statistics
        heads = model.heads + model.key_heads
        statistics = {"projection": 2, "head": heads, "heads": 2 * heads}[model.qk_norm]
        total += FP32 * (tokens * 2 * query + others * 2 * key + tokens * statistics)
    total += _relative_rows(stack)
    square = tokens * keys
    if stack.composed:
        total += square * model.heads * (FP32 + (low if stack.cast else 0) + _reference_only(stack))
        if model.attention_rate:  # a byte a mask, and the probabilities before it
            total += square * model.heads * (1 + FP32)
        return total + (3 * FP32 * tokens * query if model.position == "relative" else 0)
    total += FP32 * tokens * model.heads  # one logarithm per row
    if fused or (not across and model.position in ("alibi", "buckets")):  # no mask, or one for all layers
        return total
    own = model.position in ("relative", "disentangled")
    heads = model.heads if own else 1  # the bias of a layer holds its mask
    return total + low * square * heads


def _workspace(stack: _Pass, keys: int) -> int:
    """Bytes of the ordered backward pass, which adds dQ in float32."""
    model, choice = stack.model, kernels.choice
    asked = stack.config.kernels.backward == "ordered" and kernels.attention(stack.config) == "triton"
    if not asked or choice.ordered_lacks(model.head_channels, stack.low):
        return 0
    return int(choice.ordered_bytes(stack.rows, model.heads, stack.tokens, keys, model.head_channels))


def _relative_rows(stack: _Pass) -> int:
    """Bytes that the products with relative positions keep: of each a copy of queries or keys, and the rows."""
    model, terms = stack.model, len(score_terms(stack.model))
    if not terms:
        return 0
    query, (_, rows) = model.heads * model.head_channels, rows_used(model, stack.tokens)
    projected = rows * (query + (model.width if stack.cast else 0))
    return terms * stack.low * (stack.rows * stack.tokens * query + projected)


def _reference_only(stack: _Pass) -> int:
    """Bytes that the reference keeps of every score, beside its probabilities: their numerators, and capped scores."""
    if kernels.attention(stack.config) != "reference":
        return 0
    return (0 if stack.cast else FP32) + stack.low * (stack.model.score_softcap is not None)


def _shared_bias(stack: _Pass) -> int:
    """Bytes of the bias of all heads that SDPA wants whole, the same for all layers, with its gradient if it learns."""
    model = stack.model
    if kernels.attention(stack.config) != "sdpa" or stack.composed or model.position not in ("alibi", "buckets"):
        return 0
    copies = 2 if model.position == "buckets" else 1
    return copies * stack.low * stack.rows * stack.tokens**2 * model.heads


def _weight_copies(config: Config) -> int:
    """Every matrix that a linear layer multiplies with, in two bytes."""
    account = parameters(config)
    generator = account.generator - account.generators_embedding
    return 2 * (account.attention + account.feed_forward + account.shared + account.head + generator)
