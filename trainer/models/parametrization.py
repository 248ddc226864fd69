"""muP and CompleteP: how rates, decay and epsilon follow width and depth, so that the best settings of a small model
stay those of a large one.

muP (Yang et al. 2022, Tensor Programs V, table 8, for AdamW) is there with `model.mup_base_width`, CompleteP (Dey et
al. 2025, arXiv 2505.01618, table 1) with `model.mup_base_depth`. For a model n times wider and m times deeper than its
base (`width_growth`, `depth_growth`), a = `mup_depth_power`: 1 is CompleteP, 1/2 the older rule for depth (Yang et al.
2023, Tensor Programs VI; Bordelon et al. 2023).

    part                                   initial variance  factor   learning rate    decay coefficient  epsilon
    embeddings, last norm, biases of heads as at the base    1        1                1                  n^-1
    norms and biases in blocks             as at the base    1        m^(a-1)          -                  n^-1 m^-a
    matrices in blocks                     n^-1              1        n^-1 m^(a-1)     n                  n^-1 m^-a
    other matrices whose inputs grow       n^-1              1        n^-1             n                  n^-1
    branches of the residual stream                          m^-a
    output heads                           as at the base    n^-1     1                1                  n^-1
    attention scores                                         1 / head_size

"As at the base" also of what else an initial variance has of the depth (`init_residual`). The last column needs
`mup_base_depth`: muP alone leaves epsilon as it is. Where width and depth are those of the base all factors are 1.
The variances are in `initialization`, the other factors in `ModelConfig`. A tied head is the embedding, and learns at
the full rate: so the share of the width is a factor before the head, and not in its learning rate.

Decay. A step takes rate x coefficient of a weight away. The table's product does not depend on the width: the decay is
independent of it, and so is the number of steps over which weights average their updates, which long runs need for the
best rate to stay (Wang and Aitchison 2024, arXiv 2405.13698; Kosson et al. 2025, arXiv 2510.19093).
`optim.mup_weight_decay=standard` leaves the coefficient as it is, so that the decay falls with the rate.

Other optimizers. The exponent of n in the rate of matrices is the description's `mup_power`. Updates whose length is
their own (Adam's kin, signs, orthogonal matrices, steps relative to the weights) follow m as AdamW's do. Those of SGD
are as long as the gradient, which falls as m^-a in blocks: its rate there is m^(2a-1).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import nn

from trainer.config.model import ModelConfig
from trainer.models.block import Block
from trainer.models.parts import Linear, OutputLayer

Decay = Literal["independent", "standard"]


class Scale(NamedTuple):
    """What a parameter's settings are multiplied by; all 1 at the base."""

    rate: float = 1.0
    decay_divisor: float = 1.0  # the coefficient of decay is divided by it
    epsilon: float = 1.0


def parameter_scales(
    model: nn.Module, power: float | None = 1.0, *, follows_gradient: bool = False, decay: Decay = "independent"
) -> dict[str, Scale]:
    """The scale of every parameter, by name.

    power: matrices whose inputs grow learn at width_growth ** -power. None: an optimizer for which that is not worked
    out. follows_gradient: its updates are as long as the gradient. decay: as `optim.mup_weight_decay`.
    """
    config = model.config
    assert isinstance(config, ModelConfig)
    modules = dict(model.named_modules())
    hidden = {
        f"{name}.weight"
        for name, module in modules.items()
        if isinstance(module, Linear) and not isinstance(module, OutputLayer)
    }
    blocks = tuple(f"{name}." for name, module in modules.items() if isinstance(module, Block))
    by_width = config.width_growth ** -(power or 0.0)
    kept = config.depth_growth ** (config.mup_depth_power - 1)  # of the rate, in blocks
    by_depth = config.depth_growth ** (2 * config.mup_depth_power - 1) if follows_gradient else kept

    def scale(name: str) -> Scale:
        width = by_width if name in hidden else 1.0
        inside = name.startswith(blocks)
        rate = width * by_depth if inside else width
        divisor = rate / kept if inside else rate
        epsilon = 1.0
        if config.mup_base_depth is not None:
            epsilon = (config.branch_factor if inside else 1.0) / config.width_growth
        return Scale(rate, divisor if decay == "independent" else 1.0, epsilon)

    return {name: scale(name) for name, _ in model.named_parameters()}


def learning_rate_scales(model: nn.Module, power: float | None = 1.0) -> dict[str, float]:
    """The factor of every parameter's learning rate, by name; all 1 at the base."""
    return {name: scale.rate for name, scale in parameter_scales(model, power).items()}
