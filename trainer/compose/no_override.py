"""Words that are no override, and what was probably meant."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches

from trainer.compose.sources import groups
from trainer.config.validate import keys


def no_override(text: str, grammar: str) -> str:
    """The line about a word that Hydra's grammar does not take. grammar: what its parser says."""
    if not text.strip():
        return f"{text!r}: an empty word; write key=value"
    if "=" not in text:
        return f"{text}: no = in it{_meant(text)}"
    key, value = re.split(r"\s*=+\s*", text, maxsplit=1)
    if text != f"{key}={value}" and key in {*groups(), *keys()}:
        return f"{text}: one = without spaces around it wanted: {key}={value or '<value>'}"
    if " " in text and all(word.partition("=")[0].lstrip("+~") in {*groups(), *keys()} for word in text.split()):
        return f"{text}: several words in one; each is one of its own"
    first = next((line.strip() for line in grammar.splitlines() if line.strip()), "not understood")
    return f"{text}: not an override in Hydra's grammar ({first}); put quotes around quotes: \"{key}='...'\""


def _meant(word: str) -> str:
    """The override that a word without = stands for: a key, `key:value`, or an option of some group."""
    if word == "help":
        return "; --help tells of a verb, isoflop help finds words"
    known = {*groups(), *keys()}
    key, _, value = word.partition(":")
    if key in known:
        return f"; write {key}={value or '<value>'}"
    if os.path.isfile(os.path.join(word, "config.yaml")):  # noqa: PTH113, PTH118 (any text will do, of any length)
        return f"; to go on with that run: train resume={word}"
    places = [(group, option) for group, options in groups().items() for option in options]
    near = get_close_matches(word, [option for _, option in places], n=1, cutoff=0.75)
    meant = " or ".join(f"{group}={option}" for group, option in places if near == [option])
    return f" (did you mean {meant}?)" if meant else "; write key=value"
