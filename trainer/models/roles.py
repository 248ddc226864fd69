"""What each parameter is for, told by the module that owns it."""

from __future__ import annotations

from torch import nn

from trainer.descriptions.optimizers import Role


def roles(model: nn.Module) -> dict[str, Role]:
    """The role of every parameter, by name.

    A module says the role of its weight (`role`) or of several parameters (`roles`); all else is a vector, whatever
    its shape: biases, norms, XLNet's biases of a head. A matrix that is an embedding and an output matrix at once is an
    embedding.
    """
    of_weights: dict[int, Role] = {}
    for module in model.modules():
        weight, role = getattr(module, "weight", None), getattr(module, "role", None)
        if role is not None and isinstance(weight, nn.Parameter) and of_weights.get(id(weight)) != "embedding":
            of_weights[id(weight)] = role
        of_weights |= {
            id(module.get_parameter(name)): one
            for name, one in getattr(module, "roles", {}).items()
            if getattr(module, name) is not None
        }
    return {name: of_weights.get(id(parameter), "vector") for name, parameter in model.named_parameters()}
