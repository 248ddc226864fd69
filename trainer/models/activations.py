"""The nonlinearities of `trainer.descriptions.activations`, each made from a model's configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels import geglu
from trainer.config.model import ModelConfig
from trainer.descriptions.activations import ACTIVATIONS
from trainer.descriptions.registry import imported
from trainer.utils.errors import UserError

Activation = Callable[[Tensor], Tensor]


def activation(config: ModelConfig) -> Activation:
    """The nonlinearity that the model chooses. Raises UserError where what it names makes no function."""
    made: Activation = ACTIVATIONS.implementation(config.activation)(config)
    if not callable(made):
        place = ACTIVATIONS[config.activation].implementation
        raise UserError(f"activation {config.activation}: {place} makes no function of a tensor")
    return made


def pooled_activation(config: ModelConfig) -> Activation:
    """What the layer on the first token ends with: tanh (Devlin et al. 2019), or the released code's of DeBERTa (gelu)
    and of DistilBERT (relu)."""
    known: dict[str, Activation] = {"tanh": torch.tanh, "gelu": F.gelu, "relu": F.relu}
    return known[config.pooler_activation]


def gated_product(config: ModelConfig) -> Callable[..., Tensor] | None:
    """The kernel for activation(gate) * up, called as (gate, up, backend=...); None where there is none."""
    place = ACTIVATIONS[config.activation].gated
    return None if place is None else imported(place)


def gelu(config: ModelConfig) -> Activation:
    return F.gelu


def gelu_tanh(config: ModelConfig) -> Activation:
    return partial(F.gelu, approximate="tanh")


def relu(config: ModelConfig) -> Activation:
    return F.relu


def silu(config: ModelConfig) -> Activation:
    return F.silu


geglu_tanh = partial(geglu, approximate=True)
