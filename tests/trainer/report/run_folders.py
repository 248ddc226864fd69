"""A run folder as the loop would leave it, written by hand."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.books import plan
from trainer.config import Config

SETTINGS = {
    "budget": {"steps": 20},
    "optim": {"batch_size": 4, "warmup_steps": 2},
    "data": {"sequence_length": 64},
}


def step_line(config: Config, step: int, attempt: int = 0, seconds: float = 0.5, **other) -> dict:
    from trainer.books import flops

    tokens = config.curriculum.tokens(step)
    return {
        "kind": "step",
        "step": step,
        "samples": step * config.optim.batch_size,
        "tokens": tokens,
        "targets": config.curriculum.tokens(1),
        "flop": float(flops(config).per_step * step),
        "loss": 8.0 / (1 + 0.1 * step),
        "grad_norm": 1.0,
        "lr": 1e-3,
        "tokens_per_second": config.curriculum.tokens(1) / seconds,
        "flop_per_second": flops(config).per_step / seconds,
        "mfu": None,
        "peak_flop_per_second": None,
        "memory_peak_bytes": 123_456_789,
        "seconds": {
            "data": 0.1 * seconds,
            "forward_backward": 0.7 * seconds,
            "optimizer": 0.2 * seconds,
        },
        "wall_seconds": 3.0 + step * seconds,
        "attempt": attempt,
        "sums": {},
        "joules": {},
    } | other


def make_run(root: Path, settings: dict | None = None, *, steps: int = 20, name: str = "r1") -> Path:
    """A finished run (or one that stopped after `steps`), with one evaluation half way and one at the end."""
    config = Config.model_validate(SETTINGS | (settings or {}))
    run = root / config.experiment / name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(config.to_yaml())
    overrides = [{"time": 1.7e9, "overrides": ["budget.steps=20", "optim.batch_size=4"]}]
    (run / "overrides.json").write_text(json.dumps(overrides))
    (run / "environment.json").write_text(json.dumps([{"attempt": 0, "host": "<script>alert(1)</script>"}]))
    (run / "plan.json").write_text(json.dumps(plan(config).to_json()))
    lines = []
    for step in range(1, steps + 1):
        lines.append(step_line(config, step))
        if step in (10, 20):
            lines.append(
                {
                    "kind": "evaluation",
                    "step": step,
                    "tokens": config.curriculum.tokens(step),
                    "loss": 8.0 / (1 + 0.1 * step),
                    "bits_per_byte": 4.0 / (1 + 0.1 * step),
                    "unigram_bits_per_byte": 3.5,
                    "targets": 1000,
                    "seconds": 1.0,
                    "attempt": 0,
                }
            )
    write_lines(run / "metrics.jsonl", lines)
    events = [
        {
            "name": "start",
            "time": 1.7e9,
            "step": 0,
            "text": "a <b>new</b> run",
            "data": {},
            "attempt": 0,
        }
    ]
    write_lines(run / "events.jsonl", events)
    return run


def write_lines(path: Path, lines: list[dict]) -> None:
    with open(path, "a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def energy_lines(segment: str, joules: float, *, attempt: int = 0) -> list[dict]:
    """Two readings of one GPU's counter."""
    device = {"key": f"GPU-{segment}", "component": "gpu", "method": "NVML energy counter", "provenance": "measured"}
    common = {"segment": segment, "time": 0}
    first = {"kind": "open", "boot": "b", "rank": 0, "world_size": 1, "attempt": attempt, "step": 0, "monotonic": 0.0}
    last = {"kind": "reading", "n": 1, "step": 20, "phase": "train", "monotonic": 10.0, "values": [joules]}
    return [common | first | {"devices": [device], "values": [0.0]}, common | last | {"last": True}]
