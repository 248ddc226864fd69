"""The parameters of a model by role and shape, without torch: what an optimizer with states of other shapes needs."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from trainer.books.experts import expert_shapes
from trainer.books.parameters import parameters
from trainer.config import Config
from trainer.config.disentangled import score_terms, table_rows
from trainer.config.model import ModelConfig
from trainer.descriptions.optimizers import Role, Shape, size

Shapes = Counter[tuple[Role, Shape]]


def shapes(config: Config) -> Shapes:
    """How many parameters there are of each role and shape. All vectors stand together, as one of their whole size."""
    model = config.backbone if config.task.outputs else config.model
    found = Counter(_matrices(model, config.vocabulary, config.max_length))
    if config.task.outputs:
        _replace_head(found, config)
    rest = parameters(config).total - sum(size(shape) * count for (_, shape), count in found.items())
    found["vector", (rest,)] += 1
    return found


@lru_cache(maxsize=64)
def _matrices(model: ModelConfig, vocabulary: int, max_length: int) -> Shapes:
    found: Shapes = Counter()
    width, columns = model.width, model.embedding_channels
    found["embedding", (vocabulary, columns)] += 1
    _tables(found, model, max_length)
    _stack(found, model)
    if model.family == "encoder_decoder":
        _tables(found, model, max_length)
        _stack(found, model.decoder_side, cross=True)
    token_model = model.generator or model
    _token_head(found, token_model, vocabulary)
    if model.generator is not None:
        if model.embedding_sharing == "disentangled":
            found["embedding", (vocabulary, columns)] += 1
            _tables(found, model.generator, max_length)
        _stack(found, model.generator)
        found["matrix", (width, width)] += 1
        found["head", (1, width)] += 1
    if model.family == "encoder" and model.pooler == "pretraining":
        found["matrix", (width, width)] += 1
    if model.family == "encoder" and model.sentence_head:
        found["head", (2, width)] += 1
    return +found


def _tables(found: Shapes, model: ModelConfig, max_length: int) -> None:
    """The tables beside that of the tokens."""
    columns = model.position_channels
    if model.position == "learned":
        found["embedding", (max_length + model.position_offset, columns)] += 1
    if model.token_types:
        found["embedding", (model.token_types, columns)] += 1
    if model.languages:
        found["embedding", (len(model.languages), columns)] += 1


def _stack(found: Shapes, model: ModelConfig, *, cross: bool = False) -> None:
    blocks = 1 if model.shared_layers else model.depth
    width, hidden = model.width, model.ffn_channels
    query, key = model.heads * model.head_channels, model.key_heads * model.head_channels
    if model.embedding_channels != width:
        found["matrix", (width, model.embedding_channels)] += 1
    if model.position == "buckets":
        found["embedding", (model.relative_buckets or 0, model.heads)] += 1
    if model.position == "disentangled":
        found["embedding", (table_rows(model), width)] += 1
    attentions = blocks * (1 + cross)
    found["matrix", (query, width)] += attentions
    found["matrix", (key, width)] += 2 * attentions
    found["matrix", (width, query)] += attentions
    if model.position == "relative":
        found["matrix", (query, width)] += blocks
    if not model.relative_shared:
        found["matrix", (query, width)] += blocks * len(score_terms(model))
    routed = model.experts.layers(model.depth)
    found["matrix", (hidden, width)] += (blocks - routed) * (2 if model.gated else 1)
    found["matrix", (width, hidden)] += blocks - routed
    for role, shape in expert_shapes(model) * routed:
        found[role, shape] += 1


def _token_head(found: Shapes, model: ModelConfig, vocabulary: int) -> None:
    """Of a model, or of ELECTRA's generator, whose output matrix is not tied or is the embedding's."""
    columns = model.embedding_channels
    if not model.tied:
        found["head", (vocabulary, columns)] += 1
    if model.family == "encoder_decoder":
        return
    if model.head_transform or (model.family == "decoder" and columns != model.width):
        found["matrix", (columns, model.width)] += 1


def _replace_head(found: Shapes, config: Config) -> None:
    """What tuning takes away and puts on top, as in `trainer.books.parameters`."""
    model, width, outputs = config.backbone, config.model.width, config.task.outputs
    _without_token_head: Shapes = Counter()
    _token_head(_without_token_head, model, config.vocabulary)
    found.subtract(_without_token_head)
    pooled = model.family == "encoder" and model.pooler == "pretraining"
    if config.task.pools and model.family != "decoder" and not (config.model.family == "encoder" and pooled):
        found["matrix", (width, width)] += 1
    found["head", (outputs, width)] += 1
    for key in [key for key, count in found.items() if not count]:
        del found[key]
