"""Schedule-free AdamW (Defazio et al. 2024)."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.optimizers import Role, Shape, _ByRole
from trainer.descriptions.optimizers.keys import Betas, Epsilon

FLAT = ("warmup", "constant")  # pieces of a schedule that leave the rate what it is after warm-up


class ScheduleFree(_ByRole):
    name = "schedule_free"
    help = "AdamW at a constant rate: an average of its steps is what is used, beta1 of the way to it is trained"
    implementation = "trainer.training.optimizers.schedule_free:schedule_free"
    # z of the paper, the second moment, and the sum of squared rates as shares of the peak, one number a parameter.
    states = ("z", "exp_avg_sq", "rate_squares")
    counts_steps = True

    class Keys(Epsilon, Betas):
        pass

    def state_shapes(self, role: Role, shape: Shape) -> dict[str, Shape]:
        return {"z": shape, "exp_avg_sq": shape, "rate_squares": ()}

    def state_numbers(self, parameters: int) -> int:
        return 2 * parameters

    def used(self, optim: Any) -> tuple[str, float] | None:
        """x = (y - (1 - beta1) z) / beta1, of what is trained, y."""
        return "z", 1 - 1 / optim.beta1

    def misfits(self, group: Any) -> list[str]:
        if group.name != self.name:
            return []
        wrong = []
        flat = group.schedule == "constant" or (
            group.schedule == "pieces" and all(piece.shape in FLAT for piece in group.pieces)
        )
        if not flat:
            wrong.append(
                f"schedule: {group.schedule} given, constant wanted: optim.name=schedule_free has no schedule after "
                "warm-up"
            )
        if group.beta1 == 0:
            wrong.append(
                "beta1: 0 given, more wanted: optim.name=schedule_free trains at beta1 of the way to its average"
            )
        if group.averages:
            wrong.append(
                "averages: optim.name=schedule_free is an average already, and is evaluated as one; leave them out"
            )
        return wrong
