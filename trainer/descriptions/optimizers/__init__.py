"""The optimizers: what each keeps beside a parameter, which keys it reads, and which parameters it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from trainer.descriptions.registry import Description, Registry

# What a parameter is for: a table of rows that are looked up, an output matrix, another matrix, or else: norms, biases.
Role = Literal["embedding", "head", "matrix", "vector"]
ROLES: tuple[Role, ...] = ("embedding", "head", "matrix", "vector")
Shape = tuple[int, ...]
Shapes = Mapping[tuple[Role, Shape], int]  # how many parameters there are of each


class OptimizerDescription(Description):
    """Its implementation makes a `torch.optim.Optimizer` from groups of parameters and the configuration's group
    `optim`. A group has `params`, `weight_decay` and `lr_scale`, which trainer/training/optimizers sets, `role`
    where the description is `by_role`, and `eps` where CompleteP changes epsilon. One that has a `momentum` reads it of
    the group in each step: the first of `betas`, else `momentum`.
    """

    # fp32 tensors that the optimizer keeps, by their names in its state. They are zeros before the first step, and a
    # checkpoint holds them under these names.
    states: ClassVar[tuple[str, ...]]
    counts_steps: ClassVar[bool] = False  # whether "step", a number, is in that state too
    by_role: ClassVar[bool] = False  # whether a group holds parameters of one role
    momentum: ClassVar[str | None] = None  # the key of its momentum, which optim.momentum_schedule changes
    mup_power: ClassVar[float | None] = (
        1.0  # under muP, matrices learn at width_growth ** -mup_power; None: not worked out
    )
    # Whether `step` leaves weights and states as they are, to the bit, where the optimizer's attribute `found_inf`, a
    # tensor on their device, is 1: as torch's fused ones do.
    leaves_out: ClassVar[bool] = False

    follows_gradient: ClassVar[bool] = False  # whether an update is as long as the gradient; else its length is its own

    def state_shapes(self, role: Role, shape: Shape) -> dict[str, Shape]:
        """The shapes of the states of a parameter. Those of its own shape are divided over ranks as it is; the others
        are whole on each rank that holds a part of the parameter."""
        return dict.fromkeys(self.states, shape)

    def state_numbers(self, parameters: int) -> int:
        """fp32 numbers that are kept for so many parameters, 4 bytes each, where all states have their shape."""
        return len(self.states) * parameters

    def numbers(self, shapes: Shapes) -> int:
        """fp32 numbers that are kept for parameters of these roles and shapes, of which there are so many."""
        return self.state_numbers(sum(size(shape) * count for (_, shape), count in shapes.items()))

    def flop(self, role: Role, shape: Shape) -> int:
        """Of the matrix products in the update of a parameter."""
        return 0

    def bytes_sent(self, shapes: Shapes, ranks: int, stage: int) -> float:
        """What one rank sends in an update beside what ZeRO sends, on average, at ZeRO stages 1 to 3."""
        return 0.0

    def used(self, optim: Any) -> tuple[str, float] | None:
        """Where the weights that are used of a trained model are not those that are trained: a state, and how far the
        former lie from the latter on the line to it (1: they are the state). `optim`: the group of the configuration.
        """
        return None

    def takes(self, shape: Shape) -> bool:
        """Whether it updates a parameter of this shape. A model that has others is refused."""
        return True


class _ByRole(OptimizerDescription):
    """One whose states differ from role to role."""

    by_role = True

    def numbers(self, shapes: Shapes) -> int:
        return sum(
            count * sum(map(size, self.state_shapes(role, shape).values())) for (role, shape), count in shapes.items()
        )


def read_in_bf16(role: Role, *, wide: bool = False) -> bool:
    """Whether products in bf16 read nothing of a weight but what bf16 has of it, so that it may travel in bf16. Rows of
    an embedding are added up in fp32, also where its matrix is that of the output too. wide: a matrix that multiplies
    in fp32 whatever the precision is, as a router's."""
    return role in ("matrix", "head") and not wide


def size(shape: Shape) -> int:
    """Numbers in a tensor of this shape."""
    product = 1
    for one in shape:
        product *= one
    return product


OPTIMIZERS: Registry[OptimizerDescription] = Registry(
    "optimizer", "trainer.descriptions.optimizers", OptimizerDescription, chosen_by="optim.name"
)
