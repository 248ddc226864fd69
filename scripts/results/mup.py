"""muP against the standard parametrization: the coordinate check, and the best learning rate of every width.

    scripts/results/mup [--widths 64 128 256 512] [--steps 150] [--seeds 3] [--jobs 2] [--out docs/results]

Every model is trained on the same samples of Python's standard library, in fp32, with the schedule and the optimizer of
`isoflop train`, once a seed; losses are means over the seeds. Writes mup.json and mup.png. At the base width both
parametrizations are one and the same.
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

CHECKED = (64, 128, 256, 512, 1024)  # widths of the coordinate check
RATES = tuple(2.0**-power for power in range(11, 3, -1))
BASE_WIDTH = 64
WORDS = ["model=llama-mini", "model.depth=2", f"model.width={BASE_WIDTH}", "model.heads=2", "model.head_size=32"]
WORDS += ["model.kv_heads=null", "tokenizer.vocabulary=512", "data.sequence_length=64", "optim.batch_size=4"]
WORDS += ["engine.precision=fp32", "model.init_std=0.1"]  # at the base width about 1 / sqrt(width)
PARAMETRIZATIONS = ("standard", "mup")


@dataclass(frozen=True)
class Case:
    """One small training run."""

    parametrization: str
    width: int
    lr: float
    seed: int = 0


def config_of(plain: dict[str, Any], case: Case, steps: int = 1) -> Config:
    """The same model at another width, under one of the parametrizations."""
    base = BASE_WIDTH if case.parametrization == "mup" else None
    shape = {"width": case.width, "heads": case.width // 32, "mup_base_width": base}
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


def draw(checks: dict[str, Coordinates], losses: dict[str, dict[int, dict[float, float]]], out: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 7), layout="constrained")
    names = {"standard": "standard parametrization", "mup": "muP"}
    for column, (parametrization, check) in enumerate(checks.items()):
        axis = axes[0, column]
        for part, change in check.changes.items():
            axis.plot(check.sizes, change[:, -1], marker="o", label=part)
        axis.set(xscale="log", yscale="log", title=names[parametrization], xlabel="width")
        axis.set_xticks(check.sizes, [str(width) for width in check.sizes])
        axis.minorticks_off()
    for column, by_width in enumerate(losses.values()):
        axis = axes[1, column]
        for width, curve in by_width.items():
            axis.plot(list(curve), list(curve.values()), marker="o", label=f"width {width}")
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
    figure.savefig(out / "mup.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    began, plain = time.monotonic(), compose(WORDS).model_dump(mode="json")
    prepare(compose(WORDS))

    seeds = range(arguments.seeds)
    cases = [Case(*case) for case in itertools.product(PARAMETRIZATIONS, arguments.widths, RATES, seeds)]
    cases = [case for case in cases if case.parametrization == "standard" or case.width != BASE_WIDTH]
    cases.sort(key=lambda case: -case.width)  # the longest first, so that the jobs end together
    found: dict[Case, float] = {}
    with get_context("spawn").Pool(arguments.jobs) as pool, progress_bar() as progress:
        configs = [config_of(plain, case, arguments.steps) for case in cases]
        for case, loss in zip(cases, pool.imap(held_out_loss, configs), strict=True):
            found[case] = loss
            progress("learning rates", len(found), len(cases))

    def mean_loss(parametrization: str, width: int, lr: float) -> float:
        one = "standard" if width == BASE_WIDTH else parametrization
        return statistics.mean(found[Case(one, width, lr, seed)] for seed in seeds)

    losses = {
        name: {width: {lr: mean_loss(name, width, lr) for lr in RATES} for width in arguments.widths}
        for name in PARAMETRIZATIONS
    }
    checks = {
        name: coordinate_check(lambda width, name=name: config_of(plain, Case(name, width, 0.01)), CHECKED)
        for name in PARAMETRIZATIONS
    }
    best = {name: {width: best_rate(curve) for width, curve in losses[name].items()} for name in losses}
    result = {
        "command": " ".join(["scripts/results/mup", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - began),
        "slopes_of_change_over_width": {name: check.slopes() for name, check in checks.items()},
        "best_learning_rate": best,
        "moves_by_grid_steps": {name: grid_steps(rates) for name, rates in best.items()},
        "losses": losses,
    }
    draw(checks, losses, arguments.out)
    write_atomic(arguments.out / "mup.json", json.dumps(result, indent=1) + "\n")
    for name in PARAMETRIZATIONS:
        rates = "  ".join(f"{width}: {rate:.2g}" for width, rate in best[name].items())
        print(f"{name:<9} best learning rate by width  {rates}   moves {grid_steps(best[name]):.2f} grid steps")
        slopes = "  ".join(f"{part}: {slope:+.2f}" for part, slope in checks[name].slopes().items())
        print(f"{'':<9} exponent of the width in the change  {slopes}")


if __name__ == "__main__":
    main()
