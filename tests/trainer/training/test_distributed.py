"""What ranks exchange is plain data, and comes back as JSON has it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.ports import free_port
from trainer.training.distributed import World

# Torch's collectives of objects end in this name: without it none can have been used.
RANK = """
import json, sys
from torch.distributed import distributed_c10d
del distributed_c10d._unpickler
from trainer.training.distributed import join
world = join("cpu", 60, 60)
apart = world.apart()
mine = json.load(sys.stdin)[world.rank]
print(json.dumps([[one.gather(mine), one.broadcast(mine)] for one in (world, apart)]), flush=True)
world.barrier()  # a group that is left while another rank still talks to it may abort that rank's process
distributed_c10d.destroy_process_group()
"""
VALUES = [
    ["short", None],
    [{"text": "ein Wort für 漢字 " * 500, "nested": [[1, -2.5, 1e300], {}, []], "yes": True, "small": 5e-324}, 7],
    [[], math.inf],
]


def test_every_rank_gets_what_every_rank_gave() -> None:
    port = str(free_port())

    def start(rank: int) -> subprocess.Popen[str]:
        place = {"RANK": str(rank), "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3", "LOCAL_RANK": str(rank)}
        environment = {**os.environ, **place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return subprocess.Popen([sys.executable, "-c", RANK], env=environment, stdin=-1, stdout=-1, text=True)

    ranks = [start(rank) for rank in range(3)]
    for rank in ranks:
        assert rank.stdin is not None
        rank.stdin.write(json.dumps(VALUES))
        rank.stdin.close()
    for rank in ranks:
        assert rank.stdout is not None
        assert json.loads(rank.stdout.read()) == [[VALUES, VALUES[0]]] * 2
        assert rank.wait(60) == 0


@pytest.mark.parametrize("value", [{1: 2}, [{"a": {None: 1}}], {1, 2}, object, b"bytes"], ids=repr)
def test_what_json_would_change_is_refused_on_one_rank_too(value: Any) -> None:
    alone = World(0, 1, 0, torch.device("cpu"))
    with pytest.raises(TypeError):
        alone.gather(value)
    with pytest.raises(TypeError):
        alone.broadcast(value)
    assert alone.gather((1, "a")) == [[1, "a"]]
