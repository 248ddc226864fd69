"""Branches: `branch=<run>@<step> optim.decay=...` is the run that would have annealed there, of its trunk's science but
for the end of the schedule and the length (Hu et al. 2024; Hagele et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.books.run_length import known_steps, length_misfits, optim_in_steps, warmup_steps
from trainer.compose import continued
from trainer.compose.composition import change, differences
from trainer.compose.continued import Given, given_of
from trainer.compose.trunk import find_trunk
from trainer.config import BranchConfig, CheckpointConfig, Config, DecayConfig, OptimConfig, RunConfig
from trainer.config.decay import HOLDS, read_decay
from trainer.config.places import is_place
from trainer.config.validate import validate
from trainer.descriptions.registry import imported
from trainer.descriptions.schedules import SCHEDULES
from trainer.descriptions.schedules.pieces import PieceConfig
from trainer.descriptions.trackers import TRACKERS
from trainer.utils.errors import UserError

KEY, DECAY = "branch", "optim.decay"
SCHEDULE = ("optim.schedule", "optim.pieces", "optim.warmup_steps", "optim.min_lr_ratio", "optim.decay_fraction")


def compose(texts: Iterable[str], *, swept: bool = False) -> Config:
    """The configuration that these overrides describe, checked in full; with `branch` among them, of a branch.
    swept: of these overrides sweeps are left out, not refused. Raises UserError with every error at once."""
    texts = list(texts)
    given = given_of(texts, KEY)
    if given is None:
        return continued.compose(texts, swept=swept)
    if swept:
        given = Given([one for one in given.overrides if not one.is_sweep], given.data)
    given.refuse_many()
    if given.data.get(continued.KEY) not in (None, {}):
        raise UserError("init: a branch has its trunk's weights already; give one of branch and init")
    branch, decay = _group(given.data[KEY]), _decay(given.data)
    trunk = find_trunk(branch)
    named = BranchConfig(run=str(trunk.folder.path), step=trunk.step, checkpoint=trunk.checkpoint)
    words = [one.text for one in given.overrides if one.key.split(".")[0] != KEY and not _within(one.key, DECAY)]
    return branch_of(trunk.config, named, decay, words)


def branch_of(trunk: Config, branch: BranchConfig, decay: DecayConfig, words: Sequence[str] = ()) -> Config:
    """The configuration of a branch of a run of this configuration, with overrides of its machinery.

    Raises UserError where the trunk's rate is not held until there, and for each word that changes its science.
    """
    step = branch.step
    assert step is not None
    pieces, steps = [*_held(trunk, step, branch), decay.piece(_length(trunk, step, decay))], 0
    steps = step + pieces[-1]["steps"]
    optim = trunk.optim.model_dump(mode="json") | _defaults() | {"schedule": "pieces", "pieces": pieces}
    plain = trunk.model_dump(mode="json") | {
        "optim": optim | {"warmup_steps": None},
        "budget": {"steps": steps},
        "run": _beside(trunk.run),
        "branch": branch.model_dump(),
        "checkpoint": trunk.checkpoint.model_dump() | {"at_steps": CheckpointConfig().at_steps},
    }
    for one in TRACKERS.values():  # what names the trunk in a tracker
        plain["tracker"] |= {name: type(trunk.tracker).model_fields[name].default for name in one.of_one_run}
    base: Config = validate(plain)
    if long := length_misfits(base):
        raise UserError("\n".join(f"branch: {one.partition(';')[0]}; branch off a later step" for one in long))
    _same_curve(trunk, base, step, branch)
    capped = [name for name, source in trunk.data.sources.items() if source.epochs is not None]
    if capped:
        raise UserError(
            f"branch: data.sources.{capped[0]}.epochs: a cap shares the text out over the length of the run, so that a "
            "branch would not go on with its trunk's samples"
        )
    config = change(base, words) if words else base
    if wrong := _changed(base, config):
        raise UserError("\n".join(wrong))
    return config


def _group(named: Any) -> BranchConfig:
    """The group as the files and overrides say it. Raises UserError."""
    return validate({KEY: named}).branch


def _decay(data: Mapping[str, Any]) -> DecayConfig:
    """How the branch ends. Raises UserError."""
    given = (data.get("optim") or {}).get("decay")
    if given is None:
        raise UserError("optim.decay: a branch needs one, e.g. optim.decay=0.2 (share of its steps) or optim.decay=400")
    try:
        return read_decay(given)
    except ValidationError:
        validate({"optim": {"schedule": "constant", "decay": given}})  # says it as of any other key
        raise


def _length(trunk: Config, step: int, decay: DecayConfig) -> int:
    """Steps of the decay behind `step` others."""
    if decay.tokens is not None:
        curriculum = trunk.curriculum
        return curriculum.steps(curriculum.tokens(step) + decay.tokens) - step
    if decay.share is not None:
        return max(1, round(step * decay.share / (1 - decay.share)))
    return int(decay.steps or 0)


def _defaults() -> dict[str, Any]:
    """The keys of all schedules, as pieces have them."""
    return {name: field.get_default() for name, field in SCHEDULES.keys_read.items()}


def _beside(trunk: RunConfig) -> dict[str, Any]:
    """Where a branch lies: with its trunk, under a name of its own."""
    named = {name: getattr(trunk, name) for name in ("root", "cache", "project", "experiment")}
    return RunConfig(**named).model_dump()


# --- the schedule until there ---


def _held(trunk: Config, step: int, branch: BranchConfig) -> list[dict[str, Any]]:
    """What the trunk's rate does in its first `step` steps, as pieces, the last of which takes what is left."""
    total = _total(trunk, branch)
    if trunk.optim.schedule == "pieces":
        return _held_pieces(optim_in_steps(trunk, total), total, step, branch)
    warmup = warmup_steps(trunk.optim, total)
    if step < warmup:
        raise UserError(_within_warmup(branch, warmup))
    return [*([{"shape": "warmup", "steps": warmup}] if warmup else []), {"shape": "constant"}]


def _total(trunk: Config, branch: BranchConfig) -> int:
    total = known_steps(trunk)
    if total is None:
        stated = ", ".join(f"budget.{name}" for name in trunk.budget.measured)
        raise UserError(
            f"branch: {branch.run} is as long as {stated} buys, and so its rate is no function of the step alone; "
            "state budget.steps of a trunk too"
        )
    if (branch.step or 0) > total:
        raise UserError(f"branch: {branch.run} ends after {total} steps, step {branch.step} given")
    return total


def _held_pieces(optim: OptimConfig, total: int, step: int, branch: BranchConfig) -> list[dict[str, Any]]:
    pieces: tuple[PieceConfig, ...] = optim.pieces
    left, begin, kept = max(0, total - SCHEDULES["pieces"].steps_stated(optim, total)), 0, list[dict[str, Any]]()
    for number, piece in enumerate(pieces):
        length = piece.length(total)
        end = begin + (left if length is None else length)
        if step < end or (step == end and (number + 1 == len(pieces) or piece.shape in HOLDS)):
            if piece.shape == "warmup" and step < end:
                raise UserError(_within_warmup(branch, end))
            if piece.shape not in (*HOLDS, "warmup"):
                where = f"inside its own decay, of steps {begin + 1} to {end}" if step < end else "behind its own decay"
                raise UserError(
                    f"branch: step {step} of {branch.run} is {where}, and decays do not overlap; branch off step "
                    f"{begin} or one before"
                )
            return [*kept, {"shape": piece.shape}] if piece.shape in HOLDS else [*kept, _stated(piece, end - begin)]
        if end > begin:
            kept.append(_stated(piece, end - begin))
        begin = end
    return [*kept, {"shape": "constant"}]  # after the last piece the rate stays


def _stated(piece: PieceConfig, steps: int) -> dict[str, Any]:
    return {"shape": piece.shape, "steps": steps, **({} if piece.to is None else {"to": piece.to})}


def _within_warmup(branch: BranchConfig, warmup: int) -> str:
    return f"branch: step {branch.step} of {branch.run} is inside its warm-up of {warmup} steps; branch off a later one"


def _same_curve(trunk: Config, branched: Config, step: int, branch: BranchConfig) -> None:
    """Raise UserError, with the step where they part, unless both are told the same until `step`, to the bit."""
    # Found by name, as the schedules themselves are: it stands with them, above this layer.
    along: Callable[[Config, int], Callable[[int], Any]] = imported("trainer.training.step_settings:settings_along")
    total, length = _total(trunk, branch), branched.budget.steps
    assert length is not None
    of_trunk, of_branch = along(trunk, total), along(branched, length)
    for at in range(step):
        there, here = of_trunk(at), of_branch(at)
        for name in ("weight_decay", "momentum"):
            if getattr(there, name) != getattr(here, name):
                raise UserError(
                    f"branch: optim.{name}_schedule of {branch.run} depends on the length of the run, so that a branch "
                    f"is not as its trunk in step {at + 1}; a trunk states such pieces in steps"
                )
        if there.lr != here.lr:
            held = at > warmup_steps(trunk.optim, total)
            way = f"branch off step {at} or one before" if held else "a trunk holds its rate: optim.schedule=constant"
            raise UserError(
                f"branch: step {step} of {branch.run} is inside its own decay, which begins with step {at + 1} by "
                f"optim.schedule={trunk.optim.schedule}, and decays do not overlap; {way}"
            )


# --- the science but for that ---


def _changed(base: Config, config: Config) -> list[str]:
    """A line for each given key that makes it another science than the trunk's."""
    wrong = []
    for key, (before, now) in differences(base.science(), config.science()).items():
        if is_place(key):
            continue
        if key.startswith("budget."):
            wrong.append(f"{key}: {now!r} given, but a branch ends with its decay; optim.decay states its length")
        elif key.startswith(SCHEDULE):
            wrong.append(
                f"{key}: {now!r} given, but a branch has its trunk's schedule until its step, then optim.decay"
            )
        else:
            wrong.append(f"{key}: {now!r} given, the trunk has {before!r}; a branch is its trunk with another end")
    return list(dict.fromkeys(wrong))


def _within(key: str, group: str) -> bool:
    return key == group or key.startswith(f"{group}.")


def trunk_folder(config: Config) -> Path:
    """Where the trunk of a branch lies."""
    return Path(str(config.branch.run))
