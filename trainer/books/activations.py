"""What autograd keeps of a forward pass until the backward pass has read it, in bytes, layer by layer.

Counted for eager PyTorch with autocast: norms keep their input in fp32; of what goes into products one low-precision
copy is kept, and of the weight where a layer multiplies by itself: those joined into one product keep the weights
themselves (`trainer.models.products`). Attention keeps queries, keys, values, its output, one
logarithm per row and its mask, as fused kernels do (Dao et al. 2022); the reference keeps its scores. Which of them
runs is what `backends` says, for the run as for this account. A layer in fp8 keeps its input and its weight in 8 bits.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

from trainer.books import kernels
from trainer.books.attention_kept import Passing, attention_bytes, passing_bytes, score_bytes, shared_bias, workspace
from trainer.books.ends import detection_bytes, embedding_bytes, head_bytes, head_rows, loss_bytes
from trainer.books.expert_ranks import held_numbers
from trainer.books.experts import expert_bytes, hidden_kept
from trainer.books.linear import fp8_layers
from trainer.books.parameters import parameters
from trainer.books.stack_pass import FP32, Pass
from trainer.books.tiles import copies_of_tiles
from trainer.config import Config
from trainer.config.disentangled import score_terms
from trainer.config.host import fp8, precision
from trainer.config.model import ModelConfig
from trainer.config.recomputation import any_block, in_tiles, scores, whole_block, whole_blocks
from trainer.descriptions.activations import ACTIVATIONS
from trainer.descriptions.norms import NORMS


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
    beside: int = 0  # that the last attention of the forward pass takes beyond the end of that
    generator: int = 0  # of `around`, all that belongs to ELECTRA's generator
    low: int = FP32  # of a number in products
    generators_copies: int = 0  # of `weight_copies`, its own and that of the output matrix


def saved(config: Config, rows: int, source: int, target: int) -> Saved:
    """What a micro-batch of `rows` sequences keeps alive; `source` and `target` as in `trainer.books.lengths`."""
    model, sharing = config.backbone, config.engine.sequence_parallel
    source, target = -(-source // sharing), -(-target // sharing)
    low = 2 if precision(config) == "bf16" else FP32
    stacks = [(Pass(config, model, rows, source), model.depth)]
    if target:
        stacks.append((Pass(config, model, rows, target, source), model.decoder_side.depth))
    chosen = [_chosen(stack, depth, 1 + config.two_streams) for stack, depth in stacks]

    last = stacks[-1][0]
    columns = model.width if model.family == "encoder_decoder" else model.embedding_channels
    around = sum(_ends(stack) + shared_bias(stack) for stack, _ in stacks)
    of_generator = _generator_bytes(config, rows, source)
    around += of_generator + detection_bytes(last) if of_generator else head_bytes(last)
    after = [sum(one.kept for one in chosen[at + 1 :]) for at in range(len(chosen))]
    passing = [_beside(*stack, 1 + config.two_streams, bytes_) for stack, bytes_ in zip(stacks, after, strict=True)]
    logits, head_gradients = loss_bytes(config, rows * last.tokens, columns)
    head_copy = 2 * head_rows(config) * columns if low == 2 else 0
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
        workspace=max(*(workspace(stack) for stack, _ in stacks), *(one.backward for one in passing)),
        beside=max(one.forward for one in passing),
        generator=of_generator,
        low=low,
        generators_copies=head_copy + _generators_copies(config) if low == 2 and of_generator else 0,
    )


def _ends(stack: Pass) -> int:
    """Bytes of an embedding and of the norm after the last block."""
    return embedding_bytes(stack) + stack.rows * stack.tokens * _norm(stack) * stack.model.final_norm


def _generator_bytes(config: Config, rows: int, tokens: int) -> int:
    """Of ELECTRA's generator under its head; it keeps its activations under checkpointing too."""
    if (small := config.backbone.generator) is None:
        return 0
    stack = Pass(config, small, rows, tokens)
    return sum(_blocks(stack, small.depth)) - small.depth * _in_tiles(stack)[0] + _ends(stack) + head_bytes(stack)


@dataclass(frozen=True)
class _Chosen:
    """Of the blocks of one stack, as `Saved` has it of all."""

    blocks: int
    kept: int
    computed_again: int
    again: int


def _chosen(stack: Pass, depth: int, streams: int) -> _Chosen:
    """streams: passes through each of the `depth` blocks; of two, nobody reads what the last block makes of one."""
    model, choice = stack.model, stack.config.engine.activation_checkpointing
    tokens = stack.rows * stack.tokens
    routed = expert_bytes(model, stack.rows, stack.tokens, stack.low) - tokens * _fed(stack)
    layers = [size + routed * model.experts.at(layer) for layer, size in enumerate(_blocks(stack, depth))]
    passes = [1 if layer == depth - 1 else streams for layer in range(depth)]
    blocks, (inside, at_a_time) = sum(map(operator.mul, passes, layers)), _in_tiles(stack)
    blocks += stack.low * model.width * tokens * depth * (streams - 1) * stack.cast  # queries read another stream
    if scores(choice):
        across = score_bytes(stack, stack.source, stack.use(across=True)) if stack.source else 0
        each = [
            score_bytes(stack, stack.tokens, stack.use(local=model.local(layer))) + across for layer in range(depth)
        ]
        gone = sum(map(operator.mul, passes, each)) + sum(passes) * inside
        return _Chosen(blocks, blocks - gone, gone, max(*each, at_a_time))
    again = list(whole_blocks(choice, depth))
    often = sum(passes[layer] for layer in again)
    gone = sum(passes[layer] * layers[layer] for layer in again) + (sum(passes) - often) * inside
    inputs = often * FP32 * model.width * tokens
    first = max(layers[layer] for layer in again) - inside if whole_block(choice, depth - 1) else 0
    return _Chosen(blocks, blocks - gone + inputs, gone, first + at_a_time)  # without `first` a block is given back


def _in_tiles(stack: Pass) -> tuple[int, int]:
    """Bytes of the inside of a feed-forward that is computed again tile by tile: of all positions, and of those that
    are computed at a time. None where it is kept."""
    tile = stack.config.engine.feed_forward_tile
    if tile is None or not in_tiles(stack.config, stack.tokens):
        return 0, 0
    each = stack.rows * _fed(stack)
    return stack.tokens * each, tile * each


def _norm(stack: Pass, *, of_branch: bool = False) -> int:
    """Bytes that a norm of the residual stream, or of what is added to it, keeps per token."""
    fused = kernels.norm(stack.config) == "triton"
    stream = stack.low if stack.low_residual or (of_branch and fused) else FP32
    return NORMS[stack.model.norm].saved(stack.model.width, stream=stream, fused=fused)


def _fed(stack: Pass) -> int:
    """Bytes that the inside of a dense feed-forward keeps per token."""
    model, hidden = stack.model, stack.model.ffn_channels
    kept = stack.low * hidden_kept(model) * hidden
    if not stack.in_fp8(hidden, model.width):
        return kept
    # Its own copy takes the place of the last product's input, unless the activation needs its result itself.
    needed = not (model.gated or ACTIVATIONS[model.activation].saved or (model.dropout_inside and model.hidden_rate))
    return kept + stack.kept(hidden, model.width) - (0 if needed else stack.low * hidden)


def _blocks(stack: Pass, depth: int) -> list[int]:
    """Bytes of each block; layers that see a window may run another attention than those that see all."""
    sizes = {local: _block(stack, local) for local in {stack.model.local(layer) for layer in range(depth)}}
    return [sizes[stack.model.local(layer)] for layer in range(depth)]


def _block(stack: Pass, local: bool) -> int:
    """Bytes of a block: its attention to its own stack, and what follows."""
    model, own = stack.model, stack.use(local=local)
    each = _norm(stack) + _sandwich(stack) + _own_output(stack, own)
    each += stack.kept(model.width, model.heads * model.head_channels)
    return stack.rows * stack.tokens * each + attention_bytes(stack, stack.tokens, own) + _rest(stack)


def _rest(stack: Pass) -> int:
    """Bytes that a block keeps after its attention to its own stack."""
    model, width, tokens = stack.model, stack.model.width, stack.rows * stack.tokens
    query, key = model.heads * model.head_channels, model.key_heads * model.head_channels
    if not stack.source:
        return _second(stack)
    across = stack.use(across=True)
    each = _norm(stack) + _sandwich(stack) + stack.kept(width, query) + _own_output(stack, across)
    of_source = stack.rows * stack.source * stack.kept(width, key) * stack.cast
    return tokens * each + attention_bytes(stack, stack.source, across) + of_source + _second(stack)


def _second(stack: Pass) -> int:
    """Bytes of a feed-forward with its norm."""
    model, width = stack.model, stack.model.width
    each = _sandwich(stack) + _fed(stack)
    if not model.shared_norm:  # norms of parallel branches read the same
        each += _norm(stack) - FP32 * width * model.parallel
    if not model.shared_norm or fp8(stack.config):  # each product in fp8 has its own copy
        each += stack.kept(width, model.ffn_channels)
    return stack.rows * stack.tokens * each


def _sandwich(stack: Pass) -> int:
    """Bytes per token of a norm after a branch, where there is one."""
    return _norm(stack, of_branch=True) if stack.model.norm_position == "sandwich" else 0


def _beside(stack: Pass, depth: int, streams: int, after: int) -> Passing:
    """Bytes that the last attention of a pass takes for a while, beyond what the rest of its block and the next stack,
    of `after` bytes, will keep or have given back.

    Of two streams the last is read by nobody, and in the forward pass its block is there as well."""
    local = stack.model.local(depth - 1)
    later = [(passing_bytes(stack, stack.tokens, stack.use(local=local)), _rest(stack))]
    if stack.source:
        later.append((passing_bytes(stack, stack.source, stack.use(across=True)), _second(stack)))
    unread = _block(stack, local) if streams > 1 else 0
    forward = max(one.forward + unread - rest for one, rest in later)
    backward = max(one.backward - rest for one, rest in later)
    return Passing(max(0, forward - after), max(0, backward - after))


def _own_output(stack: Pass, use: kernels.Use) -> int:
    """Bytes that a projection in fp8 keeps per token beside what is kept of attention, whose kernels need its output
    themselves."""
    query = stack.model.heads * stack.model.head_channels
    if not stack.in_fp8(query, stack.model.width):
        return 0
    return stack.kept(query, stack.model.width) - (stack.low * query if stack.composed(use) else 0)


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


def _generators_copies(config: Config) -> int:
    """Those of ELECTRA's generator."""
    account, small = parameters(config), config.backbone.generator
    return 0 if small is None else 2 * (account.generator - account.generators_embedding - _joined(small))


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
    attention += query * (model.position == "relative")  # distances, which learn nothing, let go of their matrix's copy
    if len(score_terms(model)) == 2 and not model.relative_shared:
        attention += 2 * query
    inwards = (blocks - experts) * model.ffn_channels + experts * model.experts.shared * model.expert_channels
    return blocks * attention + 2 * model.gated * model.width * inwards
