"""A trained model from its run folder: plain torch, no engine."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from trainer.checkpoint import each_intact
from trainer.config import Config
from trainer.errors import UserError
from trainer.folder import RunFolder
from trainer.models import build


def load_model(run: Path, config: Config | None = None) -> tuple[nn.Module, Config, int]:
    """The model of the newest intact checkpoint in evaluation mode, the run's configuration and the checkpoint's step.

    Raises UserError when there is no intact checkpoint."""
    folder = RunFolder(run)
    config = config or folder.load_config()
    checkpoint = next(each_intact(folder.checkpoints), None)
    if checkpoint is None:
        raise UserError(f"{run}: no intact checkpoint yet")
    if not torch.cuda.is_available() or config.engine.device == "cpu":
        device = "cpu"
    else:
        device = "cuda"
    with torch.device(device):
        model = build(config)
    model.load_state_dict(checkpoint.weights(), strict=False)
    missing = {name for name, _ in model.named_parameters()} - set(checkpoint.manifest["shapes"])
    if missing:
        raise UserError(f"{checkpoint.folder}: has no weights for {', '.join(sorted(missing)[:3])}")
    return model.eval().to(device), config, checkpoint.step
