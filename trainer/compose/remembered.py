"""What a user has `isoflop config` remember: overrides of machinery that hold wherever nothing else is said.

They lie in `remembered.yaml` in the user's configuration folder ($XDG_CONFIG_HOME/isoflop, else ~/.config/isoflop), and
count more than the package's files, and less than a file or a word of the run.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from trainer.compose.overrides import Override
from trainer.compose.sources import REMEMBERED, user_folder
from trainer.config import Config
from trainer.config.numerics import kind
from trainer.config.whole import MACHINERY
from trainer.utils.bounded import read_yaml
from trainer.utils.errors import UserError

OF_ONE_RUN = ("run.id", "branch", "hooks")  # which no other run has


class Remembered(Override):
    """An override that the user's configuration says, and not the command."""


def remembered_file() -> Path:
    return user_folder() / REMEMBERED


def remembered() -> list[Remembered]:
    """What is remembered, as overrides. Raises UserError, in a line for each that this version does not take."""
    words, wrong, found = remembered_words(), [], []
    for word in words:
        try:
            one = Remembered(word)
            if line := one.check() or refusal(one):
                wrong.append(line)
            found.append(one)
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        way = "isoflop config <key>=null forgets it"
        raise UserError("\n".join(f"{remembered_file()}: {line}; {way}" for line in wrong))
    return found


def remembered_words() -> list[str]:
    """The words of the file, as they were given; none where there is no file. Raises UserError."""
    file = remembered_file()
    words = read_yaml(file) or [] if file.is_file() and file.stat().st_size else []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UserError(f"{file}: a list of words such as site=de-2023 wanted")
    return words


def with_remembered(
    overrides: Sequence[Override], groups: Container[str] = (), keys: Container[str] = ()
) -> list[Override]:
    """The overrides with those before them that are remembered and that nothing else takes the place of: of a group
    that they or a file of the run choose nothing remains, of a key only this. groups, keys: that such files set."""
    chosen = {one.key for one in overrides if one.is_group}
    kept = [
        one
        for one in remembered()
        if group_of(one) not in chosen and group_of(one) not in groups and one.key not in keys
    ]
    return [*kept, *overrides]


def group_of(override: Override) -> str:
    """The group that an override is of."""
    return override.key.split(".")[0].split("@")[0]


def refusal(override: Override) -> str | None:
    """Why this is not remembered, or null."""
    key, group = override.key, group_of(override)
    if override.is_sweep:
        return f"{override.text}: one value is remembered, this is many runs"
    if override.deletes:
        return f"{override.text}: write {key}=null to forget it"
    if group not in MACHINERY:
        what = "science" if group in Config.model_fields else "no machinery"
        taken = [one for one in MACHINERY if one not in OF_ONE_RUN]
        return f"{key}: is {what}, which every command says itself; remembered are {', '.join(taken)}"
    if any(key == one or key.startswith(f"{one}.") for one in OF_ONE_RUN):
        return f"{key}: is of one run; say it with the run"
    if "." in key and kind(key) != "machinery":
        return f"{key}: is numerics, which changes the outcome; every command says it itself"
    if override.file is not None:
        return f"{override.text}: give the file a name in {user_folder() / group}, and remember that"
    return None
