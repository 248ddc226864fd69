"""Losses and gradient norms of tiny runs: three families, alone at ZeRO 0 and 3, and on two ranks at ZeRO 3."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from tests.golden import text
from tests.golden.files import HERE, read_json, read_lines, write_json
from tests.golden.process import Commands

FILE = HERE / "curves.json"
STEPS = 8

COMMON = [
    *(
        "data=text",
        "data.path=corpus",
        "data.sequence_length=32",
        "data.held_out=0.1",
        "tokenizer.path=tokenizer.model",
    ),
    *("model.vocabulary=384", "model.width=16", "model.heads=2"),
    *("optim.lr=0.02", "optim.batch_size=8", f"budget.steps={STEPS}"),
    *("engine.precision=fp32", "engine.device=cpu", "engine.threads=1", "run.root=runs", "run.cache=cache"),
    *("evaluation.every_steps=4", "checkpoint.every_steps=4", "checkpoint.keep_last=1", "checkpoint.keep_best=false"),
    *("tracker.console=none", "tracker.every_steps=1"),
]
FAMILIES = {
    "decoder": ["model=llama-mini", "objective=causal", "model.kv_heads=1", "model.depth=2"],
    "encoder": ["model=bert-base", "objective=masked_lm", "model.max_length=null", "model.depth=2"],
    "encoder_decoder": [
        *("model=t5-small", "objective=span_corruption", "model.depth=1", "model.head_size=8", "model.ffn_width=32"),
    ],
}
LAYOUTS = {
    "zero0": ["engine.zero_stage=0"],
    "zero3": ["engine.zero_stage=3"],
    "zero3-ranks2": ["engine.zero_stage=3", "launch.processes=2"],
}


# Texts end to end, which 0.1.0 called packed: what its run folders go on with.
GLUED = "glued"
OF_FOLDERS = {"decoder": "zero0", "encoder": GLUED, "encoder_decoder": GLUED}


def words(family: str, layout: str = "zero0") -> list[str]:
    """Overrides of a golden run, in a folder where `text.place` put corpus and tokenizer."""
    layouts = {**LAYOUTS, GLUED: [*LAYOUTS["zero0"], "data.boundaries=false"]}
    return [*FAMILIES[family], *COMMON, *layouts[layout]]


def train(commands: Commands, folder: Path, family: str, layout: str) -> Path:
    """Train one run of `folder`; returns the run's own folder."""
    run_id = f"{family}-{layout}"
    commands.succeed(folder, "train", *words(family, layout), "run.experiment=golden", f"run.id={run_id}")
    return folder / "runs" / "golden" / run_id


def curve(run: Path) -> dict[str, list[float]]:
    """What a run's metrics.jsonl says: of every step the loss (nats a target) and the gradient norm, and the held-out
    losses. Of a step that was made twice, as after kill -9, the last word."""
    records = read_lines(run / "metrics.jsonl")
    steps = {record["step"]: record for record in records if record["kind"] == "step"}
    evaluations = {record["step"]: record for record in records if record["kind"] == "evaluation"}
    return {
        "loss": [steps[step]["loss"] for step in sorted(steps)],
        "grad_norm": [steps[step]["grad_norm"] for step in sorted(steps)],
        "held_out": [evaluations[step]["loss"] for step in sorted(evaluations)],
    }


def processor() -> str:
    """What decides the last bit of a float: the processor, the instructions that torch takes of it, and torch."""
    import torch

    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    name = facts.get("model name") or platform.processor() or platform.machine()
    kind = f"family {facts.get('cpu family', '?')} model {facts.get('model', '?')}"
    return f"{name}, {kind}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def build(folder: Path) -> dict[str, Any]:
    """All curves, trained anew in this empty folder."""
    text.place(folder)
    found: dict[str, Any] = {"processor": processor()}
    with Commands() as commands:
        for family in FAMILIES:
            for layout in dict.fromkeys((*LAYOUTS, OF_FOLDERS[family])):
                found[f"{family} {layout}"] = curve(train(commands, folder, family, layout))
    return found


def make(folder: Path) -> None:
    write_json(FILE, build(folder))


def golden() -> dict[str, Any]:
    """The fixture. Raises FixtureMissing."""
    return read_json(FILE, "curves")


def of_folders(family: str) -> dict[str, Any]:
    """The curve of the runs that 0.1.0 left of a family."""
    curves: dict[str, Any] = golden()[f"{family} {OF_FOLDERS[family]}"]
    return curves


def difference(found: list[float], wanted: list[float], tolerance: float) -> str | None:
    """The first number that differs by more than `tolerance`, relative (0: in any bit); None where none does."""
    if len(found) != len(wanted):
        return f"{len(found)} numbers, {len(wanted)} wanted"
    for number, (here, there) in enumerate(zip(found, wanted, strict=True), 1):
        if here != there and not abs(here - there) <= tolerance * abs(there):
            return f"number {number} is {here!r}, {there!r} wanted: {abs(here - there) / abs(there):.1e} relative"
    return None


def tolerance(elsewhere: float) -> float:
    """0 on the processor that the fixture names, `elsewhere` on another."""
    return 0.0 if golden()["processor"] == processor() else elsewhere
