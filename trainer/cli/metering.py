"""Which verbs are metered, and where what they spend is written down when they do not say it themselves.

Every verb is metered, one that is added later too, unless UNMETERED tells why it is not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.utils.home import expanded
from trainer.utils.which_weights import split

if TYPE_CHECKING:
    from trainer.config import Config

_LOOKS = "prints what is known already, in about a second, and writes nothing below a root"
_SHOWS = "shows files to whoever looks, for as long as they do"
_ASKS = "sends a word to processes or to a server that work elsewhere"
UNMETERED = {
    **dict.fromkeys(
        ("plan", "price", "model", "models", "ledger", "status", "schema", "config", "completion", "help", "doctor"),
        _LOOKS,
    ),
    **dict.fromkeys(("cancel", "workspace"), _ASKS),
    "board": _SHOWS,
    "new": "writes a few files of text",
    "publish": "a claim stands for the files of a root, and a record of its making would be another one",
    "verify": "reads a publication on any host; whoever checks a claim is not of the project that made it",
}
SHOWING = frozenset(("-h", "--help", "--plan", "--cfg", "--info", "--dry-run"))  # flags that leave no work to do
# Verbs that say where they belong once they have composed a configuration; of the others their words say it.
PLACED = frozenset(
    (
        "train",
        "launch",
        "sweep",
        "finetune",
        "grid",
        "lab",
        "profile",
        "data",
        "tokenizer",
        "eval",
        "generate",
        "calibrate",
        "preflight",
    )
)
MAKING_RUNS = ("import",)  # below `runs` here, out of something that lies elsewhere
KEYS = ("to", "out", "runs", "root", "run.root", "run")  # words whose values may lie in a root
DEEPEST = 3  # folders from a root down to what lies in a run's folder


def run_verb(verb: str, call: Callable[[list[str]], int], arguments: list[str], *, whole: bool) -> int:
    """The exit code of a verb. What it spends is metered; `whole`: from the process's start on."""
    if verb in UNMETERED or SHOWING & set(arguments):
        return call(arguments)
    from trainer.meter.costs import metered

    work, words = partial(call, arguments), [verb, *arguments]
    return metered(verb, words, work, whole=whole, place=partial(place_of, words), early=verb not in PLACED)


def place_of(command: Sequence[str]) -> tuple[Path, Config] | None:
    """Where the record of a command (a verb and its words) belongs, and by which configuration it is priced: in the
    folder of the one run that the words name, else with the root that they name something in, else, where they name
    nothing that is there, with `runs` here; None where no root of runs is meant."""
    from trainer.books.cost_records import FOLDER
    from trainer.report.ledger_file import is_root
    from trainer.run_folder import RunFolder

    verb, *words = command
    paths = list(_paths(words))
    named = [path for path in paths if (path / "config.yaml").is_file()]
    if len(named) == 1:
        return named[0], RunFolder(named[0]).load_config()
    roots = (_root_of(path) for path in paths)
    root = next((one for one in roots if one is not None), None)
    of_here = verb in MAKING_RUNS and not any(word.startswith("to=") for word in words)
    if root is None and (of_here or not any(path.exists() for path in paths)) and is_root(Path("runs")):
        root = Path("runs")
    return None if root is None else (root / FOLDER, _remembered())


def _paths(words: Sequence[str]) -> Iterator[Path]:
    """What the words may name: files and folders, and runs by their names."""
    from trainer.run_folder import find_run
    from trainer.utils.errors import UserError

    for word in words:
        name, sign, value = word.partition("=")
        if word.startswith("-") or (sign and name not in KEYS and not os.path.exists(word)):  # noqa: PTH110 (any text)
            continue
        text = value if sign and name in KEYS else split(word)[0]
        path = expanded(text)
        if not sign and not os.path.exists(path):  # noqa: PTH110
            try:
                path = find_run(text, "runs").path
            except (UserError, OSError, ValueError):
                continue
        yield path


def _root_of(path: Path) -> Path | None:
    """The root of runs that this is, or lies in. Of the folders above no more is read than a root's own two marks: one
    of them may be a whole disk."""
    from trainer.report.ledger_file import is_root

    here = path.absolute()
    if (here / "config.yaml").is_file():  # a run
        return here.parent.parent
    if here.is_dir() and is_root(here):
        return here
    if next(here.glob("*/config.yaml"), None) is not None:  # an experiment
        return here.parent
    return next((one for one in list(here.parents)[:DEEPEST] if _is_marked(one)), None)


def _is_marked(folder: Path) -> bool:
    from trainer.books.cost_records import FOLDER, PATTERN

    return (folder / "ledger.jsonl").is_file() or next((folder / FOLDER).glob(PATTERN), None) is not None


def _remembered() -> Config:
    """What is remembered of sites, the meter and the project (`isoflop config`), which costs a composition only where
    something is."""
    from trainer.compose.remembered import remembered_words
    from trainer.config import Config

    words = [word for word in remembered_words() if word.startswith(("site", "meter", "run.project"))]
    if not words:
        return Config()
    from trainer.compose import compose

    return compose(words)
