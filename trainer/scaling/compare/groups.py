"""Which runs are one experiment with several seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.compose import differences
from trainer.config import MACHINERY
from trainer.report import RunData, read_run
from trainer.run_folder import find_run, find_runs, readable
from trainer.scaling.origin import fingerprint
from trainer.utils.errors import UserError
from trainer.utils.outcomes import Status

# Settings that differ in every run and mean nothing.
NAMELESS = ("run.", "seed")
FINGERPRINT = "data.fingerprint"  # of the tokens that were read: the same settings may have found another text


@dataclass(frozen=True)
class Group:
    """Runs of one science, one numerics and the same tokens that differ in the seed alone."""

    label: str
    runs: tuple[RunData, ...]

    @property
    def finished(self) -> list[RunData]:
        """One run a seed: the same seed once more tells nothing of how seeds differ."""
        return list({run.config.seed: run for run in reversed(self.runs) if run.status == Status.FINISHED}.values())[
            ::-1
        ]

    @property
    def repeated(self) -> list[RunData]:
        """Finished runs whose seed another one has."""
        counted = {run.run for run in self.finished}
        return [run for run in self.runs if run.status == Status.FINISHED and run.run not in counted]


@dataclass(frozen=True)
class Difference:
    """A setting that is not the same in all groups: its values by group, machinery possibly several in one."""

    key: str
    kind: str  # science, numerics or machinery
    values: tuple[str, ...]


def read_groups(names: Sequence[str], root: str = "runs") -> list[Group]:
    """The runs that the names stand for (a run, or a folder of runs), grouped by science, seeds aside, by numerics and
    by the tokens that they read.

    Groups stand in the order in which they are named, each under the settings that set it apart. Raises UserError
    where a name stands for no run.
    """
    by_setting: dict[str, list[RunData]] = {}
    for run_data in _runs(names, root):
        setting = json.dumps(_setting(run_data) | {"seed": None}, sort_keys=True)
        by_setting.setdefault(setting, []).append(run_data)
    if sum(map(len, by_setting.values())) < 2:
        raise UserError("compare: name at least two runs, or folders that hold them")
    groups = [sorted(runs, key=lambda run: run.config.seed) for runs in by_setting.values()]
    return [Group(label, tuple(runs)) for label, runs in zip(_labels(groups), groups, strict=True)]


def _runs(names: Sequence[str], root: str) -> Iterable[RunData]:
    """Each once. Of a folder of runs those that cannot be read are told and left out. What isoflop itself writes beside
    runs (`fit`, `comparison`) is passed over, so that a shell's * may name it."""
    seen: set[Path] = set()
    for name in names:
        if len(names) > 1 and _written_beside_runs(Path(name)):
            continue
        paths = _below(name, root)
        fresh = [path for path in paths or [find_run(name, root).path] if path not in seen]
        seen.update(fresh)
        yield from readable(fresh, read_run) if paths else map(read_run, fresh)


def _written_beside_runs(path: Path) -> bool:
    """A folder of a fit or a comparison, or a file of a sweep."""
    pages = ("fit.json", "compare.json", "grid.json")
    return path.is_file() or (path.is_dir() and any((path / page).is_file() for page in pages))


def _below(name: str, root: str) -> list[Path]:
    """The runs of a folder that is none itself; of another name none."""
    for folder in (Path(name), Path(root) / name):
        if folder.is_dir() and not (folder / "config.yaml").is_file() and (found := find_runs(folder)):
            return found
    return []


def _labels(groups: Sequence[Sequence[RunData]]) -> list[str]:
    """What sets each group apart: the science and numerics that differ, or the runs' names where that is too long."""
    keys = [line.key for line in _differing_settings(groups)]
    labels = []
    for number, runs in enumerate(groups):
        words = [f"{key}={_at(_setting(runs[0]), key)}" for key in keys]
        short = " ".join(words)
        name = f"{runs[0].run.parent.name}/{runs[0].run.name}" if len(runs) == 1 else runs[0].run.parent.name
        labels.append(short if words and len(short) <= 40 else name)
        if labels[-1] in labels[:-1]:
            labels[-1] += f" ({number + 1})"
    return labels


def all_differences(groups: Sequence[Group]) -> list[Difference]:
    """Every setting of science, then numerics, then machinery, that differs between groups."""
    machinery = [[run.config.model_dump(mode="json", include=set(MACHINERY)) for run in group.runs] for group in groups]
    return [*_differing_settings([group.runs for group in groups]), *_differing(machinery, "machinery")]


def _setting(run: RunData) -> dict[str, Any]:
    """What runs of one group share, seeds aside."""
    science = run.config.science()
    science["data"] = science["data"] | {"fingerprint": fingerprint(run)}
    return science | {"numerics": run.numerics}


def _differing_settings(groups: Sequence[Sequence[RunData]]) -> list[Difference]:
    """Of science, then of numerics. The fingerprint of the tokens stands there where no setting explains it."""
    found = _differing([[_setting(run) for run in runs] for runs in groups], "science")
    if any(line.key.startswith(("data.", "tokenizer.")) and line.key != FINGERPRINT for line in found):
        found = [line for line in found if line.key != FINGERPRINT]
    return [replace(line, kind="numerics") if line.key == "numerics" else line for line in found]


def _differing(sections: Sequence[Sequence[dict[str, Any]]], kind: str) -> list[Difference]:
    first = sections[0][0]
    keys = dict.fromkeys(key for group in sections for one in group for key in differences(first, one))
    found = []
    for key in keys:
        if key.startswith(NAMELESS):
            continue
        values = tuple(_joined(_at(one, key) for one in group) for group in sections)
        if len(set(values)) > 1:
            found.append(Difference(key, kind, values))
    return found


def _at(section: Any, key: str) -> str:
    for part in key.split("."):
        section = section.get(part) if isinstance(section, dict) else None
    return "null" if section is None else str(section)


def _joined(values: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(values))
