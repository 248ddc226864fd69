"""How well a text continues another, by the measure that each family of models has.

Decoders have the log-likelihood of the continuation. Encoders have no likelihood of a text: theirs is the
pseudo-log-likelihood, the sum over tokens of the log-probability of each with it alone hidden (Salazar et al. 2020).
Encoder-decoders score the span that belongs in a gap behind the context. The three are not comparable with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from trainer.generation.infilling import MASK, predictions
from trainer.generation.loaded_model import Trained
from trainer.generation.text import encoder_input
from trainer.models import EncoderDecoder
from trainer.utils.errors import UserError

MEASURES = {
    "decoder": "log-likelihood",
    "encoder": "pseudo-log-likelihood",
    "encoder_decoder": "span score",
}
BATCH = 16  # rows that are scored together


@dataclass(frozen=True)
class Score:
    """Of one continuation. nats: natural logarithm; greedy: every token was the likeliest; dropped: tokens of the
    context that were cut off, from the left."""

    nats: float
    greedy: bool
    tokens: int
    dropped: int = 0


Pair = tuple[str, str]  # a context, and what continues it
Progress = Callable[[int], None]


def score(trained: Trained, pairs: Sequence[Pair], progress: Progress = lambda done: None) -> list[Score]:
    """A score for every pair, in the same order; progress(pairs done) is called now and then.

    Raises UserError for a continuation without tokens, and for a model that has no such measure.
    """
    return score_encoded(trained, [encode_pair(trained, *pair) for pair in pairs], progress)


Encoded = tuple[list[int], list[int]]  # ids of a context, ids of what continues it


def score_encoded(trained: Trained, encoded: Sequence[Encoded], progress: Progress = lambda done: None) -> list[Score]:
    """As `score`, for tokens."""
    require_room(trained, encoded)
    by_family = {"decoder": _by_decoder, "encoder": _by_encoder, "encoder_decoder": _by_encoder_decoder}
    longest_first = sorted(range(len(encoded)), key=lambda place: -sum(map(len, encoded[place])))
    batches = [(first, longest_first[first : first + BATCH]) for first in range(0, len(encoded), BATCH)]

    def of_batch(batch: tuple[int, list[int]]) -> list[tuple[float, bool, int, int]]:
        first, places = batch
        found = by_family[trained.family](trained, [encoded[place] for place in places])
        progress(min(first + BATCH, len(encoded)))
        return [astuple(one) for one in found]

    scored = [score for batch in trained.divided(batches, of_batch) for score in batch]
    by_place = dict(zip(longest_first, scored, strict=True))
    return [Score(*by_place[place]) for place in range(len(encoded))]


def require_room(trained: Trained, encoded: Iterable[Encoded]) -> None:
    """Raises UserError where what is scored is longer than the model reads or writes: on every rank, before any of
    them scores."""
    most, does = trained.config.max_length, "reads"
    if trained.family == "encoder":
        most -= len(encoder_input(trained, []))
    elif trained.family == "encoder_decoder":
        most, does = most - (trained.config.objective.description.infills == "sentinels"), "writes"
    longest = max((len(tail) for _, tail in encoded), default=0)
    if longest > most:
        raise UserError(f"an answer of {longest} tokens, and the model {does} {most} at most")


def has_measure(trained: Trained) -> bool:
    """Whether texts can be scored: by encoders that have a <mask>, by encoder-decoders trained to fill a gap."""
    infills = trained.config.objective.description.infills
    if trained.family == "encoder" or infills == "rewriting":
        return MASK in trained.tokenizer.specials
    return trained.family == "decoder" or infills == "sentinels"


def encode_pair(trained: Trained, context: str, continuation: str) -> Encoded:
    """Both together as tokens, divided where the context alone ends; its last spaces belong to the continuation."""
    kept = context.rstrip()
    head = trained.tokenizer.encode(kept)
    whole = trained.tokenizer.encode(context + continuation)
    tail = whole[len(head) :]
    if not continuation or not tail:
        raise UserError(f"an answer of zero tokens: {continuation!r} behind {context[-40:]!r}")
    return whole[: len(head)], tail


# --- decoders ---


def _by_decoder(trained: Trained, pairs: Sequence[Encoded]) -> list[Score]:
    bos = trained.special("<s>")
    return score_tokens(trained, [([bos, *head], tail) for head, tail in pairs])


@torch.no_grad()
def score_tokens(trained: Trained, pairs: Sequence[Encoded]) -> list[Score]:
    """Log-likelihoods of tokens behind tokens that are read as they are, <s> included or not; decoders only."""
    model = trained.model
    rows, dropped = _within(trained.config.max_length + 1, pairs, least=1)
    most = max(len(tail) for _, tail in pairs)
    tokens, segments = trained.rows([row[:-1] for row in rows], left=True)  # so that continuations end together
    positions = ((segments >= 0).cumsum(dim=1) - 1).clamp(min=0)
    hidden = model.backbone(tokens, positions, segments if bool((segments < 0).any()) else None)
    logits = model.head.logits(hidden[:, -most:])[..., : trained.tokenizer.vocabulary].float()
    return [
        _score(logits[row, logits.shape[1] - len(tail) :], tail, lost)
        for row, ((_, tail), lost) in enumerate(zip(pairs, dropped, strict=True))
    ]


def _within(max_length: int, pairs: Iterable[Encoded], least: int = 0) -> tuple[list[list[int]], list[int]]:
    """Each pair as one row of at most `max_length` tokens, cut on the left, and how many tokens were cut off.

    least: tokens of the context that have to remain, else UserError.
    """
    rows, dropped = [], []
    for head, tail in pairs:
        if len(tail) > max_length - least:
            raise UserError(f"an answer of {len(tail)} tokens, and the model reads {max_length - least} at most")
        whole = [*head, *tail]
        rows.append(whole[-max_length:])
        dropped.append(max(0, len(whole) - max_length))
    return rows, dropped


def _score(logits: Tensor, tail: list[int], dropped: int) -> Score:
    """From the logits [tokens, vocabulary] that predict the tail."""
    wanted = torch.tensor(tail, device=logits.device)
    nats = logits.log_softmax(dim=-1).gather(1, wanted[:, None]).double().sum()
    return Score(float(nats), bool((logits.argmax(dim=-1) == wanted).all()), len(tail), dropped)


def rolling(trained: Trained, text: str) -> Score:
    """Log-likelihood of a whole text, every token predicted once, in windows as long as the model reads.

    The last window reaches back as far as it can.
    """
    if trained.family != "decoder":
        raise UserError(f"{trained.run.name}: only decoders have a likelihood of a text; this is an {trained.family}")
    ids = trained.tokenizer.encode(text)
    if not ids:
        raise UserError("a text of zero tokens cannot be scored")
    whole, max_length = [trained.special("<s>"), *ids], trained.config.max_length
    windows = []
    for start in range(0, len(ids), max_length):
        stop = min(len(ids), start + max_length)
        windows.append((whole[max(0, stop - max_length) : start + 1], whole[start + 1 : stop + 1]))
    scores = [
        found
        for first in range(0, len(windows), BATCH)
        for found in score_tokens(trained, windows[first : first + BATCH])
    ]
    return Score(sum(found.nats for found in scores), all(found.greedy for found in scores), len(ids))


# --- encoders and encoder-decoders ---


def _by_encoder(trained: Trained, pairs: Sequence[Encoded]) -> list[Score]:
    return [_pseudo(trained, pair) for pair in pairs]


def _pseudo(trained: Trained, pair: Encoded) -> Score:
    mask, [empty] = trained.special(MASK), [len(encoder_input(trained, []))]
    [ids], [dropped] = _within(trained.config.max_length - empty, [pair])
    tail = pair[1]
    whole = encoder_input(trained, ids)
    first = len(whole) - 1 - len(tail)
    hidden = torch.zeros(len(tail), len(whole), dtype=torch.bool, device=trained.device)
    hidden[torch.arange(len(tail)), torch.arange(first, first + len(tail))] = True  # a token a row
    rows = torch.tensor([whole], device=trained.device).masked_fill(hidden, mask)
    logits = [predictions(trained, *some) for some in zip(rows.split(BATCH), hidden.split(BATCH), strict=True)]
    return _score(torch.cat(logits)[:, : trained.tokenizer.vocabulary], tail, dropped)


@torch.no_grad()
def _by_encoder_decoder(trained: Trained, pairs: Sequence[Encoded]) -> list[Score]:
    """T5's kind: the context with a sentinel behind it is read, the span behind the sentinel scored. BART's kind: the
    context with a <mask> behind it is read, and the span scored behind the context written anew."""
    model, backbone = trained.model, trained.model.backbone
    assert isinstance(backbone, EncoderDecoder)
    objective = trained.config.objective.name
    if not has_measure(trained):
        raise UserError(
            f"{trained.run.name}: objective={objective} trains no filling of a gap, so no span can be scored"
        )
    sources, targets, dropped = _gaps(trained, pairs)
    source, source_segments = trained.rows(sources)
    tokens, segments = trained.rows([target[:-1] for target in targets])
    positions = torch.arange(source.shape[1], device=source.device).expand(source.shape)
    encoded = backbone.encode(source, positions, source_segments)
    written = backbone.decode(encoded, tokens, None, segments, source_segments)
    logits = model.head.logits(written)[..., : trained.tokenizer.vocabulary].float()
    found = []
    for row, ((_, tail), target, lost) in enumerate(zip(pairs, targets, dropped, strict=True)):
        end = len(target) - 1
        found.append(_score(logits[row, end - len(tail) : end], tail, lost))
    return found


def _gaps(trained: Trained, pairs: Sequence[Encoded]) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """What is read and what is written of each pair, and how many tokens of its context were cut off."""
    max_length = trained.config.max_length
    behind_sentinel = trained.config.objective.description.infills == "sentinels"
    gap = trained.special("<extra_id_0>" if behind_sentinel else MASK)
    overhead = len(encoder_input(trained, [gap]))
    sources, targets, dropped = [], [], []
    for head, tail in pairs:
        most = max_length - overhead if behind_sentinel else min(max_length - overhead, max_length - len(tail))
        if (max_length - 1 if behind_sentinel else max_length) < len(tail):
            raise UserError(f"an answer of {len(tail)} tokens, and the model writes {max_length} at most")
        kept = head[max(0, len(head) - most) :]
        sources.append(encoder_input(trained, [*kept, gap]))
        targets.append([trained.opening, *([gap] if behind_sentinel else kept), *tail])
        dropped.append(len(head) - len(kept))
    return sources, targets, dropped
