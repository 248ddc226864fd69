"""From a ladder, or from swept values, to the runs they stand for. Nothing is written and nothing is started here."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trainer.books import flops, parameters
from trainer.books.run_length import run_tokens
from trainer.compose import Override, compose, compose_ladder, groups, parse, sweep
from trainer.config import Config, LadderConfig
from trainer.config.ladder import too_many
from trainer.config.validate import validate
from trainer.run_folder import RunFolder
from trainer.scaling.branches import refuse_schedules, trunk_and_branches
from trainer.scaling.settings.rules import Rules
from trainer.utils.errors import UserError, nearest

FEWEST_SIZES = 3  # of one budget: a parabola has three coefficients
LONGEST_NAME = 100


@dataclass(frozen=True)
class PlannedRun:
    """One run: `isoflop train <words>` trains it. The same words always name the same folder."""

    words: tuple[str, ...]
    config: Config
    notes: tuple[str, ...] = ()  # what its ladder says of its settings

    @property
    def name(self) -> str:
        assert self.config.run.id is not None
        return self.config.run.id

    @property
    def folder(self) -> RunFolder:
        return RunFolder((Path(self.config.run.root) / self.config.experiment / self.name).absolute())


def planned_runs(words: list[str]) -> list[PlannedRun]:
    """The runs of a ladder (`ladder=...` among the words), or of the product of swept values without one.

    Raises UserError with what is wrong in any of them.
    """
    of_ladder = [word for word in words if word.split("=")[0].split(".")[0] == "ladder"]
    rest = [word for word in words if word not in of_ladder]
    if of_ladder:
        runs = ladder_runs(compose_ladder(of_ladder), rest)
    else:
        runs = swept_runs(rest)
    folders = [run.folder.path for run in runs]
    doubled = {str(folder) for folder, times in Counter(folders).items() if times > 1}
    if doubled:
        raise UserError(f"run.id: {len(runs)} runs would share {', '.join(sorted(doubled))}; leave run.id out")
    return runs


# --- swept values ---


def swept_runs(words: list[str]) -> list[PlannedRun]:
    """One run for every combination of swept values, named after them and the hash of its science."""
    swept, runs = _swept_keys(words), []
    for run in each(sweep(words), lambda run: (run, compose(run))):
        combination, config = run
        if config.run.id is None:
            name = "-".join([*value_names(combination, swept), config.science_hash()[:6]])
            combination = [*combination, f"run.id={short_name(name)}"]
            config = compose(combination)
        runs.append(PlannedRun(tuple(combination), config))
    return runs


def _swept_keys(words: list[str]) -> list[str]:
    return [override.key for override in parse(words) if override.is_sweep]


def value_names(words: Iterable[str], keys: Iterable[str]) -> list[str]:
    """`lr0.001` for every swept key: its last name and its value."""
    named = {override.key: override for override in map(Override, words)}
    return [_plain(f"{key.split('.')[-1]}={_value(named[key])}") for key in keys]


def _value(override: Override) -> str:
    """Its text; of a trunk the name of its folder and the step, without the way there."""
    value = override.text.partition("=")[2]
    return f"-{Path(value).name.replace('@', '-')}" if override.key == "branch" else value


# --- ladders ---


def ladder_runs(ladder: LadderConfig, words: list[str]) -> list[PlannedRun]:
    """Sizes x budgets x seeds, times whatever the other words sweep."""
    _not_the_ladders(ladder, words)
    refuse_schedules(ladder, [*ladder.base, *words])
    swept, trial = _swept_keys(words), _stand_ins(ladder)
    given = {override.key for override in parse(words)}
    base = [word for word in ladder.base if Override(word).key not in given]
    runs: list[PlannedRun] = []
    combinations = sweep([*base, *words])
    if many := too_many({"ladder": ladder.number, "the swept values": len(combinations)}):
        raise UserError(many)
    for combination in combinations:
        label = value_names(combination, swept)
        experiment = [] if "run.experiment" in given else [f"run.experiment={ladder.name}"]
        rungs = [(size_label(size), [*combination, *experiment, *size_words(size)]) for size in ladder.sizes]
        composed = each(rungs, lambda rung: (*rung, compose([*rung[1], *trial])))
        runs += _rungs(ladder, composed, label)
    return runs


def _stand_ins(ladder: LadderConfig) -> list[str]:
    """Values for what the ladder's rules state only once a rung's size is known."""
    steps = [] if ladder.own_budgets else ["budget.steps=1000000000"]
    return steps if ladder.batch_size is None else [*steps, "optim.batch_size=1048576"]


def _rungs(ladder: LadderConfig, rungs: list[tuple[str, list[str], Config]], label: list[str]) -> list[PlannedRun]:
    base = _base_keys(ladder, [config for _, _, config in rungs])
    budgets, rules = _budgets(ladder, [(name, config) for name, _, config in rungs]), Rules(ladder)
    runs: list[PlannedRun] = []
    wrong: dict[str, list[str]] = {}  # what is wrong -> the runs of which it is said
    for name, words, config in rungs:
        plain = config.model_dump(mode="json")
        for budget, tokens in budgets[name]:
            for seed in ladder.seeds:
                run_id = short_name("-".join([name, *([budget] if budget else []), *label, f"s{seed}"]))
                keys = base | _stated(rules, config, tokens, plain)
                keys |= {"seed": seed, "run.id": run_id}
                try:
                    planned: Config = validate(_changed(plain, keys))
                    texts = (*words, *(f"{key}={_text(value)}" for key, value in keys.items()))
                    made = [(texts, planned)]
                    if ladder.branch:
                        made = trunk_and_branches(ladder, planned, partial(_changed, plain), keys, texts)
                except UserError as error:
                    for line in str(error).splitlines():
                        wrong.setdefault(line, []).append(run_id)
                    continue
                notes = rules.notes(run_id, config, tokens)
                runs += [PlannedRun(*one, notes) for one in made]
    if wrong:
        more = {line: f" and {len(of) - 1} more" if len(of) > 1 else "" for line, of in wrong.items()}
        raise UserError("\n".join(f"{of[0]}{more[line]}: {line}" for line, of in wrong.items()))
    return runs


def _base_keys(ladder: LadderConfig, configs: list[Config]) -> dict[str, Any]:
    """The size from which settings are taken over: the narrowest rung's and, of several so narrow, the shallowest's."""
    if ladder.parametrization == "standard":
        return {}
    base = min((config.model for config in configs), key=lambda model: (model.width, model.depth))
    keys = {"model.mup_base_width": base.width, "model.mup_base_head_size": base.head_channels}
    return keys if ladder.parametrization == "mup" else keys | {"model.mup_base_depth": base.depth}


def _budgets(ladder: LadderConfig, rungs: list[tuple[str, Config]]) -> dict[str, list[tuple[str, float]]]:
    """For every rung its (name, training tokens)."""
    if ladder.own_budgets:
        return {name: [("", run_tokens(config))] for name, config in rungs}
    if ladder.tokens_per_parameter is not None:
        return {name: [("", ladder.tokens_per_parameter * parameters(config).total)] for name, config in rungs}
    if ladder.tokens:
        return {name: [(f"d{_amount(tokens)}", float(tokens)) for tokens in ladder.tokens] for name, _ in rungs}
    wrong: list[str] = []
    found: dict[str, list[tuple[str, float]]] = {name: [] for name, _ in rungs}
    low, high = ladder.tokens_per_parameter_between or (0.0, float("inf"))
    for budget in ladder.flops:
        kept = []
        for name, config in rungs:
            tokens = budget / flops(config).per_token
            if tokens >= config.data.sequence_length and low <= tokens / parameters(config).total <= high:
                kept.append(name)
                found[name].append((f"c{_amount(budget)}", tokens))
        if len(kept) < min(FEWEST_SIZES, len(rungs)):
            smallest, config = min(rungs, key=lambda rung: flops(rung[1]).per_token)
            sequence = flops(config).per_token * config.data.sequence_length
            left = f"leaves {', '.join(kept) or 'no size'}"
            limit = f" within {low:g} to {high:g} tokens a parameter" if ladder.tokens_per_parameter_between else ""
            wrong.append(
                f"ladder.flops: {budget:.3g} {left}{limit}, and a parabola needs {FEWEST_SIZES} sizes; one sequence of "
                f"the smallest, {smallest}, takes {sequence:.3g} FLOP"
            )
    if wrong:
        raise UserError("\n".join(wrong))
    return found


def _stated(rules: Rules, config: Config, tokens: float, plain: dict[str, Any]) -> dict[str, Any]:
    """What the ladder states of a rung that is trained on so many tokens."""
    batch = plain["optim"]["batch_size"]
    if (stated := rules.batch(config, tokens)) is not None:
        batch = max(1, round(stated))
    keys = {"optim.batch_size": batch}
    if not rules.ladder.own_budgets:
        keys["budget.steps"] = _steps(plain, batch, tokens)
    if (rate := rules.lr(config, tokens)) is not None:
        keys["optim.lr"] = float(f"{rate:.4g}")
    return keys


def _steps(plain: dict[str, Any], batch: int, tokens: float) -> int:
    """Steps of about so many tokens, in batches of so many sequences."""
    if not plain["optim"]["batch_warmup"]:
        return max(1, round(tokens / (batch * plain["data"]["sequence_length"])))
    config: Config = validate(_changed(plain, {"optim.batch_size": batch}))
    return max(1, config.curriculum.steps(round(tokens)))


def _not_the_ladders(ladder: LadderConfig, words: list[str]) -> None:
    """A key that the ladder states would be lost beside it."""
    theirs = {Override(word).key for size in ladder.sizes for word in size_words(size)}
    theirs |= {"budget.steps", "budget.tokens", "seed", "run.id"}
    theirs |= {"optim.lr"} if ladder.lr is not None else set()
    theirs |= {"optim.batch_size"} if ladder.batch_size is not None else set()
    wrong = [override for override in parse(words) if override.key in theirs]
    if wrong:
        hint = {"seed": "ladder.seeds", "optim.lr": "ladder.lr", "optim.batch_size": "ladder.batch_size"}
        raise UserError(
            "\n".join(
                f"{one.text}: the ladder states it; set {hint.get(one.key, 'ladder.sizes and its rule for tokens')}"
                for one in wrong
            )
        )


def size_words(size: str, key: str = "ladder.sizes") -> list[str]:
    """A rung's own overrides. Raises UserError where it is neither a count, nor a preset, nor overrides."""
    if "=" in size:
        return size.split()
    if re.fullmatch(r"[0-9.]+(e[0-9]+)?[kmbt]?", size.lower()):
        return [f"model.size={size}"]
    presets = groups()["model"]
    if size not in presets:
        near = nearest(size, presets)
        raise UserError(f"{key}: {size}: no such preset{near}; write a preset, a size as 30m, or overrides")
    return [f"model={size}"]


def size_label(size: str) -> str:
    """A rung's name: the size, the preset, or what its words say of the model."""
    of_model = [word.removeprefix("model.").removeprefix("model=") for word in size.split() if word[:5] == "model"]
    return _plain("-".join(of_model or size.split()))


# --- small words ---


def each(items: Iterable[Any], made: Callable[[Any], Any]) -> list[Any]:
    """`made` of every item. Raises UserError with the errors of all, each once."""
    results, wrong = [], []
    for item in items:
        try:
            results.append(made(item))
        except UserError as error:
            wrong += str(error).splitlines()
    if wrong:
        raise UserError("\n".join(dict.fromkeys(wrong)))
    return results


def _changed(plain: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """A copy of a configuration's plain data with dotted keys set."""
    changed: dict[str, Any] = json.loads(json.dumps(plain))
    for key, value in keys.items():
        *path, last = key.split(".")
        branch = changed
        for part in path:
            branch = branch[part]
        branch[last] = value
    if "budget.steps" in keys:
        changed["budget"] = {"steps": keys["budget.steps"]}
    return changed


def _text(value: Any) -> str:
    return "null" if value is None else str(value)


def _amount(value: float) -> str:
    """A number as part of a folder's name: 1e14, 3.2e15."""
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _plain(text: str) -> str:
    """As part of a folder's name that needs no quotes in an override."""
    return re.sub(r"[^A-Za-z0-9._+-]", "", text)


def short_name(name: str) -> str:
    """A folder's name that is not too long; what is cut off leaves its hash."""
    if len(name) <= LONGEST_NAME:
        return name
    import hashlib

    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
