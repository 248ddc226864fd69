"""The model of an engine as plain torch has it, for what is no training step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainer.config.host import precision
from trainer.models import Model, PolicyAndReference, build
from trainer.models.expert_ranks import of_all_ranks
from trainer.models.model import stored_buffers
from trainer.models.sequence import whole_sequences
from trainer.training.engine.engine import Engine


@contextmanager
def whole_model(engine: Engine) -> Iterator[Model | PolicyAndReference]:
    """The weights that are used, whole on every rank, in evaluation mode and the precision of the run, without
    gradients. Training goes on from there as if nothing had been: random numbers of torch are where they were.
    Collective.

    Up to ZeRO stage 2 it is the model that trains; a copy where no rank has all of it: at stage 3, and where ranks
    share experts.
    """
    devices = [engine.device] if engine.device.type == "cuda" else []
    with torch.random.fork_rng(devices), engine.evaluation():
        model = _copy(engine) if engine.stage == 3 or engine.experts_shared else engine.model
        low = torch.autocast(engine.device.type, dtype=torch.bfloat16, enabled=precision(engine.config) == "bf16")
        with low, whole_sequences(model):  # also where ranks share the sequences that they train on
            yield model


def _copy(engine: Engine) -> Model | PolicyAndReference:
    """With all weights that the engine has parts of, one after the other, and with its buffers."""
    with torch.device(engine.device):
        model = build(engine.config)
    wanted, buffers = dict(model.named_parameters()), stored_buffers(model)
    engine.layout.settle()
    for name, parameter in engine.model.named_parameters():
        with engine.layout.whole(parameter):
            wanted[name].data.copy_(of_all_ranks(parameter))
    for name, buffer in stored_buffers(engine.model).items():
        buffers[name].copy_(buffer)
    return model.eval()
