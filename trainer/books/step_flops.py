"""Floating-point operations of a step, to the operation.

Convention: a matrix product of [m, k] with [k, n] is 2mnk operations; additions of biases, norms, activations, softmax
and the rotation of positions are not counted (as in `torch.utils.flop_counter`). Attention counts the full square of
queries and keys, without halving for causality and without subtracting what a window or a document mask hides. The
backward pass of a matrix product is two products of the same size. Model FLOPs leave out everything that is computed
twice; that is `recomputed`: a block's forward pass, or the scores, under activation checkpointing, and the scores that
a fused attention kernel computes again in its backward pass (one of five products, Dao et al. 2022, section 3.1), and
attention as a whole where it goes around a ring of ranks (`trainer.models.sequence.ring`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from trainer.books.experts import last_channels, routed_flop
from trainer.books.layout import micro_batches
from trainer.books.lengths import lengths
from trainer.books.parameters import parameters
from trainer.books.rollouts import NO_ROLLOUTS, RolloutAccount, generation_flops, reward_reader
from trainer.books.tiles import tiles_again
from trainer.config import Config
from trainer.config.disentangled import rows_used, score_terms
from trainer.config.division import data_ranks
from trainer.config.model import ModelConfig
from trainer.config.recomputation import any_block, scores, whole_blocks
from trainer.config.sequence import in_a_ring

AttentionBackward = Literal["composed", "fused"]


@dataclass(frozen=True)
class FlopAccount:
    """Operations of one sample's forward pass by part, at data.sequence_length; and of the whole run."""

    projections: int  # of attention: queries, keys, values, output
    scores: int  # queries times keys, probabilities times values
    feed_forward: int  # of experts what is computed, and the router
    head: int  # output matrix and everything else between the blocks and the loss
    embedding: int  # projection of a factorised embedding
    generator: int  # ELECTRA's, all of it
    forward_only: int  # part of the above whose result is not needed, so that it has no backward pass
    pass_forward: int  # per forward pass, whatever its number of samples
    pass_backward: int
    recomputed_sample: int
    recomputed_pass: int
    samples_per_step: int
    passes_per_step: int
    tokens_per_step: int
    six_n_step: int  # 6 x weights x the tokens that pass them
    twelve_lhqt_step: int  # 12 L H Q T per token (Chowdhery et al. 2022, appendix B)
    rollouts: RolloutAccount = NO_ROLLOUTS  # of a step: answers that a policy writes, at the most
    # Of the whole run, over all its sequence lengths; 0 where only a measured budget ends it.
    total: int = 0  # model FLOPs
    hardware_total: int = 0  # with recomputation
    six_nd: int = 0  # the usual estimate 6 N D, beside the exact count

    @property
    def forward_sample(self) -> int:
        return self.projections + self.scores + self.feed_forward + self.head + self.embedding + self.generator

    @property
    def forward_per_step(self) -> int:
        passes = self.samples_per_step * self.forward_sample + self.passes_per_step * self.pass_forward
        return passes + self.rollouts.total

    @property
    def backward_per_step(self) -> int:
        sample = 2 * (self.forward_sample - self.forward_only)
        return self.samples_per_step * sample + self.passes_per_step * self.pass_backward

    @property
    def recomputed_per_step(self) -> int:
        """Beyond the model FLOPs."""
        return self.samples_per_step * self.recomputed_sample + self.passes_per_step * self.recomputed_pass

    @property
    def per_step(self) -> int:
        """Model FLOPs of one optimizer step, over all ranks: forward and backward, no recomputation."""
        return self.forward_per_step + self.backward_per_step

    @property
    def per_token(self) -> float:
        """Model FLOPs of training on one token (of data.sequence_length)."""
        return self.per_step / self.tokens_per_step

    @property
    def hardware_per_step(self) -> int:
        """With recomputation: the numerator of HFU."""
        return self.per_step + self.recomputed_per_step


@dataclass
class _Work:
    """Forward operations of blocks."""

    projections: int = 0
    scores: int = 0
    feed_forward: int = 0
    shared: int = 0  # per pass: what does not depend on the number of samples
    biases: int = 0  # part of the scores that a kernel of attention is given

    def add(self, other: _Work, times: int = 1) -> None:
        self.projections += times * other.projections
        self.scores += times * other.scores
        self.feed_forward += times * other.feed_forward
        self.shared += times * other.shared
        self.biases += times * other.biases

    def copy(self) -> _Work:
        return replace(self)

    @property
    def of_kernels(self) -> int:
        """Scores without their biases."""
        return self.scores - self.biases

    @property
    def per_sample(self) -> int:
        return self.projections + self.scores + self.feed_forward


def step_flops(config: Config, attention_backward: AttentionBackward) -> FlopAccount:
    model = config.backbone
    source, target = lengths(config)
    two_streams = config.two_streams
    work, forward_only = _Work(), _Work()
    work.add(_blocks(model, source), 2 if two_streams else 1)
    if two_streams:  # the last block's content stream has no reader
        forward_only = _block(model, source)
    if target:
        work.add(_blocks(model.decoder_side, target, source))
    reference = config.task.reference  # reads all that the policy reads, and learns nothing
    if reference:
        work.add(forward_only := work.copy())
    generator, generator_work = 0, _Work()
    if (small := model.generator) is not None:
        generator_work.add(_block(small, source), small.depth)
        generator = generator_work.per_sample + _projection(small, source) + _token_head(config, small, source)

    learned = _Work(
        work.projections - forward_only.projections,
        work.scores - forward_only.scores,
        work.feed_forward - forward_only.feed_forward,
        work.shared - forward_only.shared,
        work.biases - forward_only.biases,
    )
    recomputed_sample = recomputed_pass = 0
    if ring := in_a_ring(config):  # the backward pass computes every part once more, whatever computes it
        recomputed_sample += learned.scores
    if attention_backward == "fused":
        recomputed_sample += (learned.of_kernels + generator_work.of_kernels) // 2
    choice = config.engine.activation_checkpointing  # ELECTRA's generator keeps its activations
    if scores(choice) and not ring:  # queries times keys; the product with the values only where a kernel makes both
        products = learned.of_kernels if attention_backward == "fused" else learned.of_kernels // 2
        recomputed_sample += products + learned.biases
    if any_block(choice):
        again = _again(config, source, target)
        recomputed_sample += again.per_sample
        recomputed_pass = again.shared

    recomputed_sample += tiles_again(config)

    projection = _projection(model, source) + (_projection(model, target) if target else 0)
    head = _head(config, source, target)
    if config.routes_twice:  # a forward pass before the step, for the loads of the batch
        recomputed_sample += work.per_sample + projection + head
        recomputed_pass += work.shared
    batch = config.optim.batch_size * config.task.rows
    return FlopAccount(
        projections=work.projections,
        scores=work.scores,
        feed_forward=work.feed_forward,
        head=head * (1 + reference),
        embedding=projection * (1 + reference),
        generator=generator,
        forward_only=forward_only.per_sample + (head + projection) * reference,
        pass_forward=work.shared + generator_work.shared,
        # Where their input is a table of sinusoids, only the weight has a gradient.
        pass_backward=(learned.shared + generator_work.shared) * (2 if score_terms(model) else 1),
        recomputed_sample=recomputed_sample,
        recomputed_pass=recomputed_pass,
        samples_per_step=batch,
        passes_per_step=micro_batches(config) * data_ranks(config),
        tokens_per_step=batch * config.data.sequence_length,
        six_n_step=_six_n(config, source, target) * batch,
        twelve_lhqt_step=3 * (work.scores + generator_work.scores) * batch,
        rollouts=_rollouts(config) if config.task.writes else NO_ROLLOUTS,
    )


def _again(config: Config, source: int, target: int) -> _Work:
    """Of the checkpointed blocks of one sample. Recomputation stops when everything that was saved is back, before the
    last product of a block, unless a norm follows it."""
    model, choice, work = config.backbone, config.engine.activation_checkpointing, _Work()
    sides = [(model, source, 0), *([(model.decoder_side, target, source)] if target else [])]
    for side, tokens, across in sides:
        for layer in whole_blocks(choice, side.depth):
            routed = side.experts.at(layer)
            # Of two streams, the last block's content stream has no reader.
            streams = 1 + (config.two_streams and layer < side.depth - 1)
            work.add(_routed_block(side, tokens, across) if routed else _block(side, tokens, across), streams)
            if side.norm_position == "pre":
                channels = last_channels(side) if routed else side.ffn_channels
                work.feed_forward -= streams * 2 * side.width * tokens * channels
    return work


def _rollouts(config: Config) -> RolloutAccount:
    """Of the answers to a step's prompts."""

    def block(model: ModelConfig, tokens: int, source: int) -> int:
        return _block(model, tokens, source).per_sample

    prompts, reader = config.optim.batch_size, reward_reader(config)
    reads = 0 if reader is None else step_flops(reader, "composed").forward_sample
    written = generation_flops(config, block, _token_head(config, config.model, 1), _projection)
    return RolloutAccount(prompts * written, prompts * config.task.samples * reads)


def flop_per_step(config: Config) -> int:
    """Model FLOPs of a step as budget.flop counts them: as if in one pass on one rank, so the same on any machine."""
    account = step_flops(config, "composed")
    return account.per_step - (account.passes_per_step - 1) * (account.pass_forward + account.pass_backward)


def _blocks(model: ModelConfig, tokens: int, source: int = 0) -> _Work:
    """All blocks of a stack, dense ones and those with experts."""
    work, routed = _Work(), model.experts.layers(model.depth)
    work.add(_block(model, tokens, source), model.depth - routed)
    if routed:
        work.add(_routed_block(model, tokens, source), routed)
    return work


def _routed_block(model: ModelConfig, tokens: int, source: int = 0) -> _Work:
    """`_block` with experts."""
    return replace(_block(model, tokens, source), feed_forward=routed_flop(model, tokens))


def _block(model: ModelConfig, tokens: int, source: int = 0) -> _Work:
    """One dense block's forward pass over `tokens` of one sample; `source`: tokens of the encoder it attends to."""
    width, query, key = model.width, model.heads * model.head_channels, model.key_heads * model.head_channels
    work = _Work(
        projections=2 * tokens * width * (2 * query + 2 * key),
        scores=4 * tokens * tokens * query,
        feed_forward=2 * tokens * width * model.ffn_channels * (3 if model.gated else 2),
    )
    if source:
        work.projections += 2 * width * (2 * tokens * query + 2 * source * key)
        work.scores += 4 * tokens * source * query
    if model.position == "relative":  # distances from `tokens` to -`tokens`, projected once for all samples
        work.biases = 2 * tokens * 2 * tokens * query
        work.shared = 2 * 2 * tokens * width * query
    if terms := len(score_terms(model)):  # rows of relative positions, projected once for all samples
        _, rows = rows_used(model, tokens)
        work.biases = terms * 2 * tokens * rows * query
        work.shared = terms * 2 * rows * width * query
    work.scores += work.biases
    return work


def _projection(model: ModelConfig, tokens: int) -> int:
    return 2 * tokens * model.embedding_channels * model.width if model.embedding_channels != model.width else 0


def _token_head(config: Config, model: ModelConfig, tokens: int) -> int:
    """From the residual stream to logits over the vocabulary."""
    columns = model.width if model.family == "encoder_decoder" else model.embedding_channels
    between = model.family == "decoder" and columns != model.width
    transform = 2 * tokens * model.width * columns if model.head_transform or between else 0
    return transform * (model.family != "encoder_decoder") + 2 * tokens * columns * config.vocabulary


def _head(config: Config, source: int, target: int) -> int:
    model = config.model
    if config.task.outputs:
        return _new_head(config, target or source)
    if model.generator is not None:  # a detector on every token
        return 2 * source * (model.width**2 + model.width)
    head = _token_head(config, model, target or source)
    if model.sentence_head and config.objective.description.labels_pairs(config.objective):
        head += 2 * model.width**2 + 2 * model.width * 2
    return head


def _new_head(config: Config, tokens: int) -> int:
    """Of tuning: one vector a row through a dense layer and to the outputs, or every token to the outputs."""
    width, outputs = config.model.width, config.task.outputs
    if config.task.pools:
        return 2 * width * outputs + (2 * width**2 if config.model.family != "decoder" else 0)
    return 2 * tokens * width * outputs


def _six_n(config: Config, source: int, target: int) -> int:
    """6 x weights x tokens of one sample, each weight by the tokens that pass it, of experts so many as a token reads;
    norms and biases included."""
    model, weights = config.model, parameters(config)
    passes, decoder_passes = (side.depth if model.shared_layers else 1 for side in (model, model.decoder_side))
    blocks = passes * weights.active_non_embedding
    output = weights.shared + weights.head
    if target:  # half the tokens' parameters each (Brown et al. 2020, appendix D)
        share = _decoder_share(config)
        return 6 * (
            passes * (weights.active_non_embedding - share) * source + (decoder_passes * share + output) * target
        )
    return 6 * source * (blocks + output + weights.generator - weights.generators_embedding)


def _decoder_share(config: Config) -> int:
    """Weights of the decoder's blocks in an encoder-decoder."""
    alone = config.model.model_copy(update={"family": "encoder"})
    encoder = parameters(config.model_copy(update={"model": alone})).active_non_embedding
    return parameters(config).active_non_embedding - encoder
