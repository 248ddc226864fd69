"""What our training step costs over a bare loop of the same model, alternating in one process.

    scripts/bench/step [--rounds 15] [--steps 4] [--json]

At ZeRO 0 the peer is plain PyTorch (autocast, fused AdamW, clipping); at ZeRO 1, 2 and 3 it is a plain DeepSpeed loop
of the same stage; on two processes at ZeRO 2 it is torch's DDP with ZeroRedundancyOptimizer. Ours is everything the
training loop does in a step: global target count, phases, records to metrics.jsonl and the energy meter. Medians of the
rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.books import parameters
from trainer.books.layout import micro_batch
from trainer.config import Config
from trainer.config.host import cores, precision
from trainer.models import build, initialize
from trainer.run_folder import RunFolder
from trainer.trackers import RunContext, make_trackers
from trainer.training.distributed import World, join
from trainer.training.engine import Engine, deepspeed_settings
from trainer.training.step_metrics import StepMetrics

CASES = [(0, 1), (1, 1), (2, 1), (3, 1), (2, 2)]  # (ZeRO stage, processes)


def configuration(stage: int, processes: int) -> Config:
    """A decoder of 10M parameters, 2,048 tokens a step."""
    plain = Config().model_dump(mode="json")
    plain["model"] |= {"name": "llama-10m", "depth": 6, "width": 320, "heads": 5, "kv_heads": 5}
    plain["tokenizer"]["vocabulary"] = 4096
    plain["optim"]["batch_size"] = 8
    plain["engine"] |= {"zero_stage": stage}
    plain["launch"]["processes"] = processes
    plain["tracker"]["console"] = "none"
    return Config.model_validate(plain)


def micro_batches(config: Config, world: World) -> list[dict[str, np.ndarray]]:
    """One rank's share of a step: random tokens, one document a row."""
    chance = np.random.default_rng(world.rank)
    rows, length = micro_batch(config), config.data.sequence_length
    share = -(-config.optim.batch_size // world.size)
    batches = []
    for _ in range(-(-share // rows)):
        tokens = chance.integers(4, config.vocabulary, (rows, length + 1))
        positions = np.broadcast_to(np.arange(length), (rows, length)).copy()
        segments = np.zeros((rows, length), np.int32)
        targets = np.ascontiguousarray(tokens[:, 1:])
        tokens = np.ascontiguousarray(tokens[:, :-1])
        batches.append({"tokens": tokens, "targets": targets, "segments": segments, "positions": positions})
    return batches


def our_step(config: Config, world: World, run: Path, batches: list[dict[str, np.ndarray]]) -> Callable[[], None]:
    engine = Engine(config, world)
    trackers = make_trackers(config, run, rank=world.rank, resumed_from=0)
    trackers.start(RunContext(config, run, 10**6, parameters(config).total, world.size, 0, 0))
    metrics = StepMetrics(config, RunFolder(run), world, trackers, 0, 0)
    done = 0

    def step() -> None:
        nonlocal done
        counted = sum(int((micro["targets"] >= 0).sum()) for micro in batches)
        targets, _ = world.sum(counted, 0.0)
        metrics.phase("forward_backward")
        loss_sum, _ = engine.forward_backward(batches, targets)
        metrics.phase("optimizer")
        norm = engine.gradient_norm()
        engine.update(1e-4)
        metrics.phase("other")
        done += 1
        (loss,) = world.sum(float(loss_sum))
        metrics.step(done, targets, loss / targets, norm, 1e-4, engine.memory_peak_bytes(), {}, {})
        metrics.phase("data")

    return step


def adamw(model: torch.nn.Module, config: Config) -> dict[str, Any]:
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": config.optim.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return {"params": groups, "lr": 1e-4, "betas": (0.9, 0.95), "fused": True}


def fresh_model(config: Config) -> torch.nn.Module:
    model = build(config)
    initialize(model, config.seed)
    return model


def bare_pytorch(config: Config, world: World, batches: list[dict[str, np.ndarray]]) -> Callable[[], None]:
    """A plain loop; on two processes DDP with ZeroRedundancyOptimizer."""
    model: Any = fresh_model(config)
    settings = adamw(model, config)
    if world.size > 1:
        from torch.distributed.optim import ZeroRedundancyOptimizer
        from torch.nn.parallel import DistributedDataParallel

        model = DistributedDataParallel(model)
        groups = settings.pop("params")
        optimizer: Any = ZeroRedundancyOptimizer(groups, optimizer_class=torch.optim.AdamW, **settings)
    else:
        optimizer = torch.optim.AdamW(**settings)
    targets = sum(int((micro["targets"] >= 0).sum()) for micro in batches)

    def step() -> None:
        for batch in batches:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision(config) == "bf16"):
                loss, _, _ = model(**{name: torch.from_numpy(array) for name, array in batch.items()})
            (loss / targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        float(loss.detach())

    return step


def bare_deepspeed(config: Config, world: World, batches: list[dict[str, np.ndarray]]) -> Callable[[], None]:
    import deepspeed

    model = fresh_model(config)
    engine, _, _, _ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(**adamw(model, config)),
        config=deepspeed_settings(config),
        dist_init_required=False,
    )
    inner = engine.module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision(config) == "bf16"):
            return inner(*args, **kwargs)

    engine.module.forward = forward
    targets = sum(int((micro["targets"] >= 0).sum()) for micro in batches)

    def step() -> None:
        for batch in batches:
            loss, _, _ = engine(**{name: torch.from_numpy(array) for name, array in batch.items()})
            engine.backward(loss / targets * len(batches))
            engine.step()
        float(loss.detach())

    return step


def compare(stage: int, processes: int, rounds: int, steps: int) -> dict[str, Any]:
    """Milliseconds per step of both, measured in turns."""
    torch.set_num_threads(max(1, cores() // processes))
    config = configuration(stage, processes)
    world = join("cpu", 600)
    batches = micro_batches(config, world)
    with tempfile.TemporaryDirectory() as run:
        ours = our_step(config, world, Path(run), batches)
        bare = stage == 0 or processes > 1
        peer = bare_pytorch(config, world, batches) if bare else bare_deepspeed(config, world, batches)
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        for number in range(rounds + 2):  # the first two are warm-up
            order = [("ours", ours), ("peer", peer)]
            for name, step in order if number % 2 else reversed(order):
                began = time.perf_counter()
                for _ in range(steps):
                    step()
                if number >= 2:
                    times[name].append((time.perf_counter() - began) / steps * 1e3)
    median = {name: statistics.median(values) for name, values in times.items()}
    # Each round sets the two side by side, so that what else the machine does falls on both.
    ratios = [a / b for a, b in zip(times["ours"], times["peer"], strict=True)]
    name = "DDP + ZeroRedundancyOptimizer" if processes > 1 else "PyTorch" if stage == 0 else f"DeepSpeed ZeRO {stage}"
    return {
        "zero_stage": stage,
        "processes": processes,
        "peer": name,
        "parameters": parameters(config).total,
        "ours_ms": median["ours"],
        "peer_ms": median["peer"],
        "ratio": statistics.median(ratios),
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4, help="per round")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", nargs=2, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        result = compare(*arguments.case, arguments.rounds, arguments.steps)
        if int(os.environ.get("RANK", 0)) == 0:
            print(json.dumps(result), flush=True)
        os._exit(0)
    results = []
    if not arguments.json:
        print("| ZeRO | processes | peer | ours, ms/step | peer, ms/step | ratio |\n|---|---|---|---|---|---|")
    for stage, processes in CASES:  # a process of its own each: nothing is shared
        start = [sys.executable] if processes == 1 else [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"
        ]  # fmt: skip
        words = [__file__, "--case", str(stage), str(processes)]
        words += ["--rounds", str(arguments.rounds), "--steps", str(arguments.steps)]
        done = subprocess.run([*start, *words], capture_output=True, text=True)
        line = next((line for line in done.stdout.splitlines() if line.startswith("{")), None)
        if line is None:
            sys.exit(f"ZeRO {stage} on {processes} failed:\n{done.stderr[-2000:]}")
        one = json.loads(line)
        results.append(one)
        if not arguments.json:
            cells = [one["zero_stage"], one["processes"], one["peer"], f"{one['ours_ms']:.1f}", f"{one['peer_ms']:.1f}"]
            print("| " + " | ".join(map(str, [*cells, f"**{one['ratio']:.3f}**"])) + " |", flush=True)
    if arguments.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
