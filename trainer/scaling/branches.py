"""The branches of a ladder: a run of a size that is held at its rate, and one that anneals for every horizon."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from trainer.books import flops, parameters
from trainer.books.run_length import run_steps
from trainer.compose import Override, branch_of
from trainer.config import BranchConfig, Config, DecayConfig, LadderConfig
from trainer.config.validate import validate
from trainer.run_folder import RunFolder
from trainer.utils.checkpoint_files import steps_in
from trainer.utils.errors import UserError

STATED = ("optim.schedule", "optim.pieces", "optim.decay", "optim.min_lr_ratio", "checkpoint.at_steps", "branch")
Planned = tuple[tuple[str, ...], Config]  # the words of a run, and its configuration


def refuse_schedules(ladder: LadderConfig, words: Iterable[str]) -> None:
    """A ladder with branches states their schedule itself. Raises UserError."""
    wrong = [word for word in words if Override(word).key.startswith(STATED)]
    if ladder.branch and wrong:
        raise UserError("\n".join(f"{word}: ladder.branch states it, with ladder.decay" for word in wrong))


def trunk_and_branches(
    ladder: LadderConfig,
    config: Config,
    changed: Callable[[dict[str, Any]], dict[str, Any]],
    keys: dict[str, Any],
    words: tuple[str, ...],
) -> list[Planned]:
    """The trunk of a rung, then its branches, shortest first.

    config: the rung trained to its longest horizon; changed(keys): its plain data with other keys; keys: those that the
    ladder states of it, as they stand in `words`. Raises UserError where a horizon is too short for its decay.
    """
    longest, name = run_steps(config), keys["run.id"]
    horizons = sorted({_steps(ladder, horizon, config, longest) for horizon in ladder.branch})
    lengths = {steps: _decay_steps(ladder.decay, steps, config) for steps in horizons}
    warmup = config.optim.warmup_steps
    if warmup is None:  # of the shortest: all of them share it
        warmup = min(horizons[0] // 10, 2000)
    if horizons[0] > longest or horizons[-1] > longest:
        raise UserError(
            f"ladder.branch: a horizon of {horizons[-1]} steps is beyond the {longest} of the ladder's rule"
        )
    if horizons[0] - lengths[horizons[0]] < max(warmup, 1):
        raise UserError(
            f"ladder.branch: a horizon of {horizons[0]} steps leaves no rate to decay from: "
            f"{warmup} are its warm-up and {lengths[horizons[0]]} its decay"
        )
    begins = {steps: steps - lengths[steps] for steps in horizons}
    own = {"optim.schedule": "constant", "optim.warmup_steps": warmup, "budget.steps": begins[horizons[-1]]}
    own |= {"checkpoint.at_steps": sorted({*begins.values()}), "run.id": f"{name}-trunk"}
    trunk: Config = validate(changed(keys | own))
    folder = (Path(trunk.run.root) / trunk.experiment / f"{name}-trunk").absolute()
    stated = [word for word in words if (key := Override(word).key) not in own and not key.startswith("budget.")]
    planned: list[Planned] = [((*stated, *(f"{key}={_text(value)}" for key, value in own.items())), trunk)]
    for steps in horizons:
        decay = DecayConfig(shape=ladder.decay.shape, steps=lengths[steps], to=ladder.decay.to)
        run_id = f"run.id={name}-h{steps}"
        made = branch_of(trunk, BranchConfig(run=str(folder), step=begins[steps]), decay, [run_id])
        how = f"optim.decay={{shape:{decay.shape},steps:{decay.steps},to:{decay.to}}}"
        planned.append(((f"branch='{folder}@{begins[steps]}'", how, run_id), made))
    return planned


def _steps(ladder: LadderConfig, horizon: float, config: Config, longest: int) -> int:
    """A horizon in steps: a share of the longest, or an amount in the unit of the ladder's rule for tokens."""
    if horizon <= 1:
        return max(1, round(horizon * longest))
    if ladder.own_budgets:
        return round(horizon)
    tokens = horizon
    if ladder.tokens_per_parameter is not None:
        tokens = horizon * parameters(config).total
    elif ladder.flops:
        tokens = horizon / flops(config).per_token
    return max(1, round(tokens / (config.optim.batch_size * config.data.sequence_length)))


def _decay_steps(decay: DecayConfig, steps: int, config: Config) -> int:
    """Steps of the decay before a horizon."""
    if decay.share is not None:
        return max(1, round(decay.share * steps))
    if decay.tokens is not None:
        return -(-decay.tokens // (config.optim.batch_size * config.data.sequence_length))
    return int(decay.steps or 0)


def _text(value: Any) -> str:
    return str(value).replace(" ", "")


def can_begin(config: Config, folder: RunFolder) -> bool:
    """Whether all is there that the run begins from: of a branch its trunk's checkpoint, or one of its own."""
    if not config.branch.given or steps_in(folder.checkpoints):
        return True
    return config.branch.step in steps_in(RunFolder(Path(str(config.branch.run))).checkpoints)
