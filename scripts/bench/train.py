"""The whole step on this GPU: our models, kernels and engine against transformers' models in a bare compiled loop.

    python scripts/bench/train.py                 # GPT-2 124M, BERT-base, BART-base, T5-base; at most fifteen minutes
    python scripts/bench/train.py --only t5 --steps 50
    python scripts/bench/train.py --smoke         # tiny shapes on any machine: does it run at all?

Same shapes, bf16 autocast over float32 weights, fused AdamW, synthetic tokens, one GPU. The contestants take turns; a
figure is the median of the rounds. Each model has a process of its own, and the table is written anew after each: what
fails or takes too long is named in it and loses no other figure. Writes docs/benchmarks/<gpu>-train.{json,md}. Needs
transformers for the peer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from environment import environment, reason, rows_apart, share, write_report  # noqa: E402

from trainer.books import flops  # noqa: E402
from trainer.compose import compose  # noqa: E402
from trainer.config import Config  # noqa: E402
from trainer.hub.exchange import type_of  # noqa: E402
from trainer.meter import gpu_of  # noqa: E402
from trainer.meter.nvml import nvidia  # noqa: E402
from trainer.training.distributed import World, join  # noqa: E402
from trainer.training.engine import Engine  # noqa: E402

ROUNDS = 5
GOALS = {"gpt2": 1.0, "bert": 1.0, "t5": 1.5}  # wanted: the peer's time over ours, and memory at most 0.6 of the peer's
MACHINES = {"H100": "h100-sxm", "H200": "h200-sxm", "A100": "a100-sxm-80gb"}


@dataclass(frozen=True)
class Case:
    """A model at the sequence length of its paper. source: tokens that an encoder-decoder reads, 0 for the others."""

    model: str
    objective: str
    rows: int
    length: int
    source: int = 0


CASES = {
    "gpt2": Case("gpt2-124m", "causal", 16, 1024),
    "bert": Case("bert-base", "masked_lm", 32, 512),
    "bart": Case("bart-base", "bart", 16, 512, 512),
    "t5": Case("t5-base", "span_corruption", 32, 114, 512),
}
OURS = {"isoflop": False, "isoflop, compiled": True}
PEER = "transformers, compiled"


def config_of(case: Case, compile: bool, smoke: bool, machine: str | None) -> Config:
    words = [f"model={case.model}", f"objective={case.objective}", f"optim.batch_size={case.rows}"]
    words += [f"data.sequence_length={case.source or case.length}", f"engine.micro_batch={case.rows}"]
    words += ["budget.steps=1000", f"engine.compile={str(compile).lower()}"]
    words += ["model.depth=1", "model.width=64", "model.heads=2"] if smoke else ["kernels=triton"]
    if case.objective == "bart":
        words.append("objective.noises=[text_infilling]")
    return compose([*words, *([f"machine={machine}"] if machine else [])])


def batch_of(case: Case, vocabulary: int) -> dict[str, np.ndarray]:
    """Random tokens of one document a row; every third token of an encoder is a target."""
    chance = np.random.default_rng(0)

    def part(length: int) -> dict[str, np.ndarray]:
        shape = (case.rows, length)
        positions = np.broadcast_to(np.arange(length), shape).copy()
        tokens = chance.integers(0, vocabulary, shape)
        return {"tokens": tokens, "segments": np.zeros(shape, np.int32), "positions": positions}

    batch = part(case.length)
    batch["targets"] = np.roll(batch["tokens"], -1, 1)
    if case.objective == "masked_lm":
        batch["targets"] = np.where(batch["positions"] % 7 == 0, batch["tokens"], -100)
    if case.source:
        batch |= {f"source_{name}": array for name, array in part(case.source).items()}
    return batch


def ours(config: Config, batch: dict[str, np.ndarray], world: World) -> Callable[[], Any]:
    """One training step of our engine."""
    engine = Engine(config, world)
    targets = float((batch["targets"] >= 0).sum())

    def step() -> None:
        engine.forward_backward([batch], targets)
        engine.gradient_norm()
        engine.update(1e-4)

    return step


def theirs(config: Config, batch: dict[str, np.ndarray], device: torch.device, smoke: bool) -> Callable[[], Any]:
    """One training step of transformers' model of the same shape: SDPA, torch.compile, fused AdamW, bf16 autocast."""
    model = transformers_model(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type == "cuda")
    tensors = {name: torch.from_numpy(array).long().to(device) for name, array in batch.items()}
    words = {"input_ids": tensors["tokens"], "labels": tensors["targets"]}
    if config.model.family == "encoder_decoder":
        words = {
            "input_ids": tensors["source_tokens"],
            "decoder_input_ids": tensors["tokens"],
            "labels": tensors["targets"],
        }
    run = model if smoke else torch.compile(model)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = run(**words).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def transformers_model(config: Config) -> Any:
    """Their class with our shape, without dropout."""
    import transformers

    shape = config.model.model_copy(update={"vocabulary": config.vocabulary, "max_length": config.max_length})
    family = type_of(shape)
    names = {"gpt2": "GPT2LMHeadModel", "bert": "BertForMaskedLM", "bart": "BartForConditionalGeneration"}
    kind = getattr(transformers, names.get(family.type, "T5ForConditionalGeneration"))
    described = family.config(shape)
    settings = kind.config_class(**{key: value for key, value in described.items() if key != "model_type"})
    for key in vars(settings):
        if "dropout" in key or key.endswith("pdrop"):
            setattr(settings, key, 0.0)
    try:
        return kind._from_config(settings, attn_implementation="sdpa")
    except ValueError:  # a model without SDPA
        return kind._from_config(settings)


def measure(
    name: str, case: Case, options: argparse.Namespace, machine: str | None, world: World
) -> list[dict[str, Any]]:
    """Tokens/s, MFU, peak memory and joules per token of every contestant, or why it could not run."""
    device, cuda = world.device, world.device.type == "cuda"
    steps: dict[str, Callable[[], Any]] = {}
    peaks: dict[str, int] = {}
    batch: dict[str, np.ndarray] = {}
    refused: dict[str, str] = {}
    for who in (*OURS, PEER):
        config = config_of(case, OURS.get(who, False) and not options.smoke, options.smoke, machine)
        batch = batch or batch_of(case, config.vocabulary)
        before = torch.cuda.memory_allocated() if cuda else 0
        try:
            step = ours(config, batch, world) if who in OURS else theirs(config, batch, device, options.smoke)
            for _ in range(3):  # compiles, and lets AdamW make its moments
                step()
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                step()
                torch.cuda.synchronize()
                peaks[who] = torch.cuda.max_memory_allocated() - before
        except Exception as error:  # a peer that is not installed, memory that is full, a compiler that gives up
            refused[who] = reason(error)
            continue
        steps[who] = step
    meter = nvidia(gpu_of(device)) if cuda else None
    seconds: dict[str, list[float]] = {who: [] for who in steps}
    joules: dict[str, list[float | None]] = {who: [] for who in steps}
    for _ in range(options.rounds):
        for who, step in steps.items():
            began, first = time.perf_counter(), meter.read(time.monotonic()).joules if meter else None
            for _ in range(options.steps):
                step()
            if cuda:
                torch.cuda.synchronize()
            last = meter.read(time.monotonic()).joules if meter else None
            seconds[who].append((time.perf_counter() - began) / options.steps)
            joules[who].append(None if first is None or last is None else (last - first) / options.steps)
    work = flops(config_of(case, False, options.smoke, machine))
    tokens = case.rows * (case.length + case.source)
    peak = config.machine.peak_flops.get("bf16")
    rows = []
    for who in steps:
        took, spent = statistics.median(seconds[who]), joules[who]
        known = [value for value in spent if value is not None]
        rows.append(
            {
                "case": name,
                "model": case.model,
                "setting": f"{case.rows} x {f'{case.source} + ' if case.source else ''}{case.length}",
                "who": who,
                "seconds_per_step": took,
                "tokens_per_second": tokens / took,
                "mfu": work.per_step / took / peak if peak else None,
                "peak_bytes": peaks.get(who),
                "joules_per_token": statistics.median(known) / tokens if len(known) == len(spent) else None,
            }
        )
    return rows + [{"case": name, "model": case.model, "who": who, "refused": why} for who, why in refused.items()]


def table(rows: list[dict[str, Any]], failures: dict[str, str], where: dict[str, Any]) -> str:
    """The report as Markdown. failures: case -> what went wrong with it."""
    lines = [f"# The whole step on {where['gpu']}", "", f"`{where['command']}`, {where['date']}", ""]
    lines += [f"- {key}: {value}" for key, value in where.items() if key not in ("gpu", "command", "date")]
    lines += [
        "",
        "bf16 autocast over float32 weights, fused AdamW, median of the rounds, contestants in turns. Speed is theirs",
        "over ours, memory ours over theirs. J/token is the board's energy counter.",
        "",
        "| model | batch | who | ms/step | tokens/s | MFU | peak GB | J/token | speed | memory | wanted |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    timed = [row for row in rows if "refused" not in row]
    peers = {row["case"]: row for row in timed if row["who"] == PEER}
    for row in timed:
        own, peer = row["who"] != PEER, peers.get(row["case"])
        against = peer if own else None
        memory = row["peak_bytes"] / against["peak_bytes"] if against and row["peak_bytes"] else None
        speed = against["seconds_per_step"] / row["seconds_per_step"] if against else None
        cells = [row["model"], row["setting"], row["who"], f"{row['seconds_per_step'] * 1e3:.1f}"]
        cells += [f"{row['tokens_per_second']:,.0f}", _said(row["mfu"], "{:.1%}")]
        cells += [_said(row["peak_bytes"] and row["peak_bytes"] / 1e9, "{:.2f}")]
        cells += [_said(row["joules_per_token"], "{:.2e}")]
        cells += [_said(speed, "{:.2f}"), _said(memory, "{:.2f}")]
        goal = GOALS.get(row["case"])
        lines.append("| " + " | ".join([*cells, f">= {goal}, <= 0.6" if own and goal else ""]) + " |")
    left_out = [f"- {row['model']}: {row['who']}: {row['refused']}" for row in rows if "refused" in row]
    left_out += [f"- {case}: {why}" for case, why in failures.items()]
    if left_out:
        lines += ["", "## Left out", "", *left_out]
    return "\n".join(lines) + "\n"


def _said(value: float | None, form: str) -> str:
    return form.format(value) if value is not None else ""


def run_case(name: str, options: argparse.Namespace) -> None:
    """Measure one case, a JSON line for each contestant."""
    case = CASES[name]
    if options.smoke:
        options.steps, options.rounds = 2, 1
        case = Case(case.model, case.objective, 2, 32, 64 if case.source else 0)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    machine = next((preset for name, preset in MACHINES.items() if name in gpu), None)
    for row in measure(name, case, options, machine, join("auto", 1800.0)):
        print(json.dumps(row), flush=True)
        took = row.get("refused") or f"{row['seconds_per_step'] * 1e3:.1f} ms a step"
        print(f"{row['model']}: {row['who']}: {took}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES), metavar="CASE")
    parser.add_argument("--steps", type=int, default=40, help="steps a round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, two steps")
    parser.add_argument("--minutes", type=float, default=15.0, help="what is not done by then is left out")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.smoke:
        parser.exit(2, "train: no GPU here; --smoke runs tiny shapes without one\n")
    if options.case:
        run_case(options.case, options)
        return
    end, where = time.monotonic() + 60 * options.minutes, environment(".")
    rows: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    flags = ["--steps", str(options.steps), "--rounds", str(options.rounds), *["--smoke"] * options.smoke]
    for done, name in enumerate(options.only):
        found, wrong = rows_apart(["--case", name, *flags], share(end, len(options.only) - done))
        rows += found
        if wrong:
            failures[name] = wrong
        data = {"environment": where, "rows": rows, "failures": failures}
        report = write_report(options.out, "train", data, table(rows, failures, where))
    print(report)
    broken = [f"{row['model']}, {row['who']}" for row in rows if "refused" in row and row["who"] in OURS]
    if broken or failures:
        parser.exit(1, f"train: failed: {'; '.join([*broken, *failures])}\n")


if __name__ == "__main__":
    main()
