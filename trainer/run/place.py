"""Whether this process is a rank that torchrun has started; variables that look so and are not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.utils.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store

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


@dataclass(frozen=True)
class TorchrunRank:
    """This process's place among the ranks that torchrun started, and the store in which they meet."""

    rank: int
    size: int
    store: Store

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def folder(self, made: Callable[[int], Path]) -> Path | None:
        """The run's folder, which the first rank makes for so many ranks and the others wait for; None where it failed,
        and said why."""
        attempt = f"folder_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        if self.is_first:
            try:
                path = str(made(self.size))
            except BaseException:
                self.store.set(attempt, "")
                raise
            self.store.set(attempt, path)
        found = self.store.get(attempt).decode()
        return Path(found) if found else None

    def done(self, code: int, seconds: float) -> list[int]:
        """The exit code of every rank, on every rank, within so many seconds. Raises DistStoreError where one says
        nothing."""
        self.store.set(f"done_{self.rank}", str(code))
        names = [f"done_{rank}" for rank in range(self.size)]
        self.store.wait(names, timedelta(seconds=seconds))
        return [int(self.store.get(name)) for name in names]


def torchrun_rank() -> TorchrunRank:
    """Of a process that `under_torchrun`."""
    from torch.distributed import TCPStore

    if os.environ.get("OMP_NUM_THREADS") == "1":  # torchrun's own, where the user stated none
        del os.environ["OMP_NUM_THREADS"]
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), size, is_master=False)
    return TorchrunRank(rank, size, store)
