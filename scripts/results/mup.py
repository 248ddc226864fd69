"""muP and CompleteP against the standard parametrization: the coordinate check, and the best learning rate of every
width, or of every depth.

    scripts/results/mup [--over width|depth] [--sizes 64 128 256 512] [--steps 150] [--seeds 3] [--jobs 2]
                        [--out docs/results]

Every model is trained on the same samples of Python's standard library, in fp32, with the schedule and the optimizer of
`isoflop train`, once a seed; losses are means over the seeds. Writes mup.json and mup.png, or completep.json and
completep.png. At the base size both parametrizations are one and the same. What has been trained is kept beside the
result until all is, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.books.run_length import run_steps
from trainer.compose import compose
from trainer.config import Config
from trainer.data import Samples, prepare
from trainer.models import NOT_A_TARGET, build, initialize
from trainer.scaling.coordinates import Coordinates, coordinate_check
from trainer.training.lr_schedule import learning_rate
from trainer.training.optimizers import make_optimizer, set_learning_rate
from trainer.utils.files import write_atomic
from trainer.utils.progress import progress_bar

RATES = tuple(2.0**-power for power in range(11, 3, -1))
WORDS = ["model=llama-mini", "model.depth=2", "model.width=64", "model.heads=2", "model.head_size=32"]
WORDS += ["model.kv_heads=null", "tokenizer.vocabulary=512", "data.sequence_length=64", "optim.batch_size=4"]
WORDS += ["engine.precision=fp32", "model.init_std=0.1"]  # at the base width about 1 / sqrt(width)


@dataclass(frozen=True)
class Comparison:
    """What grows, and under what it is compared with the standard parametrization."""

    over: str
    scaled: str  # parametrization, and name of the result
    title: str
    base: int
    sizes: tuple[int, ...]
    checked: tuple[int, ...]  # sizes of the coordinate check

    @property
    def parametrizations(self) -> tuple[str, str]:
        return ("standard", self.scaled)


COMPARISONS = {
    "width": Comparison("width", "mup", "muP", 64, (64, 128, 256, 512), (64, 128, 256, 512, 1024)),
    "depth": Comparison("depth", "completep", "CompleteP", 2, (2, 4, 8, 16), (2, 4, 8, 16, 32)),
}


@dataclass(frozen=True)
class Case:
    """One small training run."""

    over: str
    parametrization: str
    size: int
    lr: float
    seed: int = 0

    def key(self, steps: int) -> str:
        return f"{self.parametrization}/{self.size}/{self.lr}/{self.seed}/{steps}"


def config_of(plain: dict[str, Any], case: Case, steps: int = 1) -> Config:
    """The same model at another width or depth, under one of the parametrizations."""
    base = None if case.parametrization == "standard" else COMPARISONS[case.over].base
    shape = {case.over: case.size, f"mup_base_{case.over}": base}
    if case.over == "width":
        shape["heads"] = case.size // 32
    changed = {"model": {**plain["model"], **shape}, "optim": {**plain["optim"], "lr": case.lr}}
    return Config.model_validate({**plain, **changed, "seed": case.seed, "budget": {"steps": steps}})


def held_out_loss(config: Config) -> float:
    """Train, and return the loss in nats per token on text that was not trained on; inf where it diverged."""
    import torch

    torch.set_num_threads(1)
    prepared = prepare(config)
    samples, held_out = Samples(prepared, config, "train"), Samples(prepared, config, "held_out")
    model = build(config)
    initialize(model, config.seed)
    optimizer, size = make_optimizer(model, config.optim), config.optim.batch_size

    def loss_of(source: Samples, first: int, count: int) -> Any:
        batch = {name: torch.from_numpy(array) for name, array in source.batch(first, first + count).items()}
        total, _, _ = model(**batch)
        return total / int((batch["targets"] != NOT_A_TARGET).sum())

    for step in range(run_steps(config)):
        loss = loss_of(samples, step * size, size)
        if not math.isfinite(float(loss.detach())):
            return math.inf
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip or math.inf)
        set_learning_rate(optimizer, learning_rate(config.optim, step, run_steps(config)))
        optimizer.step()
    with torch.no_grad():
        return float(sum(loss_of(held_out, first, 32) for first in range(0, 128, 32)) / 4)


def best_rate(losses: dict[float, float]) -> float:
    """The learning rate with the lowest loss, between the grid's points by a parabola in its logarithm."""
    rates = sorted(losses)
    place = min(range(len(rates)), key=lambda index: losses[rates[index]])
    if not 0 < place < len(rates) - 1:
        return rates[place]
    left, middle, right = (losses[rates[place + offset]] for offset in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if math.isfinite(bend) and bend > 0 else 0.0
    return rates[place] * 2**shift


def grid_steps(best: dict[int, float]) -> float:
    """How far the best rate moves over the widths, in steps of the grid (a factor of two)."""
    return math.log2(max(best.values()) / min(best.values()))


def draw(
    one: Comparison, checks: dict[str, Coordinates], losses: dict[str, dict[int, dict[float, float]]], out: Path
) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 7), layout="constrained")
    names = {"standard": "standard parametrization", one.scaled: one.title}
    for column, (parametrization, check) in enumerate(checks.items()):
        axis = axes[0, column]
        for part, change in check.changes.items():
            axis.plot(check.sizes, change[:, -1], marker="o", label=part)
        axis.set(xscale="log", yscale="log", title=names[parametrization], xlabel=one.over)
        axis.set_xticks(check.sizes, [str(width) for width in check.sizes])
        axis.minorticks_off()
    for column, by_width in enumerate(losses.values()):
        axis = axes[1, column]
        for width, curve in by_width.items():
            axis.plot(list(curve), list(curve.values()), marker="o", label=f"{one.over} {width}")
            best = min(curve, key=lambda rate: curve[rate])
            axis.plot(best, curve[best], marker="*", markersize=15, color=axis.lines[-1].get_color())
        axis.set(xscale="log", xlabel="learning rate")
    finite = [loss for by_width in losses.values() for curve in by_width.values() for loss in curve.values()]
    lowest = min(finite)
    for row in axes:
        for axis in row:
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[1]:
        axis.set_ylim(lowest - 0.05, lowest + 1.5)
    shared = [limit for axis in axes[0] for limit in axis.get_ylim()]
    for axis in axes[0]:
        axis.set_ylim(min(shared), max(shared))
    axes[0, 0].set_ylabel("mean change after 4 updates")
    axes[1, 0].set_ylabel("held-out loss, nats/token")
    axes[0, 0].legend(frameon=False)
    axes[1, 1].legend(frameon=False)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / f"{one.scaled}.png", dpi=110)


def trained(cases: list[Case], plain: dict[str, Any], steps: int, jobs: int, kept: Path) -> dict[Case, float]:
    """The loss of every case. Those that the file `kept` holds are not trained again; each goes there at once."""
    known: dict[str, float] = json.loads(kept.read_text()) if kept.is_file() else {}
    left = [case for case in cases if case.key(steps) not in known]
    left.sort(key=lambda case: -case.size)  # the longest first, so that the jobs end together
    with get_context("spawn").Pool(jobs) as pool, progress_bar() as progress:
        configs = [config_of(plain, case, steps) for case in left]
        for number, (case, loss) in enumerate(zip(left, pool.imap(held_out_loss, configs), strict=True), 1):
            known[case.key(steps)] = loss
            write_atomic(kept, json.dumps(known))
            progress("learning rates", number, len(left))
    return {case: known[case.key(steps)] for case in cases}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--over", choices=list(COMPARISONS), default="width")
    parser.add_argument("--sizes", type=int, nargs="+", help="widths or depths, the base among them")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    one = COMPARISONS[arguments.over]
    sizes = arguments.sizes or list(one.sizes)
    if one.base not in sizes:
        parser.error(f"--sizes: {one.base}, the base {one.over}, must be among them")
    began, plain = time.monotonic(), compose(WORDS).model_dump(mode="json")
    prepare(compose(WORDS))
    arguments.out.mkdir(parents=True, exist_ok=True)

    seeds, names = range(arguments.seeds), one.parametrizations
    every = itertools.product([one.over], names, sizes, RATES, seeds)
    cases = [
        case
        for case in (Case(*values) for values in every)
        if case.parametrization == names[0] or case.size != one.base
    ]
    kept = arguments.out / f"{one.scaled}-losses.json"
    found = trained(cases, plain, arguments.steps, arguments.jobs, kept)

    def mean_loss(name: str, size: int, lr: float) -> float:
        name = names[0] if size == one.base else name
        return statistics.mean(found[Case(one.over, name, size, lr, seed)] for seed in seeds)

    losses = {name: {size: {lr: mean_loss(name, size, lr) for lr in RATES} for size in sizes} for name in names}
    checks = {
        name: coordinate_check(
            lambda size, name=name: config_of(plain, Case(one.over, name, size, 0.01)),
            one.checked,
            deeper=one.over == "depth",
        )
        for name in names
    }
    best = {name: {size: best_rate(curve) for size, curve in losses[name].items()} for name in losses}
    result = {
        "command": " ".join(["scripts/results/mup", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - began),
        f"slopes_of_change_over_{one.over}": {name: check.slopes() for name, check in checks.items()},
        "best_learning_rate": best,
        "moves_by_grid_steps": {name: grid_steps(rates) for name, rates in best.items()},
        "losses": losses,
    }
    draw(one, checks, losses, arguments.out)
    write_atomic(arguments.out / f"{one.scaled}.json", json.dumps(result, indent=1) + "\n")
    kept.unlink()
    for name in names:
        rates = "  ".join(f"{size}: {rate:.2g}" for size, rate in best[name].items())
        print(f"{name:<9} best learning rate by {one.over}  {rates}   moves {grid_steps(best[name]):.2f} grid steps")
        slopes = "  ".join(f"{part}: {slope:+.2f}" for part, slope in checks[name].slopes().items())
        print(f"{'':<9} exponent of the {one.over} in the change  {slopes}")


if __name__ == "__main__":
    main()
