"""One rank of those that share sequences reads; each of them gets its own positions of what was read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.ports import free_port
from trainer.training.distributed import World
from trainer.training.sequences import Sharing
from trainer.utils.errors import UserError

RANK = """
import json
import numpy as np
from types import SimpleNamespace
from trainer.data import StepBatch
from trainer.training.distributed import join
from trainer.training.sequences import Sharing
world = join("cpu", 60, 60)
engine = SimpleNamespace(sequence_parallel=2, sequence_kind="ulysses")
sharing = Sharing(SimpleNamespace(engine=engine, model=SimpleNamespace(family="decoder")), world)

def drawn():
    if world.rank % 2:
        raise AssertionError("read by a rank that is not the first of its group")
    for step in (5, 6):
        tokens = np.arange(8).reshape(2, 4) + 100 * step + 1000 * sharing.data_rank
        yield StepBatch(step, [{"tokens": tokens, "segments": tokens * 0, "flags": tokens > 0}] * 2, 0.5)

steps = [[one.step, one.seconds_waited, [micro["tokens"].tolist() for micro in one.micro_batches],
          one.micro_batches[0]["segments"].shape, str(one.micro_batches[0]["flags"].dtype)]
         for one in sharing.steps(drawn())]
print(json.dumps([sharing.data_rank, sharing.data_ranks, steps]), flush=True)
world.barrier()
"""


def test_the_first_of_a_group_reads() -> None:
    port, processes = str(free_port()), []
    for rank in range(4):
        place = {"RANK": str(rank), "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": str(rank)}
        environment = {**os.environ, **place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes.append(subprocess.Popen([sys.executable, "-c", RANK], env=environment, stdout=-1, text=True))
    found = [json.loads(process.communicate(timeout=600)[0]) for process in processes]
    for rank, (group, groups, steps) in enumerate(found):
        assert (group, groups) == (rank // 2, 2)
        assert [step for step, *_ in steps] == [5, 6]
        for step, waited, tokens, segments, flags in steps:
            first = 100 * step + 1000 * group + 2 * (rank % 2)
            assert tokens == [[[first, first + 1], [first + 4, first + 5]]] * 2
            assert (waited, segments, flags) == (0.5, [2, 4], "bool")


def test_ranks_that_are_left_are_whole_groups() -> None:
    config: Any = SimpleNamespace(engine=SimpleNamespace(sequence_parallel=4))
    with pytest.raises(UserError, match="4 does not divide the 6 ranks that are left"):
        Sharing(config, World(0, 6, 0, torch.device("cpu")))
