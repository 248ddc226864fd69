"""What autograd keeps of a forward pass until the backward pass has read it, in bytes, layer by layer.

Counted for eager PyTorch with autocast: norms keep their input in fp32; of what goes into products one low-precision
copy is kept, and of the weight where a layer multiplies by itself: those joined into one product keep the weights
themselves (`trainer.models.products`). Attention keeps queries, keys, values, its output, one
logarithm per row and its mask, as fused kernels do (Dao et al. 2022); the reference keeps its scores. Which of them
runs is what `backends` says, for the run as for this account. A layer in fp8 keeps its input and its weight in 8 bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainer.books import kernels
from trainer.books.expert_ranks import held_numbers
from trainer.books.experts import expert_bytes, hidden_kept, trip_bytes
from trainer.books.linear import fp8_layers
from trainer.books.parameters import parameters
from trainer.books.tiles import copies_of_tiles
from trainer.config import Config
from trainer.config.disentangled import rows_used, score_terms
from trainer.config.host import fp8, precision
from trainer.config.linear import takes_fp8
from trainer.config.model import ModelConfig
from trainer.config.recomputation import any_block, in_tiles, scores, whole_block, whole_blocks
from trainer.descriptions.activations import ACTIVATIONS
from trainer.descriptions.norms import NORMS

FP32 = 4


@dataclass(frozen=True)
class Saved:
    """Bytes of one forward pass over one micro-batch that live until the backward pass."""

    blocks: int  # all blocks of all stacks, activations only
    kept: int  # all that is kept of them under the activation checkpointing that is chosen
    computed_again: int  # bytes of the blocks that are made a second time in the backward pass
    again: int  # the most of these that are there at a time
    weight_copies: int  # low-precision weights that autocast made
    copies_kept: int  # of these, those that live through the backward pass under activation checkpointing
    head_copy: int  # of these, that of the output matrix
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
    tokens: int  # per sequence, of a sequence that several ranks share those of one
    source: int = 0  # tokens of the encoder, likewise, for cross-attention

    @property
    def sharing(self) -> int:
        """Ranks that share each sequence."""
        return self.config.engine.sequence_parallel

    @property
    def by_heads(self) -> bool:
        """Whether attention is over whole sequences, of a part of the heads."""
        return self.sharing > 1 and self.config.engine.sequence_kind == "ulysses"

    @property
    def in_parts(self) -> bool:
        """Whether keys and values come part by part, so that scores are computed again whatever computes them."""
        return self.sharing > 1 and not self.by_heads

    @property
    def key_channels(self) -> int:
        """Of keys as attention is given them: of fewer heads than ranks, each is repeated."""
        heads = self.model.key_heads
        return (math.lcm(heads, self.sharing) if self.by_heads else heads) * self.model.head_channels

    @property
    def cast(self) -> bool:
        return precision(self.config) == "bf16"

    @property
    def low(self) -> int:
        return 2 if self.cast else FP32

    def in_fp8(self, inputs: int, outputs: int) -> bool:
        """Whether a linear layer of a block keeps its own copy of its input in 8 bits."""
        return fp8(self.config) and takes_fp8(inputs, outputs)

    def kept(self, inputs: int, outputs: int) -> int:
        """Bytes of its input that such a layer keeps per token."""
        return inputs * (1 if self.in_fp8(inputs, outputs) else self.low)

    @property
    def low_residual(self) -> bool:
        """A projected embedding comes out of autocast in low precision, and so does all that is added to it."""
        projected = self.model.embedding_channels != self.model.width and self.model.embedding_projection == "sum"
        return self.cast and projected

    def use(self, *, local: bool = False, across: bool = False) -> kernels.Use:
        return kernels.Use(self.model, self.source > 0 or self.model.family == "decoder", local, across)

    @property
    def composed(self) -> bool:
        """Whether attention keeps its probabilities: the reference, and on a CPU SDPA with a bias that learns."""
        learns = self.model.position in ("buckets", "relative", "disentangled")
        backend = kernels.attention(self.config, self.use())
        return backend == "reference" or (backend == "sdpa" and learns and kernels.device(self.config) == "cpu")


def _loss(config: Config, tokens: int, columns: int) -> tuple[int, int]:
    """(bytes of logits at the most, bytes of gradients that a fused loss leaves)."""
    low = 2 if precision(config) == "bf16" else FP32
    backend, device = kernels.output_layer(config), kernels.device(config)
    if config.task.outputs or backend is None:
        capped = config.model.logit_softcap is not None and not config.task.outputs and low == FP32
        return (3 + capped) * FP32 * tokens * (config.task.outputs or config.vocabulary), 0
    # Triton turns logits into their gradient in place; PyTorch's own operations hold the gradient in fp32 beside them,
    # and a copy of logits that are capped or of low precision.
    copied = low < FP32 or config.model.logit_softcap is not None
    each = low if backend == "triton" else low + FP32 * (1 + copied)
    padded = _head_rows(config)
    chunk, matrix = kernels.chunks.rows_per_chunk(tokens, padded, low, device) * padded, padded * columns
    rounded = low * matrix if low < FP32 and device == "cpu" else 0  # a chunk's part of the matrix's gradient, apart
    return max(chunk * each, low * chunk + rounded), low * tokens * columns + FP32 * matrix


def _head_rows(config: Config) -> int:
    """Of the copy of the output matrix that is multiplied with."""
    low = 2 if precision(config) == "bf16" else FP32
    return int(kernels.chunks.padded_columns(config.vocabulary, low, kernels.device(config)))


def saved(config: Config, rows: int, source: int, target: int) -> Saved:
    """What a micro-batch of `rows` sequences keeps alive; `source` and `target` as in `trainer.books.lengths`."""
    model, sharing = config.backbone, config.engine.sequence_parallel
    source, target = -(-source // sharing), -(-target // sharing)
    low = 2 if precision(config) == "bf16" else FP32
    streams = 2 if config.two_streams else 1
    stacks = [(_Pass(config, model, rows, source), model.depth)]
    if target:
        stacks.append((_Pass(config, model, rows, target, source), model.decoder_side.depth))
    kept_whole = 0
    if (small := model.generator) is not None:  # it keeps its activations, also under checkpointing
        generator = _Pass(config, small, rows, source)
        kept_whole = sum(_blocks(generator, small.depth)) + rows * source * low * small.width * 2
        kept_whole -= small.depth * _in_tiles(generator)[0]
    chosen = [_chosen(stack, depth, streams) for stack, depth in stacks]

    head, last = _Pass(config, model, rows, target or source), rows * (target or source)
    columns = model.width if model.family == "encoder_decoder" else model.embedding_channels
    around = kept_whole + (rows * (source + target) * _norm(head) if model.final_norm else 0) + last * low * columns
    around += rows * (source + target) * _norm(head) if model.embedding_norm else 0
    around += last * (low * (model.width + columns) + FP32 * columns) if model.head_transform else 0
    around += sum(_shared_bias(stack) for stack, _ in stacks)
    logits, head_gradients = _loss(config, last, columns)
    head_copy = 2 * _head_rows(config) * columns if low == 2 else 0
    return Saved(
        blocks=sum(one.blocks for one in chosen),
        kept=sum(one.kept for one in chosen),
        computed_again=sum(one.computed_again for one in chosen),
        again=max(one.again for one in chosen),
        weight_copies=_weight_copies(config) if low == 2 else 0,
        copies_kept=_copies_kept(config, head_copy) if low == 2 else 0,
        head_copy=head_copy,
        around=around,
        logits=logits,
        head_gradients=head_gradients,
        workspace=max(_workspace(stack) for stack, _ in stacks),
    )


@dataclass(frozen=True)
class _Chosen:
    """Of the blocks of one stack, as `Saved` has it of all."""

    blocks: int
    kept: int
    computed_again: int
    again: int


def _chosen(stack: _Pass, depth: int, streams: int) -> _Chosen:
    """streams: passes through each of the `depth` blocks."""
    model, choice = stack.model, stack.config.engine.activation_checkpointing
    tokens = stack.rows * stack.tokens
    routed = expert_bytes(model, stack.rows, stack.tokens, stack.low) - tokens * _fed(stack)
    layers = [size + routed * model.experts.at(layer) for layer, size in enumerate(_blocks(stack, depth))]
    blocks, (inside, at_a_time) = streams * sum(layers), _in_tiles(stack)
    if scores(choice):
        across = _scores(stack, stack.source, stack.use(across=True)) if stack.source else 0
        each = [_scores(stack, stack.tokens, stack.use(local=model.local(layer))) + across for layer in range(depth)]
        gone = streams * (sum(each) + depth * inside)
        return _Chosen(blocks, blocks - gone, gone, max(*each, at_a_time))
    again = [layers[layer] for layer in whole_blocks(choice, depth)]
    inputs = streams * len(again) * FP32 * model.width * tokens
    gone = streams * (sum(again) + (depth - len(again)) * inside)
    first = max(again) - inside if whole_block(choice, depth - 1) else 0  # else a block was given back before
    return _Chosen(blocks, blocks - gone + inputs, gone, first + at_a_time)


def _in_tiles(stack: _Pass) -> tuple[int, int]:
    """Bytes of the inside of a feed-forward that is computed again tile by tile: of all positions, and of those that
    are computed at a time. None where it is kept."""
    tile = stack.config.engine.feed_forward_tile
    if tile is None or not in_tiles(stack.config, stack.tokens):
        return 0, 0
    each = stack.rows * _fed(stack)
    return stack.tokens * each, tile * each


def _norm(stack: _Pass, *, of_branch: bool = False) -> int:
    """Bytes that a norm of the residual stream, or of what is added to it, keeps per token."""
    fused = kernels.norm(stack.config) == "triton"
    stream = stack.low if stack.low_residual or (of_branch and fused) else FP32
    return NORMS[stack.model.norm].saved(stack.model.width, stream=stream, fused=fused)


def _fed(stack: _Pass) -> int:
    """Bytes that the inside of a dense feed-forward keeps per token."""
    model, hidden = stack.model, stack.model.ffn_channels
    kept = stack.low * hidden_kept(model) * hidden
    if not stack.in_fp8(hidden, model.width):
        return kept
    # Its own copy takes the place of the last product's input, unless the activation needs its result itself.
    needed = not (model.gated or ACTIVATIONS[model.activation].saved or (model.dropout_inside and model.hidden_rate))
    return kept + stack.kept(hidden, model.width) - (0 if needed else stack.low * hidden)


def _blocks(stack: _Pass, depth: int) -> list[int]:
    """Bytes of each block; layers that see a window may run another attention than those that see all."""
    sizes = {local: _block(stack, local) for local in {stack.model.local(layer) for layer in range(depth)}}
    return [sizes[stack.model.local(layer)] for layer in range(depth)]


def _block(stack: _Pass, local: bool) -> int:
    model, low, tokens = stack.model, stack.low, stack.rows * stack.tokens
    width = model.width
    query, key = model.heads * model.head_channels, model.key_heads * model.head_channels
    apart = 1 if model.shared_norm else 2  # norms before the branches
    after = _norm(stack, of_branch=True) if model.norm_position == "sandwich" else 0
    norms = apart * _norm(stack) + 2 * after
    norms -= FP32 * width if model.parallel and not model.shared_norm else 0  # two norms read the same
    inputs = low * apart * width
    if fp8(stack.config):  # each product has its own copy, whose input no other layer keeps
        inputs = stack.kept(width, query) + stack.kept(width, model.ffn_channels)
    total = tokens * (norms + inputs + _own_output(stack) + _fed(stack))
    total += _attention(stack, stack.tokens, stack.use(local=local))
    if stack.source:
        inputs = stack.kept(width, query) + _own_output(stack)
        total += tokens * (_norm(stack) + after + inputs)
        total += _attention(stack, stack.source, stack.use(across=True))
        total += stack.rows * stack.source * stack.kept(width, key) * stack.cast
    return total


def _own_output(stack: _Pass) -> int:
    """Bytes that a projection in fp8 keeps per token beside what is kept of attention, whose kernels need its output
    themselves."""
    query = stack.model.heads * stack.model.head_channels
    if not stack.in_fp8(query, stack.model.width):
        return 0
    return stack.kept(query, stack.model.width) - (stack.low * query if stack.composed else 0)


def _attention(stack: _Pass, keys: int, use: kernels.Use) -> int:
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
    if model.position == "relative" and stack.composed:
        total += FP32 * tokens * query
    return total + _relative_rows(stack) + _scores(stack, keys, use)


def _scores(stack: _Pass, keys: int, use: kernels.Use) -> int:
    """Bytes that one attention keeps of what `selective` computes again: scores and what is made of them and for them,
    as far as the backend keeps it."""
    model, low, tokens, others = stack.model, stack.low, stack.rows * stack.tokens, stack.rows * keys
    query, key = model.heads * model.head_channels, stack.key_channels
    if stack.in_parts:
        return FP32 * tokens * model.heads  # one logarithm per row
    fused = kernels.attention(stack.config, use) == "triton"
    total = 0 if fused or model.key_heads == 1 else low * 2 * others * (query - key)  # keys and values, expanded
    square = tokens * keys * stack.sharing  # of this rank's part of the heads, at all positions
    if stack.composed:
        total += square * model.heads * (FP32 + (low if stack.cast else 0) + _reference_only(stack))
        if model.attention_rate:  # a byte a mask, and the probabilities before it
            total += square * model.heads * (1 + FP32)
        return total + (2 * FP32 * tokens * query if model.position == "relative" else 0)
    total += FP32 * tokens * model.heads  # one logarithm per row
    if model.position in ("relative", "disentangled"):
        return total + low * square * model.heads  # the bias of a layer; SDPA's holds its mask
    if not use.across and model.position in ("alibi", "buckets"):  # one for all layers, if there is one
        return total
    mask = low * square * stack.sharing  # of all positions, whatever the number of heads
    return total + (0 if fused or not kernels.masked(stack.config, use) else mask)


def _workspace(stack: _Pass) -> int:
    """Bytes that the backward pass of one layer takes for a while: what it adds up, sends and receives."""
    trip = (
        trip_bytes(stack.model, stack.rows, stack.tokens, stack.low) if stack.config.engine.expert_parallel > 1 else 0
    )
    return max(_ordered(stack) + _exchanged(stack), trip)


def _exchanged(stack: _Pass) -> int:
    """Bytes on their way in one attention over sequences that ranks share: by heads what is sent, beside what is kept
    of it; around a ring a second slice of keys and values, and their gradients in fp32, twice."""
    if stack.sharing == 1:
        return 0
    query, key = stack.model.heads * stack.model.head_channels, stack.key_channels
    tokens, others = stack.rows * stack.tokens, stack.rows * max(stack.tokens, stack.source)
    if stack.by_heads:
        return stack.low * (tokens * query + 2 * others * key)
    return 2 * 2 * others * key * (stack.low + FP32)


def _ordered(stack: _Pass) -> int:
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


def _relative_rows(stack: _Pass) -> int:
    """Bytes that the products with relative positions keep: of each a copy of queries or keys, and the rows."""
    model, terms = stack.model, len(score_terms(stack.model))
    if not terms:
        return 0
    query, (_, rows) = model.heads * model.head_channels, rows_used(model, stack.tokens)
    projected = rows * (stack.low * query + (stack.kept(model.width, query) if stack.cast else 0))
    return terms * (stack.low * stack.rows * stack.tokens * query + projected)


def _reference_only(stack: _Pass) -> int:
    """Bytes that the reference keeps of every score, beside its probabilities: their numerators, and capped scores."""
    if kernels.attention(stack.config, stack.use()) != "reference":
        return 0
    return (0 if stack.cast else FP32) + stack.low * (stack.model.score_softcap is not None)


def _shared_bias(stack: _Pass) -> int:
    """Bytes of the bias of all heads that SDPA wants whole, the same for all layers, with its gradient if it learns."""
    model = stack.model
    whole = model.position in ("alibi", "buckets") and kernels.attention(stack.config, stack.use()) == "sdpa"
    if not whole or stack.composed:
        return 0
    copies = 2 if model.position == "buckets" else 1
    return copies * stack.low * stack.rows * stack.tokens**2 * stack.sharing * model.heads


def share_of_blocks(config: Config) -> float:
    """Share of the blocks of all stacks that are computed again whole."""
    model, choice = config.backbone, config.engine.activation_checkpointing
    depths = [model.depth, *([model.decoder_side.depth] if model.family == "encoder_decoder" else [])]
    return sum(len(whole_blocks(choice, depth)) for depth in depths) / sum(depths)


def _copies_kept(config: Config, of_head: int) -> int:
    """Low-precision weights that are kept for the backward pass: those of blocks that are computed again are not."""
    choice, model = config.engine.activation_checkpointing, config.backbone
    every = _weight_copies(config) - copies_of_tiles(config)
    if not any_block(choice) or model.shared_layers:
        return of_head if any_block(choice) else every
    return of_head + round((every - of_head) * (1 - share_of_blocks(config)))


def _weight_copies(config: Config) -> int:
    """Every matrix that a linear layer multiplies with by itself, in two bytes; in fp8 every one, a byte a call."""
    account, model = parameters(config), config.backbone
    generator = account.generator - account.generators_embedding
    joined = _joined(model) + (0 if model.generator is None else _joined(model.generator))
    if model.family == "encoder_decoder":
        joined += _joined(model.decoder_side, cross=True)
    by_itself = account.attention + account.feed_forward + account.shared + account.head + generator - joined
    by_itself -= account.total - held_numbers(config)  # experts of other ranks
    eight = fp8_layers(config, 1)
    taken = max(0, sum(one.numbers * one.matrices for one in eight) - joined)
    return 2 * (by_itself - taken) + sum(one.numbers * one.calls for one in eight)


def _joined(model: ModelConfig, *, cross: bool = False) -> int:
    """Numbers in the matrices of a stack that products of several hold: no copy of them is kept."""
    query, key = model.width * model.heads * model.head_channels, model.width * model.key_heads * model.head_channels
    blocks, experts = 1 if model.shared_layers else model.depth, model.experts.layers(model.depth)
    attention = 2 * key * (1 + cross) + query * (not model.two_stream)  # the query stream multiplies by itself
    if len(score_terms(model)) == 2 and not model.relative_shared:
        attention += 2 * query
    inwards = (blocks - experts) * model.ffn_channels + experts * model.experts.shared * model.expert_channels
    return blocks * attention + 2 * model.gated * model.width * inwards
