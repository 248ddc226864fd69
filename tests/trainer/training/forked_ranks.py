"""Ranks that are forked from a process which has imported everything."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

import torch

from tests.ports import free_port
from trainer.training.distributed import World, join

SECONDS = 300


def forked_ranks(ranks: int, work: Callable[[World], None]) -> None:
    """Do this work in so many processes, which form a world. Raises SystemExit where one of them fails."""
    port, children = free_port(), []
    for rank in range(ranks):
        if (child := os.fork()) == 0:
            code = 1
            try:
                place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
                torch.set_num_threads(1)
                world = join("cpu", SECONDS)
                work(world)
                world.barrier()
                code = 0
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        raise SystemExit(f"{ranks} ranks ended with {codes}")
