"""What `isoflop help` finds by words: verbs, keys with their values, options of groups, and sections of pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainer.cli.verbs import TABLE
from trainer.compose.help import written
from trainer.compose.site_table import GROUP as SITES
from trainer.compose.sources import config_file, groups
from trainer.config import Config, GridConfig, LadderConfig
from trainer.config.choice import Choosing
from trainer.utils.documentation import pages, sections

BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
LEFT_OUT = {"a", "an", "and", "are", "can", "do", "does", "for", "from", "how", "i", "in", "is", "it", "my", "of", "on"}
LEFT_OUT |= {"or", "the", "to", "what", "which", "with"}


class Found(NamedTuple):
    """Something with a name. facts: of a key its default, unit and bounds. body: words that count less than those of
    name and sentence."""

    kind: str  # verb, key, value, preset or page
    name: str
    sentence: str
    body: str = ""
    facts: str = ""


class Key(NamedTuple):
    """A key of the configuration as the schema knows it."""

    name: str
    field: FieldInfo

    @property
    def unit(self) -> str:
        extra = self.field.json_schema_extra
        return str(extra.get("unit") or "") if isinstance(extra, dict) else ""

    @property
    def default(self) -> str:
        value = self.field.get_default(call_default_factory=True)  # type: ignore[call-arg]
        return written(value.model_dump(mode="json") if isinstance(value, BaseModel) else value)

    @property
    def bounds(self) -> str:
        """Such as `>= 0, < 1`; empty where the schema states none."""
        return ", ".join(f"{sign} {bound}" for name, sign in BOUNDS.items() if (bound := self._bound(name)) is not None)

    @property
    def choices(self) -> list[str]:
        """The words that it may hold, of a key that holds one of some."""
        return [written(one) for one in _literals(self.field.annotation)]

    def _bound(self, name: str) -> Any:
        return next((one for part in self.field.metadata if (one := getattr(part, name, None)) is not None), None)

    @property
    def facts(self) -> str:
        """Default, unit and bounds in a few words."""
        said = [f"= {self.default}" + (f" {self.unit}" if self.unit else ""), self.bounds]
        return "; ".join(filter(None, said))


def keys() -> Iterator[Key]:
    """Every key, of ladders and grids too."""
    yield from _keys_of(Config, "")
    yield from _keys_of(LadderConfig, "ladder.")
    yield from _keys_of(GridConfig, "grid.")


def _keys_of(section: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        inside = field.annotation
        if isinstance(inside, type) and issubclass(inside, BaseModel):
            yield from _keys_of(inside, f"{prefix}{name}.")
        else:
            yield Key(prefix + name, field)


def _literals(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for part in get_args(annotation):
            yield from _literals(part)


@cache
def everything() -> tuple[Found, ...]:
    """What there is to find."""
    return (*_verbs(), *_described_keys(), *_values(), *_presets(), *_sections())


def _verbs() -> Iterator[Found]:
    for name, verb in TABLE.items():
        yield Found("verb", name, verb.does)


def _described_keys() -> Iterator[Found]:
    for key in keys():
        yield Found("key", key.name, key.field.description or "", " ".join(key.choices), key.facts)


def _values() -> Iterator[Found]:
    """What a registry has for a key: objectives, optimizers, schedules and the like."""
    for group, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Choosing):
            for key, choices in section.CHOICES.items():
                for name, what in choices.items():
                    yield Found("value", f"{group}.{key}={name}", what.help)


def _presets() -> Iterator[Found]:
    for group, names in groups().items():
        for name in names:
            there = config_file(f"{group}/{name}")
            if there is not None or group != SITES:  # rows of the table of sites have no file
                yield Found("preset", f"{group}={name}", _first_comment(there[1].read_text()) if there else "")


def _first_comment(text: str) -> str:
    lines = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    return next((line for line in lines if not line.startswith("@package")), "")


def _sections() -> Iterator[Found]:
    for page in pages():
        for section in sections(page):
            yield Found("page", section.place, section.title, section.text)


def search(words: Sequence[str]) -> list[Found]:
    """What has all these words, the best first: those that stand in a name, in a sentence, in the text of a page."""
    asked = asked_words(words)
    ranked = [(_score(asked, one), one) for one in everything()] if asked else []
    return [one for score, one in sorted(ranked, key=lambda pair: -pair[0]) if score > 0]


def asked_words(words: Iterable[str]) -> list[str]:
    """Beginnings of words, in small letters, without those that say nothing."""
    return [stem(word) for word in _split(" ".join(words)) if word not in LEFT_OUT]


def stem(word: str) -> str:
    return word[:-1] if word.endswith("s") and len(word) > 3 and not word.endswith("ss") else word


@cache
def _split(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9]+", text.lower()))


def _score(asked: Sequence[str], one: Found) -> float:
    name, sentence = _split(one.name), _split(one.sentence)
    body = _split(one.body)
    total = 1.0 if "".join(map(stem, _split(one.name.rpartition(".")[2]))) == "".join(asked) else 0.0
    for word in asked:
        if word in map(stem, name):
            total += 4
        elif any(part.startswith(word) for part in name):
            total += 3
        elif any(part.startswith(word) for part in sentence):
            total += 2
        elif times := sum(part.startswith(word) for part in body):
            total += min(1.0, times / 20)
        else:
            return 0
    return total


def nearest_words(words: Sequence[str]) -> str:
    """The words with those that are nowhere replaced by the nearest one; empty where a word has none near."""
    there = sorted({part for one in everything() for part in _split(f"{one.name} {one.sentence}")})
    found = []
    for word in asked_words(words):
        if any(part.startswith(word) for part in there):
            found.append(word)
        elif close := get_close_matches(word, there, n=1, cutoff=0.6):
            found.append(close[0])
        else:
            return ""
    return " ".join(found)
