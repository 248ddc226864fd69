"""From whose weights a published run began, where those runs are published too: they can be trained again before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.books.records import read_steps
from trainer.config import Config, load
from trainer.run_folder import find_runs
from trainer.utils.errors import UserError


@dataclass(frozen=True)
class Parent:
    """A run that another one began from."""

    key: str  # of the configuration that names it
    place: str  # its folder then
    step: int | None  # of the checkpoint; null: the newest

    @property
    def name(self) -> str:
        """`<experiment>/<run id>`."""
        return "/".join(Path(self.place).parts[-2:])


def parents_of(config: Config) -> list[Parent]:
    """Those that a configuration names; none of most."""
    named = [
        Parent("branch", str(config.branch.run), config.branch.step) if config.branch.given else None,
        Parent("init", str(config.init.run), config.init.step) if config.init.given else None,
        Parent("task.parent", str(config.task.parent), None) if config.task.parent else None,
    ]
    return [one for one in named if one is not None]


def line_of(raw: Path, run: Path) -> list[Path]:
    """A published run and before it all that it began from, the first one first.

    Raises UserError where one of them is not published, or what it gave came from elsewhere than its training.
    """
    known = {f"{one.parent.name}/{one.name}": one for one in find_runs(raw)}
    line: list[Path] = []

    def add(one: Path) -> None:
        config = load(one / "config.yaml")
        for parent in parents_of(config):
            said = f"rerun: {one.name}: began from another run's weights ({parent.key}: {parent.name})"
            if parent.name not in known:
                raise UserError(f"{said}, which is not published here")
            before = known[parent.name]
            if not read_steps(before).kept:
                raise UserError(f"{said}, which was imported: its weights are not published")
            average = config.init.average if parent.key == "init" else None
            if average is not None and average not in load(before / "config.yaml").optim.averages:
                raise UserError(f"{said}, and from its average {average!r}, which no training makes")
            if before not in line:
                add(before)
        line.append(one)

    add(run)
    return line


def moved(config: Config, places: Mapping[str, Path]) -> Config:
    """The configuration with other folders of the runs that it names, by their `<experiment>/<run id>`; also of what it
    reads in them, such as their tokenizers."""
    olds = {parent.place: str(places[parent.name]) for parent in parents_of(config) if parent.name in places}
    plain = _replaced(config.model_dump(mode="json"), olds)
    if config.branch.given:
        plain["branch"]["checkpoint"] = None  # its manifest tells when it was written; what it holds is compared
    return Config.model_validate(plain)


def _replaced(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(one, places) for name, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, places) for one in value]
    if isinstance(value, str):
        for old, new in places.items():
            if value == old or value.startswith(f"{old}/"):
                return new + value[len(old) :]
    return value


def keeping(config: Config, steps: list[int]) -> Config:
    """The configuration with checkpoints of these steps kept, from which others go on; the training is the same."""
    kept = sorted({*config.checkpoint.at_steps, *steps})
    return config.model_copy(update={"checkpoint": config.checkpoint.model_copy(update={"at_steps": tuple(kept)})})
