"""The run that a branch goes on from: its folder, its configuration, and the checkpoint that is taken."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config import BranchConfig, Config
from trainer.run_folder import RunFolder, find_run
from trainer.utils.checkpoint_files import CorruptCheckpoint, folder_of, steps_in, verified_manifest
from trainer.utils.errors import UserError


@dataclass(frozen=True)
class Trunk:
    """A run, and the step that is gone on from."""

    folder: RunFolder
    config: Config
    step: int
    checkpoint: str | None  # sha256 of its manifest; null: the run will write it (checkpoint.at_steps)


def find_trunk(branch: BranchConfig) -> Trunk:
    """The run that the group names, with a complete checkpoint, or one that it is to write at that step.

    Of its files only the manifest is read: ranks compare the others with it as they load them. Raises UserError.
    """
    name = str(branch.run)
    if not name:  # as of an unset variable of the shell
        raise UserError("branch: name a run, e.g. branch=runs/<experiment>/<id>@<step>; got none")
    try:
        folder = find_run(name, "runs")
    except UserError as error:
        raise UserError(f"branch: {error}") from None
    config, steps = folder.load_config(), steps_in(folder.checkpoints)
    if branch.step is not None and config.branch.step is not None and branch.step <= config.branch.step:
        return find_trunk(BranchConfig(run=config.branch.run, step=branch.step))  # what it shares with its own trunk
    promised = config.checkpoint.at_steps
    if branch.step is None and not steps:
        raise UserError(f"branch: {name} has no checkpoint yet")
    step = steps[-1] if branch.step is None else branch.step
    if step in steps:
        return Trunk(folder, config, step, _digest(folder, name, step))
    if step in promised:
        return Trunk(folder, config, step, None)
    raise UserError(f"branch: {name} has no checkpoint of step {step}{_nearest(steps, step)}")


def _nearest(steps: Sequence[int], step: int) -> str:
    at = bisect(steps, step)
    near = steps[max(0, at - 1) : at + 1]
    if not near:
        return "; there is none yet"
    return f"; the nearest: {' and '.join(map(str, near))} (checkpoint.at_steps=[{step}] of a trunk saves there)"


def _digest(folder: RunFolder, name: str, step: int) -> str:
    place = folder_of(folder.checkpoints, step)
    try:
        manifest = verified_manifest(place, lambda *_: False)
        for file, metadata in manifest["files"].items():
            if not (place / file).is_file() or (place / file).stat().st_size != metadata["bytes"]:
                raise CorruptCheckpoint(f"{file}: missing, or of another size")
    except (CorruptCheckpoint, OSError) as error:
        others = ", ".join(str(one) for one in steps_in(folder.checkpoints) if one != step)
        way = f"; there is {others}" if others else ""
        raise UserError(f"branch: {name}: the checkpoint of step {step} is damaged ({error}){way}") from None
    return str(manifest["sha256"])
