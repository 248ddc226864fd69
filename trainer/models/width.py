"""muP: how learning rates follow the width, so that the best one stays (Yang et al. 2022, Tensor Programs V).

With AdamW and a model `width_growth` times wider than the base (table 8 of the paper):

    part                                    initial variance     factor          learning rate
    embeddings, norms, biases               as at the base       1               1
    matrices whose inputs grow              / width_growth       1               / width_growth
    output heads                            as at the base       / width_growth  1
    attention scores                                             / head_size

The variances are in `initialization.spread`, the factors in `ModelConfig`. A tied head is the embedding, and learns at
the full rate: so the share of the width is a factor before the head, and not in its learning rate.
"""

from __future__ import annotations

from torch import nn

from trainer.config.model import ModelConfig
from trainer.models.parts import Linear, OutputLayer


def learning_rate_scales(model: nn.Module, power: float | None = 1.0) -> dict[str, float]:
    """The factor of every parameter's learning rate, by name; all 1 without muP.

    power: hidden matrices learn at width_growth ** -power. None: an optimizer for which that is not worked out.
    """
    config = model.config
    assert isinstance(config, ModelConfig)
    hidden = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, Linear) and not isinstance(module, OutputLayer)
    }
    return {
        name: config.width_growth ** -(power or 0.0) if name in hidden else 1.0 for name, _ in model.named_parameters()
    }
