"""Whether a run can go on from what its folder holds: the same science, or new science that fits its checkpoint."""

from __future__ import annotations

from trainer.compose import differences
from trainer.config import Config
from trainer.config.places import is_place
from trainer.descriptions.optimizers import OPTIMIZERS
from trainer.run_folder import RunFolder, read_entries
from trainer.utils.errors import UserError


def same_science(before: Config, config: Config, folder: RunFolder, new_science: bool = False) -> None:
    """Raise UserError where `folder` holds a run of another science than `config`.

    Where its text lies is no science once it is known which tokens the run began with: `_same_data` looks at those.
    """
    changed = differences(before.science(), config.science())
    if any("data" in entry for entry in read_entries(folder.environment)):
        changed = {key: values for key, values in changed.items() if not is_place(key)}
    if changed and not new_science:
        lines = [
            f"{key}: {now!r} given, the run in {folder.path} has {old!r}"
            for key, (old, now) in list(changed.items())[:8]
        ]
        more = [f"... and {len(changed) - 8} more"] if len(changed) > 8 else []
        way = "this is another experiment: choose another run.id, or go on from its checkpoint with new_science=true"
        raise UserError("\n".join([*lines, *more, way]))


def states_fit(before: Config, config: Config) -> None:
    """Raise UserError where new science asks for an optimizer that keeps other states than the run's checkpoint has."""
    kept, wanted = OPTIMIZERS[before.optim.name].states, OPTIMIZERS[config.optim.name].states
    if kept != wanted:
        raise UserError(
            f"new_science: {config.optim.name} cannot go on from the checkpoint of {before.optim.name}: it keeps "
            f"{', '.join(wanted) or 'nothing'}, the checkpoint has {', '.join(kept) or 'nothing'}; start a new run"
        )


def weights_fit(config: Config, folder: RunFolder) -> None:
    """Raise UserError where new science asks for other weights than the run's checkpoint has."""
    import torch

    from trainer.models import build
    from trainer.models.model import stored_buffers
    from trainer.training.checkpoint import valid_checkpoints

    checkpoint = next(valid_checkpoints(folder.checkpoints), None)
    if checkpoint is None:
        return
    with torch.device("meta"):
        model = build(config)
    wanted = {name: list(one.shape) for name, one in model.named_parameters() if one.requires_grad}
    wanted |= {name: list(one.shape) for name, one in stored_buffers(model, trained=True).items()}
    there = checkpoint.manifest["shapes"]
    for name in {**wanted, **there}:
        if wanted.get(name) != there.get(name):
            raise UserError(
                f"new_science: weights of another shape cannot go on from {checkpoint.folder}: {name} is "
                f"{there.get(name, 'not there')}, {wanted.get(name, 'none')} wanted; start a new run"
            )
