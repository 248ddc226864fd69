"""Leaky ReLU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from trainer.config.model import ModelConfig


def leaky(config: ModelConfig) -> Callable[[Tensor], Tensor]:
    return partial(F.leaky_relu, negative_slope=config.negative_slope)
