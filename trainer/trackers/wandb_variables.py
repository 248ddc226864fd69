"""W&B's own environment variables: they stand in for keys of `tracker` that nobody gave, as in `wandb.init`.

What counts, from the weakest to the strongest: default, variable, file, command line. What is found is frozen into the
run, so that a resume, on whatever host, goes on with the same W&B run.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.config import Config
from trainer.descriptions.trackers.wandb import Wandb, run_id, server_url
from trainer.trackers.tracker import say, warn
from trainer.utils.errors import UserError

VARIABLES = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "name": "WANDB_NAME",
    "group": "WANDB_RUN_GROUP",
    "job_type": "WANDB_JOB_TYPE",
    "tags": "WANDB_TAGS",
    "notes": "WANDB_NOTES",
    "dir": "WANDB_DIR",
    "run_id": "WANDB_RUN_ID",
    "resume": "WANDB_RESUME",
    "base_url": "WANDB_BASE_URL",
}
RESUME = {"allow": "allow", "auto": "allow", "must": "must", "never": "never"}
DEFAULT_PROJECT = "isoflop"


def settle(config: Config, before: Config | None) -> Config:
    """The configuration with what the variables say of keys that are null.

    before: of a run that goes on: what it was frozen with holds, and where W&B was on then no variable is read. Raises
    UserError for a variable with a value that W&B does not take.
    """
    tracker = config.tracker
    known = {} if before is None else {key: getattr(before.tracker, key) for key in VARIABLES}
    begun = before is not None and before.tracker.wandb != "disabled" and "group" in before.tracker.model_fields_set
    said = {} if begun else from_variables(os.environ)
    update: dict[str, Any] = {}
    for key in VARIABLES:
        if not getattr(tracker, key):
            value = known.get(key) or said.get(key)
            update |= {key: value} if value else {}
    return config.model_copy(update={"tracker": tracker.model_copy(update=update)}) if update else config


def from_variables(environment: Mapping[str, str]) -> dict[str, Any]:
    """Key -> value of the variables that are set. Raises UserError, all at once, for values that W&B does not take."""
    found: dict[str, Any] = {}
    wrong = []
    for key, name in VARIABLES.items():
        text = environment.get(name, "").strip()
        if not text:
            continue
        try:
            found[key] = _read(key, text)
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    if wrong:
        raise UserError("\n".join(wrong))
    return {key: value for key, value in found.items() if value is not None}


def _read(key: str, text: str) -> Any:
    """A variable's value as its key holds it; None where it may not be written down. Raises ValueError."""
    if key == "tags":
        return tuple(tag for tag in (part.strip() for part in text.split(",")) if tag)
    if key == "resume":
        if text.lower() not in RESUME:
            raise ValueError(f"{text!r} given; W&B takes {', '.join(RESUME)}")
        return RESUME[text.lower()]
    if key == "dir":
        return os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - `..` is not followed through links
    if key == "run_id":
        return run_id(text)
    if key == "base_url":
        try:
            return server_url(text)
        except ValueError:  # with a password in it, which may not be written down: the client reads the variable itself
            return None
    return text


def notes(config: Config) -> list[str]:
    """What to say of the variables that are set: which keys they fill, and which they do not."""
    if is_set("WANDB_SILENT"):
        return []
    said = from_variables(os.environ)
    taken = [key for key, value in said.items() if getattr(config.tracker, key) == value]
    lines = []
    if taken:
        values = ", ".join(f"{key} {_shown(said[key])} from {VARIABLES[key]}" for key in taken)
        lines.append(f"wandb: {values}")
    if other := [key for key in said if key not in taken]:
        values = ", ".join(f"{VARIABLES[key]} ({_shown(getattr(config.tracker, key))} holds)" for key in other)
        lines.append(f"wandb: not read: {values}; command line > file or frozen run > variable > default")
    return lines


def print_unless_silent(text: str) -> None:
    """One line on stdout about W&B, unless WANDB_SILENT is set."""
    if not is_set("WANDB_SILENT"):
        say(text)


def is_set(name: str) -> bool:
    """Whether a variable says yes."""
    return os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")


def _shown(value: Any) -> str:
    text = " ".join(str(",".join(value) if isinstance(value, tuple) else value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def forget_names_of_one_run() -> None:
    """For a command that makes several runs: variables that name one of them are taken out of the environment."""
    given = [VARIABLES[key] for key in Wandb.of_one_run if os.environ.pop(VARIABLES[key], None)]
    if given:
        warn(f"wandb: {', '.join(given)} name one run; this command makes several, and does not read them")


def require_own_ids(configs: Iterable[Config]) -> None:
    """Raise UserError where several runs of a command would log into one W&B run."""
    ids = Counter(config.tracker.run_id for config in configs if config.tracker.run_id)
    for one, runs in ids.items():
        if runs > 1:
            raise UserError(f"tracker.run_id: {one!r} names one W&B run, and {runs} runs would share it; leave it out")


def leave_to_configuration(config: Config) -> None:
    """Take the variables out of this process: the configuration says all of it. The server's name stays where no key
    holds it."""
    for key, name in VARIABLES.items():
        if key != "base_url":
            os.environ.pop(name, None)
    if config.tracker.base_url:
        os.environ["WANDB_BASE_URL"] = config.tracker.base_url


def project_of(config: Config) -> str:
    """The W&B project of a run whose configuration is frozen."""
    return config.tracker.project or DEFAULT_PROJECT


def group_of(config: Config) -> str:
    """Its W&B group."""
    return config.tracker.group or config.experiment
