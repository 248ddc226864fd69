"""Short runs of tiny models on 1, 2 and 4 ranks: `python -m tests.trainer.training.expert_probe <cases.json>`.

Imports once and forks the ranks of each number in turn. The file holds cases, each {"name", "ranks", "keys" (dotted key
-> value), "steps", "after" (folder of a checkpoint to go on from), "save" (folder of checkpoints, before the last
step)}; prints {name: found}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from tests.trainer.training.forked_ranks import forked_ranks
from trainer.books.expert_ranks import token_bytes
from trainer.books.layout import micro_batch
from trainer.config import Config
from trainer.training.checkpoint import open_checkpoint, snapshot, write
from trainer.training.distributed import World
from trainer.training.engine import Engine, import_deepspeed, whole_model

ROWS, LENGTH, VOCABULARY = 8, 16, 320


def config_of(ranks: int, keys: Mapping[str, Any]) -> Config:
    plain = Config().model_dump(mode="json")
    given = {
        "model.name": "probe",
        "model.depth": 2,
        "model.width": 32,
        "model.heads": 2,
        "model.kv_heads": 2,
        "model.ffn_width": 32,
        "model.experts.count": 4,
        "tokenizer.vocabulary": VOCABULARY,
        "data.sequence_length": LENGTH,
        "optim.batch_size": ROWS,
        "optim.lr": 0.01,
        "optim.clip": 0.5,
        "engine.precision": "fp32",
        "engine.device": "cpu",
        "budget.steps": 8,
        "launch.processes": ranks,
    }
    for key, value in (given | dict(keys)).items():
        branch = plain
        *path, name = key.split(".")
        for part in path:
            branch = branch[part]
        branch[name] = value
    return Config.model_validate(plain)


def batches(config: Config, step: int, world: World) -> list[dict[str, np.ndarray]]:
    """This rank's micro-batches of a step: a function of the step; where it has fewer rows the rest are blank."""
    chance = np.random.default_rng(step)
    tokens = chance.integers(4, VOCABULARY // 2, (ROWS, LENGTH + 1))
    share, rows = -(-ROWS // world.size), micro_batch(config)
    found = []
    for first in range(0, share, rows):
        samples = np.arange(world.rank * share + first, world.rank * share + min(first + rows, share))
        there = samples < ROWS
        taken = tokens[np.minimum(samples, ROWS - 1)]
        one = {
            "tokens": np.where(there[:, None], taken[:, :-1], 0),
            "targets": np.where(there[:, None], taken[:, 1:], -100),
            "positions": np.tile(np.arange(LENGTH), (len(samples), 1)),
            "segments": np.where(there[:, None], np.zeros((1, LENGTH), np.int32), -1),
            "samples": np.where(there, samples + step * ROWS, -1),
        }
        found.append(one)
    return found


class Sent:
    """Counts the bytes that this rank gives to `all_to_all_single`: those for others, and with its own."""

    def __init__(self) -> None:
        self.abroad, self.every, self.swap = 0, 0, dist.all_to_all_single

    def __call__(self, found: Any, given: Any, received: Any = None, sent: Any = None, group: Any = None) -> Any:
        ranks = dist.get_world_size(group)
        parts = sent or [len(given) // ranks] * ranks
        of_row = given[0].numel() * given.element_size() if len(given) else 0
        self.every += sum(parts) * of_row
        self.abroad += (sum(parts) - parts[dist.get_rank(group)]) * of_row
        return self.swap(found, given, received, sent, group=group)

    @contextmanager
    def counting(self) -> Iterator[None]:
        dist.all_to_all_single = self
        try:
            yield
        finally:
            dist.all_to_all_single = self.swap


def run(case: Mapping[str, Any], world: World) -> dict[str, Any]:
    """Per step [loss, norm of the gradient, bytes sent to others, and with those to itself], sums over ranks; then the
    held-out loss, the loss of one row by the whole model, the loads of the last step, and of each weight its sum times
    the numbers from 1 on, which moves where experts change places."""
    config = config_of(case["ranks"], case.get("keys", {}))
    engine, first = Engine(config, world), 0
    try:
        if case.get("after"):
            checkpoint = open_checkpoint(Path(case["after"]))
            engine.load(checkpoint.step, checkpoint.reader(), checkpoint.manifest.get("averages", {}))
            first = checkpoint.step
        records = [step(engine, config, world, number) for number in range(first, first + case.get("steps", 4) - 1)]
        if case.get("save"):
            write(snapshot(engine, world, first + len(records)), world, Path(case["save"]), engine.facts())
        records.append(step(engine, config, world, first + len(records)))
        with engine.evaluation() as evaluate:
            found = [evaluate(batch)[0] for batch in batches(config, 99, world)]
        (held_out,) = world.sum(float(sum(found)))
        alone = World(0, 1, 0, world.device)
        one = {name: torch.from_numpy(value[:1]) for name, value in batches(config, 99, alone)[0].items()}
        with whole_model(engine) as model, torch.no_grad():
            copied = float(model(**one)[0])
        numbered = {
            name: float(weight.double().flatten() @ torch.arange(1.0, weight.numel() + 1, dtype=torch.float64))
            for name, weight in engine.weights()
        }
        found = {"held_out": held_out, "copied": copied, "loads": engine.expert_loads.step, "weights": numbered}
        return {"records": records, **found, "expected": token_bytes(config) * world.size}
    finally:
        engine._engine.destroy()


def step(engine: Engine, config: Config, world: World, number: int) -> list[float]:
    targets, sent = float(ROWS * LENGTH), Sent()
    with sent.counting():
        total, _ = engine.forward_backward(batches(config, number, world), targets)
    norm = engine.gradient_norm()
    engine.update(config.optim.lr, config.optim.weight_decay)
    engine.averages.take(number + 1, ROWS * LENGTH)
    loss, abroad, every = world.sum(float(total), sent.abroad, sent.every)
    return [loss / targets, norm, abroad, every]


def ranks_of(cases: list[Mapping[str, Any]], ranks: int, out: Path) -> None:
    """Run these cases in so many forked processes; the first rank writes what it found."""

    def work(world: World) -> None:
        found = {}
        for case in cases:
            found[case["name"]] = run(case, world)
            if world.is_first:
                out.write_text(json.dumps(found))

    forked_ranks(ranks, work)


def main(file: Path) -> None:
    cases = json.loads(file.read_text())
    import_deepspeed("cpu")
    found: dict[str, Any] = {}
    for ranks in sorted({case["ranks"] for case in cases}):
        out = file.with_suffix(f".{ranks}.out")
        ranks_of([case for case in cases if case["ranks"] == ranks], ranks, out)
        found |= json.loads(out.read_text())
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
