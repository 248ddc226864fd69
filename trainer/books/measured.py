"""The price tag after the run: a fold over the files of its folder, which any process can make at any time."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from trainer.books.figures import (
    Figure,
    PriceTag,
    Row,
    exact,
    measured_figure,
    not_stated,
)
from trainer.books.layout import world_size
from trainer.books.plan import PF_DAY, cost_rows
from trainer.books.records import Steps, read_steps
from trainer.config import load


def measured(run: Path) -> PriceTag:
    """What the run in this folder cost so far. A run without a finished step has rows without values."""
    config, steps = load(run / "config.yaml"), read_steps(run)
    ranks = world_size(config)
    last = steps.kept[-1] if steps.kept else {}
    seconds = measured_figure(steps.wall_seconds, "clock, all attempts") if steps.kept else not_stated("no step yet")
    hours = seconds * exact(ranks / 3600)
    flop = last.get("flop")
    energy = not_stated("no energy counter was read")

    def row(key: str, name: str, unit: str, figure: Figure) -> Row:
        return Row(key, name, unit, measured=figure)

    rows = [
        row(
            "data.tokens",
            "training tokens",
            "tokens",
            measured_figure(last.get("tokens"), "counted"),
        ),
        row(
            "data.steps",
            "optimizer steps",
            "steps",
            measured_figure(last.get("step"), "counted"),
        ),
        row(
            "flop.total",
            "model FLOPs",
            "FLOP",
            measured_figure(flop, "exact count x tokens trained on"),
        ),
        row(
            "flop.pf_days",
            "  in PF-days",
            "PF-days",
            measured_figure(flop / PF_DAY if flop else None, ""),
        ),
        row("machine.devices", "devices (ranks)", "", exact(ranks)),
        row("memory.rank", "memory per rank", "bytes", _peak_memory(steps)),
        row("time.wall", "training time", "s", seconds),
        row("machine.device_hours", "device-hours", "h", hours),
        row(
            "speed.tokens_per_second",
            "throughput",
            "tokens/s",
            _median(steps, "tokens_per_second"),
        ),
        row("mfu", "MFU", "%", _median(steps, "mfu")),
        *cost_rows(config, energy, hours, "measured"),
    ]
    if steps.replayed:
        wasted = sum(sum(record.get("seconds", {}).values()) for record in steps.replayed)
        source = f"{len(steps.replayed)} steps trained again after a restart"
        rows.append(row("time.wasted", "  of it wasted", "s", measured_figure(wasted, source)))
    return PriceTag(f"{config.model.name}: the price tag", tuple(rows))


def _median(steps: Steps, name: str) -> Figure:
    values = [record[name] for record in steps.kept if record.get(name) is not None]
    if not values:
        return not_stated("machine.peak_flops" if name == "mfu" and steps.kept else "no step yet")
    return measured_figure(median(values), "median over steps")


def _peak_memory(steps: Steps) -> Figure:
    values = [record["memory_peak_bytes"] for record in steps.kept if record.get("memory_peak_bytes")]
    return measured_figure(max(values), "peak of rank 0") if values else not_stated("no step yet")
