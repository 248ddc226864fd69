"""What each parameter is for, told by the module that owns it."""

from __future__ import annotations

from torch import nn

from trainer.descriptions.optimizers import Role, read_in_bf16


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


def halved(model: nn.Module) -> frozenset[str]:
    """Names of the parameters that autocast rounds to bf16 wherever they are read."""
    wide = {id(one.weight) for one in model.modules() if getattr(one, "in_fp32", False)}
    parameters = dict(model.named_parameters())
    return frozenset(
        name for name, role in roles(model).items() if read_in_bf16(role, wide=id(parameters[name]) in wide)
    )
