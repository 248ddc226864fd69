"""What masks leave of attention: the pairs of query and key that documents, windows and causality let through.

Model FLOPs count the whole square, as is the convention (`trainer.books.flops`); this is what the mathematics needs.
What is executed lies between: the Triton kernels skip blocks that are hidden as a whole, a causal SDPA call without
documents or windows skips its upper half, all other calls and the reference compute the square.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from trainer.books.lengths import lengths
from trainer.config import Config
from trainer.config.model import ModelConfig
from trainer.utils.errors import UserError


class Document(NamedTuple):
    """Tokens of one document of a sample, in one part or in two (`ObjectiveDescription.parts`)."""

    first: int
    second: int = 0


def visible_pairs(length: int, causal: bool, window: int | None = None) -> int:
    """Pairs within one document of `length` tokens, where a token sees at most `window` others to each side."""
    reach = max(length - 1, 0) if window is None else min(window, length - 1)
    one_side = reach * length - reach * (reach + 1) // 2
    return length + one_side * (1 if causal else 2)


def visible_scores(config: Config, documents: Sequence[Document]) -> int:
    """FLOPs of the forward pass's scores of one sample that holds these documents, hidden pairs left out.

    Without ELECTRA's generator, as `FlopAccount.scores`. Raises UserError where the documents are not those of a
    sample, and where their lengths do not tell who sees whom.
    """
    _check(config, documents)
    return _scores(config.model, documents)


def hidden_per_step(config: Config, documents: Sequence[Document]) -> int:
    """Model FLOPs of one step, forward and backward, that masks hide in such samples. Raises as `visible_scores`."""
    _check(config, documents)
    tokens, target = lengths(config)
    hidden = 0
    for model in filter(None, (config.model, config.model.generator)):
        channels = model.heads * model.head_channels
        square = 4 * channels * (model.depth * tokens**2 + model.decoder_side.depth * target * (target + tokens))
        hidden += square - _scores(model, documents)
    return 3 * hidden * config.optim.batch_size


def _scores(model: ModelConfig, documents: Sequence[Document]) -> int:
    pairs = 0
    for layer in range(model.depth):
        pairs += sum(_pairs(model, document, _window(model, layer)) for document in documents)
    if model.family == "encoder_decoder":
        for layer in range(model.decoder_side.depth):
            pairs += sum(_decoder_pairs(document, _window(model, layer)) for document in documents)
    return 4 * model.heads * model.head_channels * pairs


def _window(model: ModelConfig, layer: int) -> int | None:
    return model.window if model.local(layer) else None


def _pairs(model: ModelConfig, document: Document, window: int | None) -> int:
    """Pairs of one document in one layer; of an encoder-decoder in one of its encoder."""
    first, second = document
    both_ways = visible_pairs(first, False, window)
    if model.family != "decoder":
        return both_ways
    prefix_ahead = both_ways - visible_pairs(first, True, window) if second else 0
    return visible_pairs(first + second, True, window) + prefix_ahead


def _decoder_pairs(document: Document, window: int | None) -> int:
    """Pairs of one document in one layer of the decoder of an encoder-decoder, with those across."""
    return visible_pairs(document.second, True, window) + document.first * document.second


def _check(config: Config, documents: Sequence[Document]) -> None:
    model, objective = config.model, config.objective.name
    if config.task.kind is not None:
        raise UserError(
            f"documents: task={config.task.name} reads records of its own; give documents of a pre-training"
        )
    if len(config.curriculum.sequence_lengths) > 1:
        raise UserError("documents: data.stages has samples of several lengths; give data.sequence_length alone")
    if model.position in ("relative", "disentangled"):
        raise UserError(
            f"documents: model={model.name} scores the distances of all pairs, also of those that documents hide"
        )
    parts = config.objective.description.parts
    if not parts:
        raise UserError(f"documents: objective={objective} draws anew for every sample who sees whom")
    sides = ", ".join(f"{one.first}/{one.second}" if one.second else str(one.first) for one in documents) or "none"
    if any(bool(one.second) != (len(parts) == 2) for one in documents):
        form = "/".join(parts) if len(parts) == 2 else "one length each"
        raise UserError(f"documents: {objective} wants {form} of every document, got {sides}")
    length, target = lengths(config)
    firsts, seconds = sum(one.first for one in documents), sum(one.second for one in documents)
    fit = firsts <= length and seconds <= target if target else firsts + seconds <= length
    if not fit or min((min(one.first, one.second or 1) for one in documents), default=0) < 1:
        sample = f"{length}/{target}" if target else str(length)
        raise UserError(
            f"documents: lengths of 1 and more are wanted that make up a sample of {sample} tokens, got {sides}"
        )
