"""Whether this process is a rank that torchrun has started; variables that look so and are not."""

from __future__ import annotations

import os
import sys

from trainer.utils.errors import UserError

PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OF_A_RANK = (*PLACE, "LOCAL_WORLD_SIZE", "GROUP_RANK")
BY_TORCHRUN = "TORCHELASTIC_RUN_ID"  # torchrun sets that too, and keeps the store in which its ranks meet


def under_torchrun() -> bool:
    """Whether torchrun started this process as one of its ranks. Some of a rank's variables alone, left over from
    another program, are told and forgotten. Raises UserError where another launcher has set them all."""
    given = [name for name in OF_A_RANK if name in os.environ]
    if not given:
        return False
    whole = all(name in os.environ for name in PLACE)
    if whole and BY_TORCHRUN in os.environ:
        return True
    if whole:
        raise UserError(
            f"{', '.join(PLACE)}: set, and not by torchrun; start ranks with torchrun, srun or isoflop launch, "
            f"or unset {' '.join(given)}"
        )
    print(f"isoflop: {', '.join(given)}: of no rank (torchrun sets {', '.join(PLACE)}); ignored", file=sys.stderr)
    for name in given:
        del os.environ[name]
    return False
