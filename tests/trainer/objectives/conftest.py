"""A made-up vocabulary in which words, sentences and special tokens are easy to see, and windows of random text."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.config import Config
from trainer.objectives import PADDING, Objective, Vocabulary, Window, objective

NAMES = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", "<sep>", "<cls>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>"]
SPECIALS = {
    name: number
    for number, name in enumerate([*NAMES, "<NLU>", "<NLG>", "<S2S>", *(f"<extra_id_{k}>" for k in range(150))])
}
FIRST = len(SPECIALS)  # the first ordinary id
SIZE = FIRST + 1000


def spelling(token: int) -> str | None:
    """Of ten ordinary tokens six begin a word, three continue one, and one ends a sentence."""
    kind = token % 10
    return ". "[:1] if kind == 9 else f" w{token}" if kind < 6 else f"c{token}"


VOCABULARY = Vocabulary(SIZE, SPECIALS, spelling)


def window_of(
    tokens: np.ndarray, lengths: np.ndarray | None = None, *, first: int = 0, n: int = 1 << 40, seed: int = 0
) -> Window:
    """Rows of text, one segment each; sample numbers from `first` on, epochs of n samples."""
    rows, length = tokens.shape
    lengths = np.full(rows, length) if lengths is None else lengths
    inside = np.arange(length) < lengths[:, None]
    index = np.arange(first, first + rows)
    return Window(
        np.where(inside, tokens, SPECIALS["<pad>"]),
        np.where(inside, 0, PADDING).astype(np.int32),
        np.where(inside, np.arange(length), 0),
        index,
        index % n,
        index // n,
        seed,
    )


def text_of(rows: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(FIRST, SIZE, (rows, length))


def build(
    sequence_length: int = 128, *, packing: str = "packed", boundaries: bool = False, **keys: object
) -> Objective:
    """boundaries: whether packed texts are held apart."""
    if keys["name"] in ("bart", "mbart"):
        keys = {"random_share": 0.0, **keys}
    family = {"causal": "decoder", "prefix_lm": "decoder", "fim": "decoder"}.get(str(keys["name"]))
    family = family or (
        "encoder_decoder"
        if keys["name"] in ("mass", "bart", "mbart", "gap_sentences", "span_corruption", "ul2")
        else "encoder"
    )
    # Each window is one stretch of text, as made by hand; documents side by side are tested where they are cut.
    data = {"sequence_length": sequence_length, "packing": packing, "boundaries": boundaries or packing != "packed"}
    data["boundaries"] |= family == "decoder"
    config = Config.model_validate({"objective": keys, "data": data, "budget": {"steps": 100}})
    model = config.model.model_copy(update={"family": family})
    return objective(config.model_copy(update={"model": model}), VOCABULARY)


@pytest.fixture
def vocabulary():
    return VOCABULARY


@pytest.fixture
def specials():
    return SPECIALS


@pytest.fixture
def make():
    """make(sequence_length, name=..., keys...) -> Objective"""
    return build


@pytest.fixture
def window():
    """window(tokens, lengths, first=, n=, seed=) -> Window"""
    return window_of


@pytest.fixture
def text():
    """text(rows, length, seed) -> ordinary tokens"""
    return text_of
