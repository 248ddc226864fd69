"""The gradient noise scale of McCandlish et al. 2018, from the gradients that accumulation and ranks make anyway.

Micro-batch i holds b_i sequences with n_i targets, H_i is the gradient of its summed loss, and a step's gradient is
sum(H_i) / T over its T = sum(n_i) targets and B = sum(b_i) sequences. Where a sequence adds noise of variance D to H_i,
whatever its number of targets, these are unbiased for any n_i and b_i (appendix A.1 of the paper is the case of two
batch sizes and equal n_i):

    D      = (sum(|H_i|^2 / n_i) - |sum(H_i)|^2 / T) / (sum(b_i / n_i) - B / T)
    tr(S)  = D (B / T)^2                        variance of a sequence's gradient, summed over parameters
    |G|^2  = |sum(H_i) / T|^2 - tr(S) / B       square of the gradient without noise

The noise scale is their ratio, in sequences: at this batch the noise is as large as the signal. As in the paper both
are averaged over steps before they are divided. |H_i| is taken where autograd hands over a micro-batch's gradient,
before it is accumulated, partitioned or reduced, so that every ZeRO stage is alike and no pass is added.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainer.config import Config
from trainer.models import NOT_A_TARGET
from trainer.trackers import read_metrics
from trainer.training.distributed import World
from trainer.training.engine import Engine
from trainer.training.engine.engine import MicroBatch

HALF_LIFE = 10  # measurements after which one counts half in the averages
KEPT = 20 * HALF_LIFE  # older ones weigh 1e-6
NORMAL = 1.959963985  # standard deviations to each side that hold 95 %


class Contribution(NamedTuple):
    """One micro-batch of a step."""

    targets: int
    sequences: int  # with a target
    square: float  # of the norm of the gradient of its summed loss


class Measurement(NamedTuple):
    """What one step tells, neither of which need be positive."""

    step: int
    trace: float  # tr(S), per sequence
    square: float  # |G|^2


def measured(step: int, parts: Sequence[float], targets: float, norm: float) -> Measurement | None:
    """The estimates of one step. parts: sums over micro-batches of |H_i|^2 / n_i, b_i / n_i, b_i and 1. None where
    there are fewer than two with targets, or a norm is not finite."""
    squares, inverse, sequences, count = parts
    if count < 2 or not np.isfinite(squares) or not np.isfinite(norm):
        return None
    variance = (squares - targets * norm**2) / (inverse - sequences / targets)
    trace = variance * (sequences / targets) ** 2
    return Measurement(step, trace, norm**2 - trace / sequences)


def parts_of(contributions: Sequence[Contribution]) -> tuple[float, float, float, float]:
    """What `measured` wants of one rank's micro-batches; ranks add up theirs."""
    some = [one for one in contributions if one.targets]
    return (
        sum(one.square / one.targets for one in some),
        sum(one.sequences / one.targets for one in some),
        float(sum(one.sequences for one in some)),
        float(len(some)),
    )


def noise_scale(measurements: Sequence[Measurement]) -> dict[str, float | str | None]:
    """The ratio of both averages in sequences, with a 95 % interval by the delta method over steps.

    A measurement weighs half of one that is HALF_LIFE later. The deviations of tr(S) - ratio |G|^2 from 0 give the
    variance of the ratio; one measurement gives no interval. Null, with the reason, where the mean of |G|^2 is not
    positive: noise hides the signal in so few steps.
    """
    weights = 0.5 ** (np.arange(len(measurements))[::-1] / HALF_LIFE)
    weights /= weights.sum()
    traces = np.array([one.trace for one in measurements])
    squares = np.array([one.square for one in measurements])
    trace, square = float(weights @ traces), float(weights @ squares)
    if square <= 0:
        found: dict[str, float | str | None] = dict.fromkeys(("noise_scale", "noise_scale_low", "noise_scale_high"))
        return found | {"reason": "the mean square of the gradient without noise is not above 0 yet"}
    ratio, low, high = trace / square, None, None
    if len(measurements) > 1:
        residuals = weights * (traces - ratio * squares)
        deviation = float(np.sqrt((residuals @ residuals) / (1 - weights @ weights))) / square
        low, high = max(0.0, ratio - NORMAL * deviation), ratio + NORMAL * deviation
    return {"noise_scale": ratio, "noise_scale_low": low, "noise_scale_high": high}


class Noise:
    """Watches micro-batches every `debug.noise_every` steps. The first rank keeps what was measured; after a resume it
    is read from the records of the steps, so a checkpoint holds nothing of it."""

    def __init__(self, config: Config, engine: Engine, world: World, run: Path) -> None:
        self.config, self.engine, self.world = config, engine, world
        self.every = config.debug.noise_every or 1
        self.kept: deque[Measurement] = deque(_before(run) if world.is_first else (), maxlen=KEPT)
        self.contributions: list[Contribution] = []
        self._norms: list[Tensor] = []  # of the parameters' gradients, of the micro-batch whose backward pass runs
        self._squares: list[tuple[int, int, Tensor]] = []
        self._handles: list[Any] = []
        engine.observers.append(self._micro_batch_ended)

    def begin(self, step: int) -> None:
        """Gradients for update number `step` are computed next."""
        self._norms, self._squares = [], []
        if step % self.every:
            self._leave()  # a step that was to be measured was not made
        elif not self._handles:
            self._handles = [one.register_hook(self._add) for one in self.engine.parameters.values()]

    def _leave(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _add(self, gradient: Tensor) -> None:
        self._norms.append(torch.linalg.vector_norm(gradient.detach(), dtype=torch.float32))

    def _micro_batch_ended(self, batch: MicroBatch) -> None:
        if self._handles and self._norms:
            counted = np.asarray(batch["targets"]) != NOT_A_TARGET
            rows = int(counted.reshape(len(counted), -1).any(axis=1).sum())
            self._squares.append((int(counted.sum()), rows, torch.stack(self._norms).double().square().sum()))
        self._norms = []

    def record(self, step: int, targets: float, norm: float) -> dict[str, float | str | None]:
        """What the record of this step says; empty where it was not measured. Collective."""
        if not self._handles:
            return {}
        self._leave()
        # DeepSpeed averages over ranks, so what autograd made is the gradient of the summed loss x ranks / targets.
        scale = (targets / self.world.size) ** 2
        mine = [Contribution(count, rows, float(square) * scale) for count, rows, square in self._squares]
        found = measured(step, self.world.sum(*parts_of(mine)), targets, norm)
        while self.kept and self.kept[-1].step >= step:  # after a roll-back
            self.kept.pop()
        if found is None:
            return {"noise_scale": None, "reason": "fewer than two micro-batches of this step have targets"}
        self.kept.append(found)
        scaled = noise_scale(self.kept)
        ratio = scaled["noise_scale"]
        stretch = self.config.curriculum.stretch(step - 1)
        tokens = stretch.tokens_per_step / stretch.shape.batch_size
        return {
            "trace": found.trace,
            "square": found.square,
            **scaled,
            "critical_batch_tokens": None if ratio is None else float(ratio) * tokens,
        }


def _before(run: Path) -> list[Measurement]:
    """What earlier attempts measured, as far as it stands."""
    found = []
    for record in read_metrics(run):
        noise = record.get("gradient_noise") or {}
        if isinstance(noise.get("trace"), float) and isinstance(noise.get("square"), float):
            found.append(Measurement(int(record["step"]), noise["trace"], noise["square"]))
    return found
