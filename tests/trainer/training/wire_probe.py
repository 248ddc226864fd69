"""One rank of a world whose collectives are counted, for one engine after the other: `python -m
tests.trainer.training.wire_probe`, their configurations as JSON on stdin.

Prints a line of JSON for each: the mean loss of each step and the sum of squares of each weight, as hex, and the bytes
that the rank sent in the last step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import torch
import torch.distributed as dist

from tests.launch.test_preflight import free_port
from tests.trainer.books.probe_batches import micro_batch_of
from tests.trainer.training import counted_group
from trainer.config import Config
from trainer.training.distributed import World

STEPS = 4  # DeepSpeed knows at the third forward pass in which order weights are read


def counted(configs: list[dict[str, Any]], ranks: int) -> list[list[dict[str, Any]]]:
    """What every rank of a new world prints of these configurations, one list a configuration."""
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "tests.trainer.training.wire_probe"]
    processes = []
    for rank in range(ranks):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        processes.append(subprocess.Popen(words, env={**os.environ, **here, **place}, stdin=-1, stdout=-1, text=True))
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(json.dumps(configs))
        process.stdin.close()
    outputs = [process.stdout.read() for process in processes if process.stdout is not None]
    assert not any(process.wait(60) for process in processes)
    lines = [[line for line in output.splitlines() if line.startswith("{")] for output in outputs]
    return [[json.loads(line) for line in one] for one in zip(*lines, strict=True)]


def trained(config: Config, world: World) -> dict[str, Any]:
    from trainer.training.engine import Engine

    engine = Engine(config, world)
    batches = [
        [micro_batch_of(config, 1000 * step + 10 * index + world.rank) for index in range(engine.accumulation)]
        for step in range(STEPS)
    ]
    targets = world.size * sum(batch["targets"].size for batch in batches[0])
    losses = []
    for batch in batches:
        counted_group.CountedGroup.sent.clear()
        loss, _ = engine.forward_backward(batch, targets)
        engine.norm()
        engine.update(1e-2)
        sent = {" ".join(key): number for key, number in counted_group.CountedGroup.sent.items()}
        losses.append((float(loss) / targets).hex())
    weights = {name: float(weight.double().square().sum()).hex() for name, weight in engine.weights()}
    engine.release()
    return {"losses": losses, "sent": sent, "weights": weights}


def main() -> None:
    from trainer.training.distributed import join

    counted_group.register()
    init = dist.init_process_group
    dist.init_process_group = lambda backend, **more: init("counted", **more)
    torch.set_num_threads(1)
    world = join("cpu", 60.0, 60.0)
    for settings in json.load(sys.stdin):
        print(json.dumps(trained(Config.model_validate(settings), world)), flush=True)
    world.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
