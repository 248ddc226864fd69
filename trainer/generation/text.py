"""Text in, text out: decoders continue a prompt, encoder-decoders answer one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.descriptions.objectives import LANGUAGE, TEXT, ObjectiveDescription
from trainer.generation.decoding import Decoding
from trainer.generation.loaded_model import Trained
from trainer.generation.reader import Reader
from trainer.generation.search import search, write
from trainer.tasks.formats import Rows
from trainer.utils.errors import UserError

TORN = "\ufffd"  # what an unfinished character decodes to


@dataclass(frozen=True)
class Written:
    """The answer to one prompt. dropped: tokens of the prompt, from the left, beyond the most that the model reads."""

    prompt: str
    text: str
    tokens: int
    dropped: int = 0


def continue_texts(
    trained: Trained,
    prompts: Sequence[str],
    decoding: Decoding,
    *,
    stop: Sequence[str] = (),
    tell: Callable[[str], None] | None = None,
    cached: bool = True,
) -> list[Written]:
    """The text that follows each prompt, up to the end of the document or one of the `stop` strings.

    tell: is given the first prompt's text piece by piece as it is written (not with beams). cached: with a key-value
    cache. Raises UserError for encoders, which continue nothing.
    """
    if trained.family == "encoder":
        raise UserError(f"{trained.run.name} is an encoder: it fills <mask> in a prompt, and continues none")
    if trained.family == "encoder_decoder" and not all(prompts):
        raise UserError(f"{trained.run.name} is an encoder-decoder: it needs a prompt to read, and one is empty")
    heads = [prompt_ids(trained, prompt) for prompt in prompts]
    max_length = trained.config.max_length
    ids = [head[-max_length:] for head in heads]
    written = generate(trained, ids, decoding, stop=stop, tell=tell, cached=cached)
    return [
        Written(prompt, cut_at(trained.tokenizer.decode(tokens), stop), len(tokens), len(head) - len(kept))
        for prompt, head, kept, tokens in zip(prompts, heads, ids, written, strict=True)
    ]


def prompt_ids(trained: Trained, prompt: str) -> list[int]:
    """What the model reads of a prompt: as its task asks, where it was tuned; else `<s> text` for decoders, and for
    encoder-decoders the form of their pre-training."""
    tuned, ids = trained.config.task.kind is not None, trained.tokenizer.encode(prompt)
    if trained.family == "decoder":
        if tuned:
            return Rows(trained.config, trained.tokenizer).prompt(prompt)
        own = trained.tokenizer.template
        return [trained.special("<s>"), *ids] if own is None else [*own.before, *ids] or [trained.special("<s>")]
    own = trained.tokenizer.template
    if tuned and own is None:
        return [trained.special("<s>"), *ids, trained.special("</s>")]
    return encoder_input(trained, ids)


def encoder_input(trained: Trained, ids: list[int]) -> list[int]:
    """A whole text as the encoder was trained to read it."""
    if (own := trained.tokenizer.template) is not None and not trained.reads_language:
        return [*own.before, *ids, *own.behind]
    form = trained.config.objective.description.encoder_input
    if LANGUAGE in form and not trained.reads_language:
        form = ObjectiveDescription.encoder_input
    row = []
    for part in form:
        row += ids if part == TEXT else [trained.opening if part == LANGUAGE else trained.special(part)]
    return row


def generate(
    trained: Trained,
    rows: list[list[int]],
    decoding: Decoding,
    *,
    stop: Sequence[str] = (),
    tell: Callable[[str], None] | None = None,
    cached: bool = True,
) -> list[list[int]]:
    """Tokens that follow rows of tokens, or that an encoder-decoder writes having read them; </s> is left out."""
    reader, prompt, segments = reader_of(trained, rows, cached=cached)
    ends = trained.tokenizer.ends
    if trained.config.task.kind is None:  # tuning learns answers without what is forced
        forced = {decoding.tokens - 1: trained.tokenizer.forced_last, 0: trained.tokenizer.forced_first}
        reader.forced = {place: token for place, token in forced.items() if token is not None}
    if decoding.beams > 1:
        return search(reader, prompt, segments, decoding, ends)
    decode, said = trained.tokenizer.decode, 0

    def ended(row: int, tokens: list[int]) -> bool:
        nonlocal said
        text = decode(tokens) if stop or (tell and row == 0) else ""
        over = any(word in text for word in stop)
        if tell and row == 0:
            text = cut_at(text, stop)
            ready = len(text) if over else len(text) - _held_back(text, stop)
            if ready > said:
                tell(text[said:ready])
                said = ready
        return over

    columns = list(write(reader, prompt, segments, decoding, ends, ended))
    found = [[token for column in columns if (token := column[row]) is not None] for row in range(len(rows))]
    if tell:
        tell(cut_at(decode(found[0]), stop)[said:])
    return found


def reader_of(trained: Trained, rows: list[list[int]], *, cached: bool = True) -> tuple[Reader, Tensor, Tensor | None]:
    """A reader, and the prompt and segments that it shall read first."""
    model, max_length, decodes = trained.model, trained.config.max_length, trained.family == "decoder"
    tokens, segments = trained.rows(rows, left=decodes)
    padded = segments if bool((segments < 0).any()) else None
    vocabulary = trained.tokenizer.vocabulary
    if decodes:
        sees_prompt = len(trained.config.objective.description.parts) == 2 and trained.config.task.kind is None
        return Reader(model, vocabulary, max_length, cached=cached, sees_prompt=sees_prompt), tokens, padded
    start = torch.full((len(rows), 1), trained.opening, device=trained.device)
    return Reader(model, vocabulary, max_length, source=tokens, source_segments=padded, cached=cached), start, None


def cut_at(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string."""
    return text[: min((text.index(word) for word in stop if word in text), default=len(text))]


def _held_back(text: str, stop: Sequence[str]) -> int:
    """Characters at the end that may still change: half a character, or the beginning of a stop string."""
    begun = max((n for word in stop for n in range(1, len(word)) if text.endswith(word[:n])), default=0)
    return max(begun, len(text) - len(text.rstrip(TORN)))
