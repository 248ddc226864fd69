"""What our training step costs over a bare loop of the same model, alternating in one process.

    scripts/bench/step [--rounds 15] [--steps 4] [--json]
    scripts/bench/step --optim adamw muon sgd adafactor lamb lion
    scripts/bench/step --dropout
    scripts/bench/step --llama

At ZeRO 0 the peer is plain PyTorch (autocast, fused AdamW, clipping); at ZeRO 1, 2 and 3 it is a plain DeepSpeed loop
of the same stage; on two processes at ZeRO 2 it is torch's DDP with ZeroRedundancyOptimizer. Ours is everything the
training loop does in a step: global target count, phases, records to metrics.jsonl and the energy meter. Medians of the
rounds.

With --optim, every optimizer named at ZeRO 0 on one process, beside a bare loop with torch's own (Muon with AdamW for
all but matrices), transformers' Adafactor, or where there is none AdamW; and the bytes that each keeps.

With --dropout, a bare loop of the model with dropout beside one of the same model without. With --llama, ours beside
transformers' Llama of the same shape in a bare loop with autocast, fused AdamW and clipping. --cpu: seconds of this
process's processors in place of the clock's, where the machine has other work too.
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
from trainer.descriptions.optimizers import OPTIMIZERS
from trainer.models import build, initialize
from trainer.models.roles import roles
from trainer.run_folder import RunFolder
from trainer.trackers import RunContext, make_trackers
from trainer.training.distributed import World, join
from trainer.training.engine import Engine, deepspeed_settings
from trainer.training.step_metrics import StepMetrics

CASES = [(0, 1), (1, 1), (2, 1), (3, 1), (2, 2)]  # (ZeRO stage, processes)


RATES = {"hidden": (0.1, 0.0), "attention": (0.0, 0.1), "both": (0.1, 0.1)}  # of --dropout


def configuration(stage: int, processes: int, optim: str = "adamw", rates: tuple[float, float] = (0, 0)) -> Config:
    """A decoder of 10M parameters, 2,048 tokens a step. rates: of dropout, of hidden states and of attention."""
    plain = Config().model_dump(mode="json")
    plain["model"] |= {"name": "llama-10m", "depth": 6, "width": 320, "heads": 5, "kv_heads": 5}
    plain["model"] |= dict(zip(("dropout", "attention_dropout"), rates, strict=True))
    plain["tokenizer"]["vocabulary"] = 4096
    plain["optim"] |= {"name": optim, "batch_size": 8, "schedule": "constant"}
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
        batch = {"tokens": tokens, "targets": targets, "segments": segments, "positions": positions}
        batches.append(batch | ({"samples": np.arange(rows)} if config.model.drops else {}))
    return batches


def our_step(
    config: Config, engine: Engine, world: World, run: Path, batches: list[dict[str, np.ndarray]]
) -> Callable[[], None]:
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


class Together:
    """Several optimizers as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def state(self) -> dict[Any, Any]:
        return {key: state for part in self.parts for key, state in part.state.items()}

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)


def peer_optimizer(model: torch.nn.Module, config: Config) -> tuple[Any, str]:
    """Another implementation of the configuration's optimizer, and its name; AdamW where we know none."""
    settings = adamw(model, config)
    groups = settings["params"]
    match config.optim.name:
        case "sgd":
            return torch.optim.SGD(groups, lr=1e-4, momentum=0.9, nesterov=True), "torch SGD"
        case "adafactor":
            from transformers.optimization import Adafactor

            return Adafactor(groups, lr=1e-4, relative_step=False, warmup_init=False), "transformers Adafactor"
        case "muon":
            role = roles(model)
            named = dict(model.named_parameters())
            matrices = [parameter for name, parameter in named.items() if role[name] == "matrix"]
            others = [parameter for name, parameter in named.items() if role[name] != "matrix"]
            muon = torch.optim.Muon(matrices, lr=1e-4, adjust_lr_fn="match_rms_adamw")
            return Together(muon, torch.optim.AdamW(others, lr=1e-4, fused=True)), "torch Muon + AdamW"
    return torch.optim.AdamW(**settings), "torch AdamW"


def state_bytes(optimizer: Any) -> int:
    tensors = [one for state in optimizer.state.values() for one in state.values() if torch.is_tensor(one)]
    return sum(one.numel() * one.element_size() for one in tensors if one.dim())


def bare_pytorch(
    config: Config, world: World, batches: list[dict[str, np.ndarray]], said: dict[str, Any]
) -> Callable[[], None]:
    """A plain loop; on two processes DDP with ZeroRedundancyOptimizer. Its optimizer is left in `said`."""
    model: Any = fresh_model(config)
    settings = adamw(model, config)
    if world.size > 1:
        from torch.distributed.optim import ZeroRedundancyOptimizer
        from torch.nn.parallel import DistributedDataParallel

        model = DistributedDataParallel(model)
        groups = settings.pop("params")
        optimizer: Any = ZeroRedundancyOptimizer(groups, optimizer_class=torch.optim.AdamW, **settings)
    else:
        optimizer, said["name"] = peer_optimizer(model, config)
        said["optimizer"] = optimizer
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


def bare_llama(config: Config, batches: list[dict[str, np.ndarray]]) -> Callable[[], None]:
    """transformers' Llama of the same shape, with SDPA."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = config.model
    settings = LlamaConfig(
        vocab_size=config.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.ffn_channels,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        max_position_embeddings=config.data.sequence_length,
        tie_word_embeddings=shape.tied,
        attn_implementation="sdpa",
        use_cache=False,
    )
    model = LlamaForCausalLM(settings).train()
    ours = parameters(config).total
    assert sum(one.numel() for one in model.parameters()) == ours, "another number of parameters"
    optimizer = torch.optim.AdamW(**adamw(model, config))

    def step() -> None:
        for batch in batches:
            tokens, targets = (torch.from_numpy(batch[name]) for name in ("tokens", "targets"))
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision(config) == "bf16"):
                loss = model(input_ids=tokens, labels=targets, shift_labels=targets).loss
            (loss / len(batches)).backward()
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


def compare(stage: int, processes: int, optim: str, rounds: int, steps: int, llama: bool) -> dict[str, Any]:
    """Milliseconds per step of both, measured in turns; on one process at ZeRO 0 also bytes of optimizer state."""
    torch.set_num_threads(max(1, cores() // processes))
    config = configuration(stage, processes, optim)
    world = join("cpu", 600)
    batches = micro_batches(config, world)
    with tempfile.TemporaryDirectory() as run:
        said: dict[str, Any] = {"name": f"DeepSpeed ZeRO {stage}"}
        engine = Engine(config, world)
        ours = our_step(config, engine, world, Path(run), batches)
        bare = stage == 0 or processes > 1
        if llama:
            peer, said["name"] = bare_llama(config, batches), "transformers Llama"
        else:
            peer = bare_pytorch(config, world, batches, said) if bare else bare_deepspeed(config, world, batches)
        timed = in_turns(ours, peer, rounds, steps)
    states = {}
    if "optimizer" in said:
        kept = sum(one.tensor.numel() * one.tensor.element_size() for one in engine.optimizer_states())
        states = {"ours_state_bytes": kept, "peer_state_bytes": state_bytes(said["optimizer"])}
    return {
        "optim": optim,
        **states,
        "zero_stage": stage,
        "processes": processes,
        "peer": "DDP + ZeroRedundancyOptimizer" if processes > 1 else said["name"],
        "parameters": parameters(config).total,
        **timed,
        "rounds": rounds,
    }


def in_turns(ours: Callable[[], None], peer: Callable[[], None], rounds: int, steps: int) -> dict[str, float]:
    """Medians of milliseconds per step of both, and of their ratio by rounds."""
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    clock = time.process_time if "--cpu" in sys.argv else time.perf_counter
    for number in range(rounds + 2):  # the first two are warm-up
        order = [("ours", ours), ("peer", peer)]
        for name, step in order if number % 2 else reversed(order):
            began = clock()
            for _ in range(steps):
                step()
            if number >= 2:
                times[name].append((clock() - began) / steps * 1e3)
    # Each round sets the two side by side, so that what else the machine does falls on both.
    ratios = [a / b for a, b in zip(times["ours"], times["peer"], strict=True)]
    median = {f"{name}_ms": statistics.median(values) for name, values in times.items()}
    return {**median, "ratio": statistics.median(ratios)}


def compare_dropout(rounds: int, steps: int) -> None:
    """A line for each kind of dropout: a bare loop with it beside one without."""
    torch.set_num_threads(cores())
    world = World(0, 1, 0, torch.device("cpu"))
    print("| dropout of | with, ms/step | without, ms/step | ratio |\n|---|---|---|---|")
    for name, rates in RATES.items():
        loops = []
        for one in (rates, (0.0, 0.0)):
            config = configuration(0, 1, rates=one)
            loops.append(bare_pytorch(config, world, micro_batches(config, world), {}))
        timed = in_turns(*loops, rounds, steps)
        print(f"| {name} | {timed['ours_ms']:.1f} | {timed['peer_ms']:.1f} | **{timed['ratio']:.3f}** |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4, help="per round")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--optim", nargs="+", choices=list(OPTIMIZERS), help="each beside another implementation of it")
    parser.add_argument("--dropout", action="store_true", help="the model with dropout beside the same without")
    parser.add_argument("--llama", action="store_true", help="beside transformers' Llama of the same shape")
    parser.add_argument("--cpu", action="store_true", help="processor seconds in place of the clock's")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        stage, processes, optim = arguments.case
        result = compare(int(stage), int(processes), optim, arguments.rounds, arguments.steps, arguments.llama)
        if int(os.environ.get("RANK", 0)) == 0:
            print(json.dumps(result), flush=True)
        os._exit(0)
    if arguments.dropout:
        compare_dropout(arguments.rounds, arguments.steps)
        return
    cases = [(0, 1, name) for name in arguments.optim] if arguments.optim else [(*case, "adamw") for case in CASES]
    cases = [(0, 1, "adamw")] if arguments.llama else cases
    results = []
    if not arguments.json:
        first = "optimizer" if arguments.optim else "ZeRO | processes"
        last = " | states, ours / peer, MB" if arguments.optim else ""
        print(f"| {first} | peer | ours, ms/step | peer, ms/step | ratio{last} |")
        print("|---" * (first.count("|") + last.count("|") + 5) + "|")
    for case in cases:
        results.append(measured(case, arguments))
        if not arguments.json:
            print(row(results[-1], of_optimizers=bool(arguments.optim)), flush=True)
    if arguments.json:
        print(json.dumps(results, indent=1))


def measured(case: tuple[int, int, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """A case in a process of its own: nothing is shared."""
    stage, processes, optim = case
    start = [sys.executable] if processes == 1 else [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"
    ]  # fmt: skip
    words = [__file__, "--case", str(stage), str(processes), optim]
    words += ["--rounds", str(arguments.rounds), "--steps", str(arguments.steps)] + ["--llama"] * arguments.llama
    words += ["--cpu"] * arguments.cpu
    done = subprocess.run([*start, *words], capture_output=True, text=True)
    line = next((line for line in done.stdout.splitlines() if line.startswith("{")), None)
    if line is None:
        sys.exit(f"{optim} at ZeRO {stage} on {processes} failed:\n{done.stderr[-2000:]}")
    return json.loads(line)


def row(one: dict[str, Any], *, of_optimizers: bool) -> str:
    first = [one["optim"]] if of_optimizers else [one["zero_stage"], one["processes"]]
    cells = [*first, one["peer"], f"{one['ours_ms']:.1f}", f"{one['peer_ms']:.1f}", f"**{one['ratio']:.3f}**"]
    if of_optimizers:
        cells.append(f"{one['ours_state_bytes'] / 1e6:.1f} / {one['peer_state_bytes'] / 1e6:.1f}")
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
