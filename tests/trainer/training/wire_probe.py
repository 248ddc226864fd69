"""One rank of a world whose collectives are counted, for one engine after the other: `python -m
tests.trainer.training.wire_probe`, what each is to do as JSON on stdin.

Prints a line of JSON for each: the loss of each step and the sum of squares of each weight, as hex, and the bytes that
the rank sent in the last step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.ports import free_port
from tests.trainer.books.probe_batches import micro_batch_of
from tests.trainer.training import counted_group
from trainer.config import Config
from trainer.data import StepBatch
from trainer.training.distributed import World

STEPS = 4  # DeepSpeed knows from the third forward pass on in which order weights are read
HALF = 2  # after which a checkpoint is written, and from which others go on


def counted(tasks: list[dict[str, Any]], ranks: int) -> list[list[dict[str, Any]]]:
    """What every rank of a new world prints of these tasks, one list a task. A task: `config`, and maybe the folders
    `save` and `load` of checkpoints."""
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "tests.trainer.training.wire_probe"]
    processes = []
    for rank in range(ranks):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        processes.append(subprocess.Popen(words, env={**os.environ, **here, **place}, stdin=-1, stdout=-1, text=True))
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(json.dumps(tasks))
        process.stdin.close()
    outputs = [process.stdout.read() for process in processes if process.stdout is not None]
    assert not any([process.wait(60) for process in processes])
    lines = [[line for line in output.splitlines() if line.startswith("{")] for output in outputs]
    return [[json.loads(line) for line in one] for one in zip(*lines, strict=True)]


def trained(config: Config, world: World, save: str | None, load: str | None) -> dict[str, Any]:
    from trainer.training.checkpoint import open_checkpoint, snapshot, write
    from trainer.training.engine import Engine

    engine, first = Engine(config, world), 0
    if load is not None:
        checkpoint = open_checkpoint(Path(load) / f"step-{HALF:08d}")
        engine.load(HALF, checkpoint.reader(), {})
        first = HALF
    losses, sent = [], {}
    for step in range(first, STEPS):
        place, places = engine.sharing.data_rank, engine.sharing.data_ranks
        drawn = [micro_batch_of(config, 1000 * step + 10 * index + place) for index in range(engine.accumulation)]
        targets = places * sum(batch["targets"].size for batch in drawn)
        counted_group.CountedGroup.sent.clear()
        batches = next(engine.sharing.steps(one for one in [StepBatch(step, drawn, 0.0)])).micro_batches
        loss, _ = engine.forward_backward(batches, targets)
        engine.norm()
        engine.update(1e-2)
        sent = {" ".join(key): number for key, number in counted_group.CountedGroup.sent.items()}
        losses.append((float(loss) / targets).hex())
        if save is not None and step + 1 == HALF:
            write(snapshot(engine, world, HALF), world, Path(save), {})
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
    for task in json.load(sys.stdin):
        config = Config.model_validate(task["config"])
        print(json.dumps(trained(config, world, task.get("save"), task.get("load"))), flush=True)
    world.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
