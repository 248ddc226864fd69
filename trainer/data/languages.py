"""In which language every document of a split is, as the sources of a mixture and the pairs of a parallel text say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from trainer.config import Config
from trainer.data.shards import Prepared
from trainer.descriptions.objectives.languages import missing_languages
from trainer.utils.errors import UserError

Split = Literal["train", "held_out"]
Number = Callable[[str, str], int]  # (language, the key that states it) -> the number that stands for it
NONE = -1  # in place of the language of a second side


class Languages:
    """The language of every document as a number. Of a pair the documents alternate.

    between: the tokens between the two sides of a pair.
    """

    pairs = False  # whether a sample holds both sides of a pair

    def __init__(self, prepared: Prepared, config: Config, split: Split, number: Number) -> None:
        """Raises UserError where a source does not state its language, and where `number` knows none for it."""
        origins = prepared.manifest["splits"][split]["origins"]
        sizes = np.array([one["documents"] for one in origins.values()], np.int64)
        self.between = (prepared.eos, prepared.bos)
        self._ends = sizes.cumsum()
        self._begins = self._ends - sizes
        self._paired = np.array([origin in config.data.pairs for origin in origins], bool)
        told = [[number(name, key) for name, key in _stated(config, origin)] for origin in origins]
        self._numbers = np.array([[*one, *one][:2] for one in told], np.int64).reshape(-1, 2)

    def of(self, documents: np.ndarray) -> np.ndarray:
        """int64 [B]: of each of these documents, counted over the whole split."""
        which = self._origin(documents)
        return self._numbers[which, (documents - self._begins[which]) % 2]

    def second(self, first: int, stop: int) -> np.ndarray:
        """bool: which of the documents first .. stop - 1 of the split are the second of a pair."""
        documents = np.arange(first, stop)
        which = self._origin(documents)
        return self._paired[which] & ((documents - self._begins[which]) % 2 == 1)

    def _origin(self, documents: np.ndarray) -> np.ndarray:
        return np.minimum(np.searchsorted(self._ends, documents, side="right"), len(self._ends) - 1)


class PairedLanguages(Languages):
    """As Languages, of samples that hold both sides of a pair."""

    pairs = True

    def of(self, documents: np.ndarray) -> np.ndarray:
        """int64 [B, 2]: of each document and of the other side of its pair, NONE where it is half of none."""
        which = self._origin(documents)
        first, second = self._numbers[which].T
        return np.stack([first, np.where(self._paired[which], second, NONE)], axis=1)


def languages_for(prepared: Prepared, config: Config, split: Split) -> Languages | None:
    """What the objective wants to know of languages; null: nothing."""
    description = config.objective.description
    if description.reads_languages:
        return Languages(prepared, config, split, _token(prepared, config))
    if description.reads_pairs_of_languages:
        return PairedLanguages(prepared, config, split, _row(config))
    return Languages(prepared, config, split, _row(config)) if config.model.languages else None


def _stated(config: Config, origin: str) -> list[tuple[str, str]]:
    """The languages of an origin's documents, which take turns, with the keys that state them."""
    data = config.data
    if origin in data.pairs:
        return [(language, f"data.parallel.{language}") for language in data.pairs[origin]]
    source = data.sources.get(origin)
    if source is not None and source.language is not None:
        return [(source.language, f"data.sources.{origin}.language")]
    description = config.objective.description
    if not description.reads_languages and not config.model.languages:
        return [("", "")]
    where = f"data.sources.{origin}.language" if source else "data=mixture with data.sources.*.language"
    raise UserError(f"objective={config.objective.name}: it needs the language of every text; state {where}")


def _token(prepared: Prepared, config: Config) -> Number:
    def number(language: str, key: str) -> int:
        token = f"<{language}>"
        if token not in prepared.specials:
            name = config.objective.name
            raise UserError(f"objective={name}: the tokenizer has no {token}; add it to tokenizer.symbols")
        return prepared.specials[token]

    return number


def _row(config: Config) -> Number:
    def number(language: str, key: str) -> int:
        known = config.model.languages
        if not known:
            return 0
        if missing := missing_languages([language], known, key):
            raise UserError(missing[0])
        return known.index(language)

    return number
