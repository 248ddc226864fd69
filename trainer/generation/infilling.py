"""Filling the <mask>s of a prompt, in the way in which the model was trained.

Encoders and MASS put one token at each <mask>. Other encoder-decoders put any number of tokens there: T5's kind writes
them behind its sentinels, BART's kind writes the whole text anew. A decoder trained with objective=fim fills one
<mask>.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.descriptions.objectives import Infilling
from trainer.generation.decoding import Decoding
from trainer.generation.loaded_model import Trained
from trainer.generation.text import Written, encoder_input, generate
from trainer.models import EncoderDecoder
from trainer.models.cache import Cache
from trainer.models.replaced_token import ReplacedTokenModel
from trainer.models.sequence import WHOLE
from trainer.utils.errors import UserError

MASK = "<mask>"


def fill_texts(trained: Trained, prompts: list[str], decoding: Decoding) -> list[Written]:
    """Each prompt with its <mask>s filled. Raises UserError where one has none, or where the model fills none."""
    fill = _filler(trained)
    for prompt in prompts:
        if MASK not in prompt:
            raise UserError(f"{prompt[:40]!r}: has no {MASK} to be filled")
    if fill in (_by_encoder, _by_fragments) and decoding.beams > 1:
        raise UserError(
            f"beams={decoding.beams}: {trained.run.name} fills one {MASK} after the other, and searches no sequences"
        )
    found = []
    for prompt in prompts:
        parts = [trained.tokenizer.encode(part) for part in prompt.split(MASK)]
        ids, tokens = fill(trained, parts, decoding)
        found.append(Written(prompt, trained.tokenizer.decode(ids), tokens))
    return found


Parts = list[list[int]]  # tokens before, between and behind the masks
Filler = Callable[[Trained, Parts, Decoding], tuple[list[int], int]]


def _filler(trained: Trained) -> Filler:
    """The way of filling of this model: parts and decoding to (tokens of the whole text, tokens written)."""
    fillers: dict[Infilling, Filler] = {
        "mask_by_mask": _by_encoder,
        "fragments": _by_fragments,
        "sentinels": _by_sentinels,
        "rewriting": _by_rewriting,
        "middle": _in_the_middle,
    }
    objective = trained.config.objective.description
    if objective.infills is None or trained.family not in objective.families:
        raise UserError(
            f"{trained.run.name}: objective={objective.name} trains no filling of {MASK}; it continues a prompt"
        )
    return fillers[objective.infills]


def _by_encoder(trained: Trained, parts: Parts, decoding: Decoding) -> tuple[list[int], int]:
    """The mask of which the encoder is surest first, then the next with that one filled (Ghazvininejad et al. 2019)."""
    mask = trained.special(MASK)
    ids = encoder_input(trained, _joined(parts, [[mask]] * (len(parts) - 1)))
    _fits(trained, len(ids))
    tokens = torch.tensor([ids], device=trained.device)
    open_places = [place for place, token in enumerate(ids) if token == mask]
    count = len(open_places)
    generator = torch.Generator(trained.device).manual_seed(decoding.seed)
    while open_places:
        hidden = torch.zeros_like(tokens, dtype=torch.bool)
        hidden[0, open_places] = True
        logits = _of_text(trained, predictions(trained, tokens, hidden))
        surest = int(logits.softmax(dim=-1).amax(dim=-1).argmax())
        place = open_places.pop(surest)
        tokens[0, place] = decoding.choose(logits[surest : surest + 1], tokens, generator)[0]
    return tokens[0].tolist(), count


@torch.no_grad()
def predictions(trained: Trained, tokens: Tensor, hidden: Tensor) -> Tensor:
    """An encoder's logits [places, vocabulary] in fp32 for the hidden places (bool [B, S]) of texts [B, S], row by row.

    The content at the hidden places is not looked at where the model was trained without masks (two streams).
    """
    model = trained.model
    positions = WHOLE.places(tokens)
    if isinstance(model, ReplacedTokenModel):
        return model.head.generator.logits(tokens, positions)[hidden].float()
    order = hidden.long() if trained.config.objective.description.two_stream else None
    told = None if trained.language_row is None else torch.full_like(tokens, trained.language_row)
    return model.logits(tokens, positions, order=order, languages=told)[hidden].float()


def _of_text(trained: Trained, logits: Tensor) -> Tensor:
    """Logits [n, vocabulary], -inf for special tokens."""
    logits = logits[:, : trained.tokenizer.vocabulary].clone()
    logits[:, sorted(set(trained.tokenizer.specials.values()))] = float("-inf")
    return logits


@torch.no_grad()
def _by_fragments(trained: Trained, parts: Parts, decoding: Decoding) -> tuple[list[int], int]:
    """MASS: from left to right; at each mask the decoder reads the token before it, at its place in the text."""
    backbone, mask = trained.model.backbone, trained.special(MASK)
    assert isinstance(backbone, EncoderDecoder)
    ids = encoder_input(trained, _joined(parts, [[mask]] * (len(parts) - 1)))
    _fits(trained, len(ids))
    tokens = torch.tensor([ids], device=trained.device)
    source, cache = backbone.encode(tokens), Cache(backbone.config, backbone.depth)
    generator = torch.Generator(trained.device).manual_seed(decoding.seed)
    masks = [place for place, token in enumerate(ids) if token == mask]
    for place in masks:
        position = torch.tensor([[place - 1]], device=trained.device)  # in the text, which <s> is no part of
        written = backbone.decode(source, tokens[:, place - 1 : place], position, cache=cache)
        logits = trained.model.head.logits(written)[:, -1].float()
        tokens[0, place] = decoding.choose(_of_text(trained, logits), tokens, generator)[0]
    return tokens[0].tolist(), len(masks)


def _by_sentinels(trained: Trained, parts: Parts, decoding: Decoding) -> tuple[list[int], int]:
    """T5: the text with a sentinel in each gap goes in, sentinels with what they hide come out."""
    count, objective = len(parts) - 1, trained.config.objective.name
    table = trained.tokenizer.table()
    sentinels = table.sentinels(count, objective).tolist()
    source = encoder_input(trained, _joined(parts, [[sentinel] for sentinel in sentinels]))
    _fits(trained, len(source))
    [target] = generate(trained, [source], decoding)
    ends = {*trained.tokenizer.specials.values(), *table.sentinel_ids[: count + 1]}
    gaps = []
    for sentinel in sentinels:
        begin = target.index(sentinel) + 1 if sentinel in target else len(target)
        rest = target[begin:]
        gaps.append(rest[: next((place for place, token in enumerate(rest) if token in ends), len(rest))])
    return _joined(parts, gaps), sum(map(len, gaps))


def _by_rewriting(trained: Trained, parts: Parts, decoding: Decoding) -> tuple[list[int], int]:
    """BART: the whole text comes out."""
    source = encoder_input(trained, _joined(parts, [[trained.special(MASK)]] * (len(parts) - 1)))
    _fits(trained, len(source))
    [target] = generate(trained, [source], decoding)
    return target, len(target)


def _in_the_middle(trained: Trained, parts: Parts, decoding: Decoding) -> tuple[list[int], int]:
    """A decoder: prefix and suffix, then the middle (Bavarian et al. 2022, the order prefix-suffix-middle)."""
    if len(parts) != 2:
        raise UserError(f"{trained.run.name}: a decoder fills one {MASK} of a prompt, {len(parts) - 1} given")
    prefix, suffix, middle = (trained.special(f"<fim_{part}>") for part in ("prefix", "suffix", "middle"))
    source = [trained.special("<s>"), prefix, *parts[0], suffix, *parts[1], middle]
    _fits(trained, len(source))
    [target] = generate(trained, [source], decoding)
    return _joined(parts, [target]), len(target)


def _joined(parts: Parts, gaps: Parts) -> list[int]:
    ids = list(parts[0])
    for gap, part in zip(gaps, parts[1:], strict=True):
        ids += gap + part
    return ids


def _fits(trained: Trained, length: int) -> None:
    max_length = trained.config.max_length
    if length > max_length:
        raise UserError(
            f"a prompt of {length} tokens with its masks, and {trained.run.name} reads {max_length} at most"
        )
