"""How much compute AdamW, Muon, Lion, Adafactor and LAMB need for the same loss, at rates tuned for each size.

    scripts/results/optimizers [--plan] [--jobs 2] [--scale 1] [--only adamw muon] [--out docs/results/optimizers]

At each of four sizes an optimizer is trained at five rates (one seed); where the best is the lowest or the highest, the
sweep goes on beyond it. A parabola through the best three gives the rate for three seeds. A law through these runs of
each optimizer is compared with AdamW's: docs/laws/compare.md. An interrupted one goes on with the same command; --scale
multiplies all budgets (0.01: a try in minutes); --plan prices it alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.books import flops, format_amount, format_plans, plan_row
from trainer.compose import compose
from trainer.report import read_run
from trainer.run.start import start
from trainer.scaling.efficiency import compare_laws, format_efficiency, format_factor, read_laws, write_factors
from trainer.scaling.efficiency.factor import Efficiency
from trainer.scaling.ladder import PlannedRun
from trainer.scaling.outcome import rows
from trainer.scaling.sweep import make_ready, run_all
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic
from trainer.utils.outcomes import STOPPED

OPTIMIZERS = {"adamw": 4e-3, "muon": 4e-3, "lion": 6e-4, "adafactor": 1e-2, "lamb": 1e-2}  # rates to begin from
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of that rate
MOST_BEYOND = 3  # more rates at the edge of a sweep
SEEDS = (0, 1, 2)
BASE = ("data=stdlib", "model=llama-mini", "model.head_size=16", "model.kv_heads=null", "data.sequence_length=128")
BASE += ("tokenizer.vocabulary=512", "engine.precision=fp32", "engine.threads=1", "evaluation.samples=256")
BASE += ("evaluation.every_steps=null", "checkpoint.every_steps=null", "tracker.console=none", "meter.every_seconds=10")
# Words, and FLOPs: one place a budget, so that one law of compute goes through all.
SIZES = {
    "w32": ("model.width=32 model.heads=2 model.depth=2 optim.batch_size=4", 8e10),
    "w48": ("model.width=48 model.heads=3 model.depth=2 optim.batch_size=6", 2.4e11),
    "w64": ("model.width=64 model.heads=4 model.depth=2 optim.batch_size=8", 7.2e11),
    "w80": ("model.width=80 model.heads=5 model.depth=3 optim.batch_size=12", 2.2e12),
}


@dataclass(frozen=True)
class Case:
    """One run."""

    optimizer: str
    size: str
    lr: float
    seed: int
    tuning: bool

    @property
    def experiment(self) -> str:
        return f"optimizers-tuning-{self.optimizer}" if self.tuning else f"optimizers-{self.optimizer}"

    def planned(self, scale: float, extra: Sequence[str]) -> PlannedRun:
        """The run that `isoflop train` of these words would be."""
        words, flop = SIZES[self.size]
        run = [*BASE, f"optim={self.optimizer}", *words.split(), *extra, f"budget.flop={round(scale * flop)}"]
        run += [f"optim.lr={self.lr:.3g}", f"seed={self.seed}", f"run.experiment={self.experiment}"]
        run += [f"run.id={self.size}-lr{self.lr:.3g}-s{self.seed}"]
        return PlannedRun(tuple(run), compose(run))


def best_rate(losses: Mapping[float, float]) -> float:
    """The rate at the lowest point of a parabola in log rate through the best and its neighbours; the best one itself
    at an edge, or beside a run that diverged."""
    rates = sorted(losses)
    best = min(rates, key=lambda rate: losses[rate])
    at = rates.index(best)
    if at in (0, len(rates) - 1):
        return best
    left, middle, right = (losses[rates[at + step]] for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    if not math.isfinite(bend) or bend <= 0:
        return best
    step = math.log(rates[at + 1] / rates[at])
    return float(f"{best * math.exp(step * 0.5 * (left - right) / bend):.3g}")


def beyond(losses: Mapping[float, float]) -> float | None:
    """The next rate where the best so far is at an edge; None where it is not, or no run was finite."""
    rates = sorted(losses)
    if not any(math.isfinite(loss) for loss in losses.values()):
        return rates[0] / 2
    best = min(rates, key=lambda rate: losses[rate])
    return rates[0] / 2 if best == rates[0] else rates[-1] * 2 if best == rates[-1] else None


class Stopped(Exception):
    """A signal asked to stop."""


def train(cases: Sequence[Case], options: argparse.Namespace) -> dict[Case, float]:
    """The held-out loss of each, inf where a run diverged; what has finished is not trained again."""
    planned = {case: case.planned(options.scale, options.words) for case in cases}
    make_ready(list(planned.values()), jobs=options.jobs)
    _, stopped = run_all(list(planned.values()), start, jobs=options.jobs)
    if stopped:
        raise Stopped
    table = rows(list(planned.values()))
    return {
        case: row["loss"] if row["loss"] is not None else math.inf for case, row in zip(planned, table, strict=True)
    }


def started(options: argparse.Namespace) -> list[tuple[str, float]]:
    """The optimizers that are wanted, AdamW first, and the rates that they begin from."""
    return [(name, lr) for name, lr in OPTIMIZERS.items() if name in options.only]


def tuned(options: argparse.Namespace) -> dict[tuple[str, str], dict[float, float]]:
    """Loss by rate for each optimizer and size, swept until the best is inside."""
    found = {
        (name, size): dict.fromkeys((lr * f for f in FACTORS), math.nan)
        for name, lr in started(options)
        for size in SIZES
    }
    for _ in range(1 + MOST_BEYOND):
        cases = [
            Case(*place, lr, SEEDS[0], True)
            for place, losses in found.items()
            for lr in losses
            if math.isnan(losses[lr])
        ]
        if not cases:
            break
        for case, loss in train(cases, options).items():
            found[case.optimizer, case.size][case.lr] = loss
        for losses in found.values():
            if (further := beyond(losses)) is not None and len(losses) < len(FACTORS) + MOST_BEYOND:
                losses[further] = math.nan
    return {place: {lr: loss for lr, loss in losses.items() if not math.isnan(loss)} for place, losses in found.items()}


def plan(options: argparse.Namespace) -> None:
    """Print the price of all runs, at the rates that the sweeps begin from."""
    tuning = [
        Case(name, size, lr * f, SEEDS[0], True) for name, lr in started(options) for size in SIZES for f in FACTORS
    ]
    final = [Case(name, size, lr, seed, False) for name, lr in started(options) for size in SIZES for seed in SEEDS]
    one_a_size = [Case(name, size, lr, 0, False) for name, lr in started(options) for size in SIZES]
    planned = {case: case.planned(options.scale, options.words) for case in one_a_size}
    print(format_plans([plan_row(f"{case.optimizer}-{case.size}", run.config) for case, run in planned.items()]))
    each = {(case.optimizer, case.size): flops(run.config).total for case, run in planned.items()}
    total = sum(each[case.optimizer, case.size] for case in (*tuning, *final))
    print(
        f"\n{len(tuning)} runs at {len(FACTORS)} rates and {len(final)} at the tuned ones: "
        f"{format_amount(total, 'FLOP')} in all; at 1.5e10 FLOP/s a core about "
        f"{format_amount(total / 1.5e10 / options.jobs, 's')} with {options.jobs} jobs"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="of all budgets")
    parser.add_argument("--out", type=Path, default=Path("docs/results/optimizers"))
    parser.add_argument("--only", nargs="+", choices=list(OPTIMIZERS), default=list(OPTIMIZERS), metavar="OPTIMIZER")
    parser.add_argument("words", nargs="*", help="overrides of every run, e.g. run.root=/scratch/runs (before --only)")
    options = parser.parse_args()
    options.only = list(dict.fromkeys(["adamw", *options.only]))
    if options.plan:
        plan(options)
        return 0
    began = time.monotonic()
    try:
        sweeps = tuned(options)
        rates = {place: best_rate(losses) for place, losses in sweeps.items()}
        final = [Case(*place, lr, seed, False) for place, lr in rates.items() for seed in SEEDS]
        losses = train(final, options)
    except Stopped:
        print("optimizers: stopped before the end; the same command goes on", file=sys.stderr)
        return STOPPED
    cases = [*final, *(Case(*place, lr, SEEDS[0], True) for place, swept in sweeps.items() for lr in swept)]
    write(options, sweeps, rates, losses, cases, time.monotonic() - began)
    return 0


def write(
    options: argparse.Namespace,
    sweeps: Mapping[tuple[str, str], Mapping[float, float]],
    rates: Mapping[tuple[str, str], float],
    losses: Mapping[Case, float],
    cases: Sequence[Case],
    seconds: float,
) -> None:
    """README.md, optimizers.json, and what `isoflop compare ... by=law` writes."""
    roots = [
        Case(name, "w32", 1.0, 0, False).planned(options.scale, options.words).folder.path.parent
        for name in options.only
    ]
    found = compare_laws(read_laws([str(root) for root in roots]))
    write_factors(found, options.out)
    price = _price(cases, options)
    tuning = {
        f"{name} {size}": {f"{lr:.3g}": loss for lr, loss in sorted(swept.items())}
        for (name, size), swept in sweeps.items()
    }
    facts = {
        "command": " ".join(["scripts/results/optimizers", *sys.argv[1:]]),
        "seconds": round(seconds),
        "price": price,
        "tuning": tuning,
        "rates": {f"{name} {size}": lr for (name, size), lr in rates.items()},
        "losses": {f"{case.optimizer} {case.size} s{case.seed}": loss for case, loss in losses.items()},
    }
    write_atomic(options.out / "optimizers.json", json.dumps(facts, indent=1) + "\n")
    lines = [
        "# Optimizers at tuned rates",
        "",
        f"Made by `{facts['command']}`, {format_amount(seconds, 's')} of wall time the last time.",
    ]
    lines.append(
        f"All {len(cases)} runs: {', '.join(f'{format_amount(value, unit)}' for unit, value in price.items())}."
    )
    lines += ["", "| | times AdamW's FLOP | times AdamW's kWh | one factor holds |", "|---|---|---|---|"]
    for one in found:
        if isinstance(one, Efficiency):
            figures = [
                format_factor(one.factors[axis]) if axis in one.factors else "not stated" for axis in ("flop", "kwh")
            ]
            figures = figures if one.determined else ["not determined"] * 2
            name = one.sides.labels[1].removeprefix("optimizers-")
            lines.append(f"| {name} | {figures[0]} | {figures[1]} | {'yes' if one.one_factor else 'no'} |")
    lines += ["", "| best rate | " + " | ".join(SIZES) + " |", "|---" * (1 + len(SIZES)) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{rates[name, size]:.3g}" for size in SIZES) + " |" for name in options.only]
    for one in found:
        lines += ["", "```", format_efficiency(one), "```"]
    write_atomic(options.out / "README.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"wrote {options.out}")


def _price(cases: Sequence[Case], options: argparse.Namespace) -> dict[str, float]:
    """Sums over the runs that state them, by unit."""
    sums = {"FLOP": 0.0, "kWh": 0.0}
    for case in cases:
        folder = case.planned(options.scale, options.words).folder.path
        if (folder / "config.yaml").is_file():
            run = read_run(folder)
            sums["FLOP"] += run.steps.kept[-1]["flop"] if run.steps.kept else 0.0
            sums["kWh"] += run.kwh or 0.0
    return {unit: value for unit, value in sums.items() if value}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"optimizers: {error}", file=sys.stderr)
        sys.exit(2)
