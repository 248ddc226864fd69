"""Changes of what a user has `isoflop config` remember."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.compose.composition import compose, differences
from trainer.compose.overrides import Override, parse
from trainer.compose.remembered import refusal, remembered_file, remembered_words
from trainer.config.numerics import kind
from trainer.utils.errors import UserError, nearest
from trainer.utils.files import FULL, write_atomic
from trainer.utils.home import expanded

CURVE = "site.curve"
HEAD = "# Written by `isoflop config`; `isoflop config key=null` forgets a key.\n"


def remember(words: Sequence[str]) -> list[str]:
    """Remember these words, and forget those whose value is null; returns what is remembered now. Raises UserError with
    every error at once, and then nothing has changed."""
    given, before = parse(words), remembered_words()
    _forgotten(given, before)
    if wrong := [line for one in given if (line := refusal(one))]:
        raise UserError("\n".join(wrong))
    kept = before
    for one in given:
        kept = [word for word in kept if not _replaces(one, word)]
        if not _forgets(one):
            kept.append(_lasting(one))
    groups_first = sorted(kept, key=lambda word: "." in _key(word))
    _check(groups_first)
    try:
        _write(groups_first)
    except OSError as error:
        if error.errno in FULL:
            raise
        way = "XDG_CONFIG_HOME names another folder"
        raise UserError(f"config: cannot write {remembered_file()} ({error.strerror}); {way}") from None
    return groups_first


def _write(words: Sequence[str]) -> None:
    if words:
        remembered_file().parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"- '{word.replace(chr(39), 2 * chr(39))}'\n" for word in words)
        write_atomic(remembered_file(), HEAD + lines)
    else:
        remembered_file().unlink(missing_ok=True)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _lasting(override: Override) -> str:
    """The word as it is remembered: without a `+`, which says nothing here, and with the whole path of a curve, since
    runs begin in other folders."""
    value = None if override.is_sweep else override.value()
    if override.key != CURVE or not isinstance(value, str):
        return override.text.lstrip("+")
    path = str(expanded(value).absolute()).replace("\\", "\\\\").replace("'", "\\'")
    return f"{CURVE}='{path}'"


def _forgets(override: Override) -> bool:
    return not override.is_sweep and not override.deletes and override.value() is None


def _replaces(override: Override, word: str) -> bool:
    """Whether a new override takes the place of a remembered word: of its own key, and a group's option, or its
    forgetting, of all keys of the group."""
    key = _key(word)
    return key == override.key or (override.is_group and key.startswith(f"{override.key}."))


def _forgotten(given: Sequence[Override], before: Sequence[str]) -> None:
    """Raise UserError where something is to be forgotten that is not remembered."""
    keys = [_key(word) for word in before]
    for one in given:
        if _forgets(one) and not any(_replaces(one, word) for word in before):
            known = f"; remembered are {', '.join(keys)}" if keys else "; nothing is remembered"
            raise UserError(f"{one.key}: is not remembered{nearest(one.key, keys)}{known}")


def _check(words: Sequence[str]) -> None:
    """Raise UserError where a run with these words would not be one, or another experiment."""
    usual, with_them = compose([], alone=True), compose(words, alone=True)
    changed = differences(usual.science(), with_them.science())
    changed |= {
        key: values
        for key, values in differences(usual.model_dump(mode="json"), with_them.model_dump(mode="json")).items()
        if kind(key) == "numerics"
    }
    if changed:
        raise UserError(
            "\n".join(f"{key}: is set by these words, and changes the outcome; leave it out" for key in changed)
        )
