"""Adafactor (Shazeer and Stern 2018)."""

from __future__ import annotations

from typing import ClassVar

from trainer.descriptions.optimizers import Role, Shape, Shapes, _ByRole, size
from trainer.utils.schema import Section, key


class Adafactor(_ByRole):
    name = "adafactor"
    help = "the second moment of a matrix from the sums of its rows and columns, no momentum (T5)"
    implementation = "trainer.training.optimizers.adafactor:adafactor"
    states = ("row", "column", "exp_avg_sq")
    counts_steps = True
    mup_power: ClassVar[float | None] = None

    class Keys(Section):
        moment_decay_power: float = key(
            0.8, "the second moment decays by 1 - step ** -this", gt=0, le=1, introduced=0.8
        )
        update_clip: float = key(
            1.0, "largest root mean square of a parameter's update, before the rate", gt=0, introduced=1.0
        )
        scale_by_parameter: bool = key(
            True, "the rate is relative to the root mean square of each parameter", introduced=True
        )

    def bytes_sent(self, shapes: Shapes, ranks: int, stage: int) -> float:
        """The sums over rows and columns, added up in a ring."""
        factored = [(shape, count) for (role, shape), count in shapes.items() if role != "vector"]
        sides = sum(count * size(shape[:-2]) * sum(shape[-2:]) for shape, count in factored)
        return 4 * 2 * sides * (ranks - 1) / ranks

    def state_shapes(self, role: Role, shape: Shape) -> dict[str, Shape]:
        if role == "vector" or len(shape) < 2:
            return {"exp_avg_sq": shape}
        return {"row": shape[:-1], "column": (*shape[:-2], shape[-1])}  # of experts' matrices each by itself
