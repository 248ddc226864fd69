"""Where a run goes on from: its own newest checkpoint, and a branch that has none yet from its trunk's."""

from __future__ import annotations

from pathlib import Path

from trainer.books.branch import read_branch, write_branch
from trainer.config import Config
from trainer.run_folder import RunFolder
from trainer.training.checkpoint import Checkpoint, latest_valid_checkpoint, open_checkpoint
from trainer.training.distributed import World
from trainer.utils.checkpoint_files import CorruptCheckpoint, folder_of
from trainer.utils.errors import UserError


def newest_checkpoint(config: Config, folder: RunFolder, world: World) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint that the run goes on from, if any, and a line for each later one that is corrupt. Collective.

    Raises UserError where a branch has none of its own and its trunk's is not there, or not as it was.
    """
    checkpoint, damage = latest_valid_checkpoint(folder.checkpoints, world)
    if checkpoint is None and config.branch.given:
        checkpoint = _of_trunk(config, folder, world)
    return checkpoint, damage


def _of_trunk(config: Config, folder: RunFolder, world: World) -> Checkpoint:
    trunk, step = RunFolder(Path(str(config.branch.run))), config.branch.step
    assert step is not None
    place = folder_of(trunk.checkpoints, step)
    if not world.broadcast(place.is_dir()):
        again = "has deleted it" if world.broadcast(bool(read_branch(folder.path))) else "has not come so far"
        raise UserError(
            f"branch: {place} is not there, and this run has no checkpoint of its own yet: the trunk {again}, or lies "
            "elsewhere by now; checkpoint.at_steps of a trunk keeps one"
        )
    checkpoint, error = None, None
    try:
        checkpoint = open_checkpoint(place, (world.rank, world.size))
    except CorruptCheckpoint as caught:
        error = str(caught)
    if errors := [one for one in world.gather(error) if one]:
        raise UserError(f"branch: {place} is damaged ({errors[0]}); name another one: branch=<run>@<step>")
    assert checkpoint is not None
    known = config.branch.checkpoint or (world.broadcast(read_branch(folder.path)) or {}).get("checkpoint")
    if known is not None and checkpoint.manifest["sha256"] != known:
        raise UserError(f"branch: {place} holds another state than this run is to begin from ({known[:12]})")
    return checkpoint


def begin_branch(config: Config, folder: RunFolder, checkpoint: Checkpoint | None, data: str, world: World) -> None:
    """Where a branch goes on from its trunk's checkpoint, write down, once, what the trunk did until there.

    data: fingerprint of what the branch reads. Raises UserError where the trunk read other tokens."""
    if checkpoint is None or checkpoint.folder.parent == folder.checkpoints or not config.branch.given:
        return
    theirs = checkpoint.manifest.get("data")
    if theirs != data:
        raise UserError(
            f"data: the corpus or tokenizer changed since the trunk's checkpoint (tokens {data[:12]} now, "
            f"{str(theirs)[:12]} then); restore it, or train a new trunk"
        )
    if world.is_first and read_branch(folder.path) is None:
        trunk = RunFolder(Path(str(config.branch.run)))
        before = trunk.load_config()
        numerics = ", then ".join(trunk.numerics(before)) or None
        facts = {"checkpoint": checkpoint.manifest["sha256"], "numerics": numerics}
        write_branch(folder.path, trunk.path, before, checkpoint.step, facts)
