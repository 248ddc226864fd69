"""Ranks of a test of the engine alone: what discarded gradients and a reload in mid-run leave behind.

`torchrun ... engine_probe.py <stage> <checkpoints>` prints one JSON line from rank 0.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from trainer.config import Config
from trainer.training.checkpoint import latest_valid_checkpoint, snapshot, write
from trainer.training.distributed import World, join
from trainer.training.engine import Engine


def batch(world: World, config: Config, step: int) -> list[dict[str, np.ndarray]]:
    chance = np.random.default_rng((step, world.rank))
    rows, length = 2, config.data.sequence_length
    tokens = chance.integers(4, config.vocabulary, (rows, length + 1))
    positions = np.broadcast_to(np.arange(length), (rows, length)).copy()
    one = {"tokens": tokens[:, :-1].copy(), "targets": tokens[:, 1:].copy(), "positions": positions}
    return [one | {"segments": np.zeros((rows, length), np.int32)}]


def digest(engine: Engine) -> str:
    """Of everything that a checkpoint holds on this rank."""
    content = hashlib.sha256()
    for _, weight in engine.weights():
        content.update(weight.detach().numpy().tobytes())
    for fragment in (*engine.optimizer_states(), *engine.averages.fragments()):
        content.update(fragment.tensor.numpy().tobytes())
    inner = getattr(engine._optimizer, "optimizer", engine._optimizer)
    content.update(str([float(state["step"]) for state in inner.state.values()]).encode())
    return content.hexdigest()


def main() -> None:
    stage, checkpoints = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    world = join("cpu", 60)
    plain = Config().model_dump(mode="json")
    plain["model"] |= {"depth": 1, "width": 32, "heads": 2, "kv_heads": 2, "name": "probe"}
    plain["tokenizer"]["vocabulary"] = 512
    plain["data"]["sequence_length"] = 16
    plain["optim"]["batch_size"] = 2 * world.size
    plain["optim"]["averages"] = {"ema": {"half_life": 100}, "last": {"latest": 2, "every_steps": 1}}
    plain["engine"] |= {"zero_stage": stage, "precision": "fp32", "offload_optimizer": stage == 2}
    plain["launch"]["processes"] = world.size
    engine = Engine(Config.model_validate(plain), world)

    def gradients(step: int, factor: float = 1.0) -> float:
        parameter = next(iter(engine.parameters.values()))
        hook = parameter.register_hook(lambda gradient: gradient * factor)
        engine.forward_backward(batch(world, engine.config, step), 1.0)
        hook.remove()
        return engine.gradient_norm()

    def train(steps: range) -> None:
        for step in steps:
            gradients(step)
            engine.update(1e-2)
            engine.averages.take(step + 1, 32)

    found = {}
    start = digest(engine)
    gradients(0)
    engine.skip_update()
    found["first step discarded"] = digest(engine) == start
    torch.manual_seed(1)
    bits = torch.get_rng_state()
    engine.dry_run(batch(world, engine.config, 0))
    found["dry run"] = digest(engine) == start and bool(torch.equal(torch.get_rng_state(), bits))
    train(range(3))
    before = digest(engine)
    norm = gradients(3)
    engine.skip_update()
    found["discarded"] = digest(engine) == before
    found["same norm again"] = gradients(3) == norm
    engine.skip_update()
    found["not finite"] = not np.isfinite(gradients(3, float("nan")))
    engine.skip_update()
    found["nan discarded"] = digest(engine) == before
    write(snapshot(engine, world, 3), world, checkpoints, {"best": {}} | engine.facts())

    def shown(average: str | None) -> float:
        with engine.evaluation(average) as forward:
            return float(forward(batch(world, engine.config, 9)[0])[0])

    losses = [shown(name) for name in (None, "ema", "last")]
    found["shown"] = len(set(losses)) == 3
    found["back after it"] = digest(engine) == before and shown(None) == losses[0]

    train(range(3, 5))
    straight = digest(engine)
    gradients(5, 1e6)
    engine.skip_update()
    found["discarded later"] = digest(engine) == straight
    checkpoint, _ = latest_valid_checkpoint(checkpoints, world)
    assert checkpoint is not None
    engine.load(3, checkpoint.reader(), checkpoint.manifest["averages"])
    found["loaded in mid-run"] = digest(engine) == before
    train(range(3, 5))
    found["replayed"] = digest(engine) == straight
    every = world.gather(found)
    engine.close()
    if world.is_first:
        print(json.dumps(every), flush=True)
    os._exit(0)


main()
