"""Parameters by part: the shapes of the model written once more, without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from trainer.books.experts import feed_forward_numbers, idle_numbers, routed_numbers
from trainer.config import Config
from trainer.config.disentangled import score_terms, table_rows
from trainer.config.model import ModelConfig
from trainer.descriptions.norms import NORMS


@dataclass(frozen=True)
class ParameterAccount:
    """Scalars in the model's weights, by part. A tied head is the embedding again and counts 0 in `head`."""

    embedding: int  # tokens, token types and languages, and the projection of a factorised embedding
    position: int  # tables of positions and of relative buckets
    attention: int
    feed_forward: int
    norm: int
    head: int  # output matrix where it is not tied, its bias and transform, pooler, sentence and detection heads
    generator: int  # ELECTRA's, beside what it shares of the embedding
    shared: int  # scalars used a second time through a tied head; already counted in `embedding`
    block: int  # the largest block of the first stack
    depth: int
    head_norm: int = 0  # the norm in BERT's head transform; already counted in `norm`
    pooler: int = 0  # of the published backbone, and counted in `head` where pre-training uses it
    unused_pooler: int = 0  # of the published backbone, and not counted elsewhere: only fine-tuning uses it
    idle: int = 0  # of the experts that a token does not read; already counted in `feed_forward`
    generators_embedding: int = 0  # where it has one of its own; already counted in `generator`

    @property
    def total(self) -> int:
        """Everything that is trained."""
        blocks = self.attention + self.feed_forward + self.norm
        return self.embedding + self.position + blocks + self.head + self.generator

    @property
    def active(self) -> int:
        """What one token reads: without the experts that it is not sent to."""
        return self.total - self.idle

    @property
    def active_non_embedding(self) -> int:
        """`non_embedding` of what one token reads."""
        return self.non_embedding - self.idle

    @property
    def published(self) -> int:
        """The model with its pre-training heads, as papers and transformers count it: without ELECTRA's generator."""
        return self.total - self.generator

    @property
    def backbone(self) -> int:
        """Without heads but with the pooler, as transformers' bare classes count it."""
        return self.published - self.head - self.head_norm + self.pooler + self.unused_pooler

    @property
    def non_embedding(self) -> int:
        """Without token and position tables and without an untied output matrix (Kaplan et al. 2020, section 2.1)."""
        return self.attention + self.feed_forward + self.norm


@dataclass(frozen=True)
class _Stack:
    """Parameters of one stack without its token embedding."""

    embedding: int
    position: int
    attention: int
    feed_forward: int
    norm: int
    block: int
    idle: int


def parameters(config: Config) -> ParameterAccount:
    """Count the parameters of `config.model` exactly; of a tuned model with its new head."""
    if not config.task.outputs:
        return count(config.model, config.vocabulary, config.max_length)
    backbone = count(config.backbone, config.vocabulary, config.max_length)
    projection = _token_head(config.backbone, config.vocabulary)[0]  # went with the old head
    return replace(backbone, head=backbone.head - projection + _new_head(config), shared=0)


def _new_head(config: Config) -> int:
    """What tuning puts on top: see `trainer.models.task_heads`."""
    width, outputs, family = config.model.width, config.task.outputs, config.model.family
    pools = config.task.pools
    layer = pools and family != "decoder" and not (family == "encoder" and config.model.pooler == "pretraining")
    bias = not (pools and family == "decoder")
    return (width**2 + width) * layer + (width + bias) * outputs


@lru_cache(maxsize=64)
def count(model: ModelConfig, vocabulary: int, max_length: int) -> ParameterAccount:
    """Count the parameters of a model with `vocabulary` rows in its embedding and `max_length` learned positions."""
    table = vocabulary * model.embedding_channels
    stacks = [_stack(model, max_length)]
    if model.family == "encoder_decoder":
        stacks.append(_stack(model.decoder_side, max_length, cross=True))
    head, head_norm = _token_head(model, vocabulary)
    pooler, query_start = model.width**2 + model.width, model.width * model.two_stream
    generator = own = 0
    if (small := model.generator) is not None:  # the token head is the generator's, the encoder has a detector
        own = table * (model.embedding_sharing == "disentangled")
        stack = _stack(small, max_length, own_tables=own > 0)
        blocks = stack.attention + stack.feed_forward + stack.norm
        generator = stack.embedding + stack.position + blocks + sum(_token_head(small, vocabulary)) + own
        head, head_norm = model.width**2 + 2 * model.width + 1, 0
    if model.family == "encoder":
        head += pooler * (model.pooler == "pretraining")
        head += (2 * model.width + 2) * model.sentence_head
    return ParameterAccount(
        embedding=table + sum(stack.embedding for stack in stacks) + query_start,
        position=sum(stack.position for stack in stacks),
        attention=sum(stack.attention for stack in stacks),
        feed_forward=sum(stack.feed_forward for stack in stacks),
        norm=sum(stack.norm for stack in stacks) + head_norm,
        head=head,
        generator=generator,
        shared=table if model.tied else 0,
        block=stacks[0].block,
        depth=model.depth + (model.decoder_side.depth if len(stacks) > 1 else 0),
        head_norm=head_norm,
        pooler=pooler * (model.pooler == "pretraining"),
        unused_pooler=pooler * (model.pooler == "finetuning"),
        idle=sum(stack.idle for stack in stacks),
        generators_embedding=own,
    )


def _stack(model: ModelConfig, max_length: int, *, cross: bool = False, own_tables: bool = True) -> _Stack:
    blocks = 1 if model.shared_layers else model.depth
    columns, width = model.position_channels, model.width
    embedding = position = norms = 0
    if own_tables:
        embedding += (model.token_types + len(model.languages)) * columns
        position += (max_length + model.position_offset) * columns if model.position == "learned" else 0
        norms += _norm(model, columns) if model.embedding_norm else 0
    if model.embedding_channels != width:
        bias = width if model.embedding_projection == "sum" else 0
        embedding += model.embedding_channels * width + bias
    position += (model.relative_buckets or 0) * model.heads if model.position == "buckets" else 0
    if model.position == "disentangled":
        position += table_rows(model) * width
        norms += _norm(model, width) * model.relative_norm

    attention, attention_norms = _attention(model)
    of_branches = (2 + cross) * (2 if model.norm_position == "sandwich" else 1) - model.shared_norm
    per_block = of_branches * _norm(model, width) + attention_norms
    if cross:
        plain, more_norms = _attention(model, relative=False)
        attention += plain
        per_block += more_norms
    dense, routed, with_experts = feed_forward_numbers(model), routed_numbers(model), model.experts.layers(model.depth)
    norms += blocks * per_block - (0 if model.first_norm else _norm(model, width))
    norms += _norm(model, width) if model.final_norm else 0
    largest = max(dense * (with_experts < blocks), routed * (with_experts > 0))
    return _Stack(
        embedding,
        position,
        blocks * attention,
        (blocks - with_experts) * dense + with_experts * routed,
        norms,
        attention + largest + per_block,
        idle=with_experts * idle_numbers(model),
    )


def _attention(model: ModelConfig, *, relative: bool | None = None) -> tuple[int, int]:
    """Matrices, biases and sinks of one attention layer, and its norms of queries and keys."""
    width, query, key = model.width, model.heads * model.head_channels, model.key_heads * model.head_channels
    relative = model.position == "relative" if relative is None else relative
    count = 2 * width * query + 2 * width * key
    if relative:  # Dai et al. 2019: a matrix for distances, biases for content, distance and type, two type rows
        count += width * query + 5 * query
    elif model.bias or model.qkv_bias:
        count += (query + 2 * key) * (not model.qkv_unbiased) + width * model.bias
    if not model.relative_shared:  # a matrix for positions in each term of the scores
        count += len(score_terms(model)) * (width + (model.bias or model.qkv_bias)) * query
    count += model.heads * model.sinks
    whole = query + key
    norms = {"none": 0, "projection": whole, "head": 2 * model.head_channels, "heads": whole}[model.qk_norm]
    return count, norms


def _token_head(model: ModelConfig, vocabulary: int) -> tuple[int, int]:
    """From the residual stream to logits: BERT's transform or a projection, the output matrix; and the norm."""
    columns = model.embedding_channels
    count = vocabulary * model.head_bias + (0 if model.tied else vocabulary * columns)
    if model.family == "encoder_decoder":
        return count, 0
    if model.head_transform:
        return count + (model.width + model.bias) * columns, _norm(model, columns)
    if model.family == "decoder" and columns != model.width:
        count += model.width * columns
    return count, 0


def _norm(model: ModelConfig, width: int) -> int:
    return NORMS[model.norm].parameters(model, width)
