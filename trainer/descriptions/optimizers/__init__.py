"""The optimizers: what each keeps beside a parameter, which keys it reads, and which parameters it takes."""

from __future__ import annotations

from typing import ClassVar

from trainer.descriptions.registry import Description, Registry


class OptimizerDescription(Description):
    """Its implementation makes a `torch.optim.Optimizer` from groups of parameters and the configuration's group
    `optim`. A group has `params`, `weight_decay` and `lr_scale`, which trainer/training/optimizers sets."""

    # fp32 tensors of a parameter's shape that torch's optimizer keeps in its state, by their names there. They are
    # zeros before the first step, and a checkpoint holds them under these names.
    states: ClassVar[tuple[str, ...]]
    counts_steps: ClassVar[bool] = False  # whether "step", a number, is in that state too

    def state_numbers(self, parameters: int) -> int:
        """fp32 numbers that are kept for so many parameters: 4 bytes each."""
        return len(self.states) * parameters

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether it updates a parameter of this shape. A model that has others is refused."""
        return True


OPTIMIZERS: Registry[OptimizerDescription] = Registry(
    "optimizer", "trainer.descriptions.optimizers", OptimizerDescription, chosen_by="optim.name"
)
