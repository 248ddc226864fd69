"""The words after a verb: overrides, flags and names of runs."""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.plugins import named_in
from trainer.utils.bounded import whole_number
from trainer.utils.errors import UserError, nearest
from trainer.utils.hydra_names import refuse_flags
from trainer.utils.which_weights import NEWEST, Which, split

if TYPE_CHECKING:
    from trainer.books.visible import Document


RUN_WORDS = ("resume", "from", "new_science")  # which name a run to go on from
VALUED = ("--cfg", "-c", "--info", "-i", "--package", "-p")  # flags that may have a value, after =


_short: ContextVar[bool] = ContextVar("short", default=False)


def split_flags(arguments: list[str], *known: str) -> tuple[list[str], set[str]]:
    """Split words into overrides and flags. Raises UserError for a flag this verb does not have."""
    flags = {word for word in arguments if word.startswith("-") and (_flag(word) in VALUED or "=" not in word)}
    for flag in sorted(flag for flag in flags if _flag(flag) not in {*known, "--help", "-h"}):
        there = f"there is {', '.join(known) or 'none'}"
        raise UserError(f"{flag}: no such option{_meant(flag, arguments, known)}; {there}")
    return [word for word in arguments if word not in flags], flags


def _meant(flag: str, arguments: list[str], known: Sequence[str]) -> str:
    """A hint at a flag of nearly this name, or, where a value follows it, at name=value."""
    value = arguments[arguments.index(flag) + 1 :][:1]
    misspelt = get_close_matches(flag, known, n=1, cutoff=0.75)
    if misspelt or not value or "=" in value[0] or value[0].startswith("-") or len(flag.strip("-")) < 2:
        return nearest(flag, known)
    return f" (values are written without dashes: {flag.lstrip('-')}={value[0]})"


def _flag(word: str) -> str:
    return word.partition("=")[0]


def take_config_options(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Take `--config-dir DIR` and `--config-name NAME`, spelled as Hydra does, out of the words.

    Raises UserError for flags of Hydra's that are called otherwise here.
    """
    refuse_flags(words)
    found: dict[str, str] = {}
    for name, flag, short in (("directory", "config-dir", "-cd"), ("primary", "config-name", "-cn")):
        long = [f"--{flag}{word.removeprefix(short)}" if word.partition("=")[0] == short else word for word in words]
        words = option_as_key(long, flag)
        if given := [word for word in words if word.startswith(f"{flag}=")]:
            found[name] = given[-1].partition("=")[2]
        words = [word for word in words if word not in given]
    return words, found


def take_plugins(words: list[str]) -> tuple[list[str], list[str]]:
    """Take `plugins=[my_module]` out of the words; the modules and paths that it names."""
    given = [word for word in words if word.startswith("plugins=")]
    named = [one for word in given for one in named_in(word.partition("=")[2])]
    return [word for word in words if word not in given], named


def option_as_key(arguments: list[str], name: str) -> list[str]:
    """`--name value` and `--name=value` as name=value."""
    flag = f"--{name}"
    words = [word.removeprefix("--") if word.startswith(f"{flag}=") else word for word in arguments]
    if flag not in words:
        return words
    at = words.index(flag)
    if at + 1 == len(words):
        raise UserError(f"{flag}: a value is missing")
    return [*words[:at], f"{name}={words[at + 1]}", *words[at + 2 :]]


@contextlib.contextmanager
def short_help() -> Iterator[io.StringIO]:
    """Verbs print their help without the keys of the configuration, into the text that is yielded."""
    token, said = _short.set(True), io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield said
    finally:
        _short.reset(token)


def wants_help(
    flags: set[str], text: str, words: Sequence[str] = (), *, keys: bool = True, ladder: bool = False
) -> bool:
    """Print a verb's help if it was asked for; with the `keys` of the configuration as they are under the words that
    were given with it, and with those of a `ladder`."""
    if not flags & {"--help", "-h"}:
        return False
    if _short.get():
        more = "\nthe keys that it takes, with their values: add --help to the verb\n" if keys or ladder else ""
        print(text.rstrip("\n") + more)
        return True
    from trainer.compose import describe_ladder

    print((text + (describe_ladder() if ladder else "") + (_described_keys(words) if keys else "")).rstrip("\n"))
    return True


def _described_keys(words: Sequence[str]) -> str:
    """The keys under the words that are about a configuration; those of a run where the words go on from one."""
    from trainer.compose import describe_keys, groups, values_of
    from trainer.config import Config

    known = {*groups(), *Config.model_fields, *RUN_WORDS} - {"ladder", "grid"}
    tops = {word: word.lstrip("+~").partition("=")[0].split(".")[0].split("@")[0] for word in words}
    given = [word for word, top in tops.items() if top in known]
    notes = [f"no key of the configuration: {word}" for word, top in tops.items() if top not in known and "=" in word]
    if not any(tops[word] in RUN_WORDS for word in given):
        return describe_keys(given, notes=notes)
    from trainer.run.start import composed

    try:
        return describe_keys(given, values_of(composed(given)[0]), notes)
    except UserError as error:
        rest = [word for word in given if tops[word] not in RUN_WORDS]
        return describe_keys(rest, notes=[*notes, *str(error).splitlines(), "the values are those without the run"])


def weights_and_overrides(verb: str, words: list[str]) -> tuple[Path, Which, list[str]]:
    """The run that the first word names, as `run_and_overrides`, which of its weights, and the rest.

    `<run>@<step>:<average>`: see trainer/utils/which_weights.py.
    """
    named = {word: split(word) for word in words if "=" not in word or os.path.isdir(split(word)[0])}  # noqa: PTH112
    if len(named) != 1:
        return (*run_and_overrides(verb, words)[:1], NEWEST, words)  # which says what is wrong
    [(word, (run, which))] = named.items()
    path, _ = run_and_overrides(verb, [run])
    return path, which, [one for one in words if one != word]


def works_on(run: Path) -> None:
    """What this command spends is written down in the run's folder."""
    from trainer.meter import costs
    from trainer.run_folder import RunFolder

    costs.into(run, RunFolder(run).load_config())


def run_and_overrides(verb: str, words: list[str]) -> tuple[Path, list[str]]:
    """The run that the first word names (by path, `<experiment>/<id>` or `<id>`), and the rest."""
    from trainer.run_folder import find_run

    names = [word for word in words if "=" not in word or os.path.isdir(word)]  # noqa: PTH112 (any text will do)
    if len(names) != 1:
        raise UserError(
            f"{verb}: name one run, e.g. isoflop {verb} runs/<experiment>/<id>; got {' '.join(names) or 'none'}"
        )
    return find_run(names[0], "runs").path, [word for word in words if word != names[0]]


def folder_and_options(
    verb: str, words: list[str], known: tuple[str, ...], what: str = "folder"
) -> tuple[Path, dict[str, str]]:
    """The one folder that the words name, and the options. what: it is called in a message."""
    there = {word: os.path.exists(word) for word in words}  # noqa: PTH110 (any text will do, of any length)
    options = dict(word.split("=", 1) for word in words if "=" in word and not there[word])
    names = [word for word in words if "=" not in word or there[word]]
    for name in sorted(set(options) - set(known)):
        raise UserError(f"{verb}: {name}: no such option{nearest(name, known)}; there is {', '.join(known) or 'none'}")
    if len(names) != 1:
        raise UserError(f"{verb}: name one {what}; got {' '.join(names) or 'none'}")
    return Path(names[0]), options


def whole_numbers(verb: str, words: list[str], **defaults: int) -> tuple[list[str], dict[str, int]]:
    """Take the verb's own numbers out of the words. Raises UserError where one is no whole number."""
    numbers, rest = dict(defaults), []
    for word in words:
        name, _, text = word.partition("=")
        if name not in defaults:
            rest.append(word)
            continue
        number = whole_number(text)
        if number is None:
            raise UserError(f"{verb}: {name}: {text!r} given, a whole number wanted")
        numbers[name] = number
    return rest, numbers


def take_number(words: list[str], name: str) -> tuple[list[str], float | None]:
    """Take `<name>=<number>` out of the words; None where it is not there. Raises UserError where it is not above 0."""
    given = [word for word in words if word.startswith(f"{name}=")]
    if not given:
        return words, None
    text = given[-1].partition("=")[2]
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise UserError(f"{name}: {text!r} given, a number above 0 wanted")
    return [word for word in words if word not in given], number


def take_folder(verb: str, words: list[str], name: str = "out") -> tuple[list[str], Path | None]:
    """Take `<name>=<folder>` out of the words; None where it is not there. Raises UserError where it names nothing."""
    given = [word for word in words if word.startswith(f"{name}=")]
    if given and not given[-1].partition("=")[2]:
        raise UserError(f"{verb}: {name}: the name of a folder is missing")
    return [word for word in words if word not in given], Path(given[-1].partition("=")[2]) if given else None


def take_documents(words: list[str]) -> tuple[list[str], tuple[Document, ...]]:
    """Take `documents=600,424` out of the words: the documents of one sample, none where nothing is said.

    A slash divides a document in its two parts, see `trainer.books.visible`. Raises UserError where that is no length.
    """
    from trainer.books.visible import Document

    given = [word for word in words if word.startswith("documents=")]
    if not given:
        return words, ()
    text = given[-1].partition("=")[2]
    parts = [[whole_number(number) for number in part.strip().split("/")] for part in text.strip("[]").split(",")]
    if any(len(part) > 2 or None in part for part in parts):
        raise UserError(
            f"documents: {text!r} given, whole numbers with commas between them wanted, e.g. 600,424; of an "
            "encoder-decoder source/target, e.g. 512/114"
        )
    return [word for word in words if word not in given], tuple(Document(*map(int, part)) for part in parts)  # type: ignore[arg-type]


def one_of(verb: str, options: dict[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """One of the allowed words; the first where none is given."""
    given = options.get(name, allowed[0])
    if given not in allowed:
        raise UserError(f"{verb}: {name}: {given!r} given, {' or '.join(allowed)} wanted{nearest(given, allowed)}")
    return given


def number_of(verb: str, options: dict[str, str], name: str, default: int, least: int) -> int:
    given = options.get(name, str(default))
    number = whole_number(given)
    if number is None or number < least:
        raise UserError(f"{verb}: {name}: {given!r} given, a whole number of at least {least} wanted")
    return number
