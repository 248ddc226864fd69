"""A ladder: many runs that differ in size, tokens and seed by rules. What a file in conf/ladder may say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, TypeAdapter, model_validator

from trainer.config.decay import Decay, DecayConfig
from trainer.utils.schema import Count, CountWord, Paths, Section, key


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _number(value: Any) -> Any:
    """Of `5m` and its like the number."""
    number = COUNT.validate_python(value) if isinstance(value, str) else value
    return float(number) if isinstance(number, int) and not isinstance(number, bool) else number


COUNT: TypeAdapter[int] = TypeAdapter(Count)
Number = int | CountWord  # as a file says it
Size = int | float | str
Counts = Annotated[tuple[Count, ...], BeforeValidator(_listed, json_schema_input_type=Number | list[Number])]
Seeds = Annotated[tuple[int, ...], BeforeValidator(_listed, json_schema_input_type=int | list[int])]
Sizes = Annotated[
    tuple[str, ...],
    BeforeValidator(
        lambda value: tuple(str(size) for size in _listed(value)), json_schema_input_type=Size | list[Size]
    ),
]
Horizon = Annotated[float, BeforeValidator(_number)]
Horizons = Annotated[
    tuple[Horizon, ...], BeforeValidator(_listed, json_schema_input_type=float | Number | list[float | Number])
]
Pair = Annotated[tuple[float, float] | None, BeforeValidator(lambda v: tuple(map(float, v)) if v is not None else None)]


MOST_RUNS = 10_000  # of one command: each is composed and planned before the first begins


def too_many(numbers: Mapping[str, int]) -> str | None:
    """A line about the product of these numbers where it is more runs than a command takes, or null."""
    if prod(numbers.values()) <= MOST_RUNS:
        return None
    shown = " x ".join(f"{name}{f' ({number:,})' if number <= MOST_RUNS else ''}" for name, number in numbers.items())
    return f"{shown}: more than {MOST_RUNS:,} runs, the most of one command"


class PowerLawConfig(Section):
    """value x (amount / at) ^ exponent, or the law of a file in place of that."""

    value: float = key(1.0, "at the amount `at`", gt=0)
    at: Count = key(1, "amount where the value is stated", ge=1)
    exponent: float = key(0.0, "of the amount; 0: the same everywhere", ge=-2, le=2)
    law: str | None = key(None, "file of a law over parameters and tokens, settings.json of isoflop fit; it goes first")
    parameters: Literal["total", "active", "non_embedding"] | None = key(
        None, "what the law's N counts, where its file does not state that"
    )

    def __call__(self, amount: float) -> float:
        return float(self.value * (amount / self.at) ** self.exponent)


class LadderConfig(Section):
    """Sizes, a rule for tokens, rules for learning rate, batch and width, and seeds."""

    name: str = key("ladder", "the experiment, and so the folder of its runs")
    base: Paths = key((), "overrides of every run, e.g. data=stdlib")
    sizes: Sizes = key(
        (), "rungs: parameters for the size dial (30m), presets (gpt2-124m), or words ('model.width=64 model.heads=2')"
    )

    # Tokens: exactly one rule, or a budget in the words of every rung.
    tokens_per_parameter: float | None = key(
        None, "training tokens for each of all parameters (Hoffmann et al. 2022: 20)", "tokens", gt=0
    )
    tokens: Counts = key((), "training tokens: every size is trained on each of these", "tokens")
    flops: Counts = key((), "isoFLOP grid: budgets of model FLOPs; every size is trained with each of these", "FLOP")
    tokens_per_parameter_between: Pair = key(
        None, "of the grid, only runs with so many training tokens a parameter", "tokens"
    )

    # Branches: a size is trained once, to the longest of its horizons, and annealed at each of them.
    branch: Horizons = key(
        (), "horizons of every size: shares of its length up to 1, or amounts in the unit of its rule (else steps)"
    )
    decay: Decay = key(DecayConfig(share=0.2), "of branches: {shape, share or steps, to} before each horizon")

    # Rules; null: as in the base.
    lr: PowerLawConfig | None = key(None, "peak learning rate by parameters: {value, at, exponent}, or {law: file}")
    batch_size: PowerLawConfig | None = key(
        None, "sequences per step by training tokens: {value, at, exponent}, or {law: file}"
    )
    parametrization: Literal["standard", "mup", "completep"] = key(
        "standard",
        "how settings follow the size, from the narrowest rung on, where all is standard; mup: its width; completep: "
        "width and depth",
    )
    seeds: Seeds = key((0,), "every run is trained once with each of these")

    def _lengths(self) -> dict[str, int]:
        lists = ("sizes", "tokens", "flops", "branch", "seeds")
        return {name: len(getattr(self, name)) for name in lists if getattr(self, name)}

    @property
    def number(self) -> int:
        """Runs of it, at most."""
        return prod(self._lengths().values())

    @property
    def own_budgets(self) -> bool:
        """Whether every rung says itself how long it is trained."""
        return bool(self.sizes) and all(" budget." in size for size in self.sizes)

    @model_validator(mode="after")
    def _complete(self) -> LadderConfig:
        wrong = []
        if not self.sizes:
            wrong.append("sizes: name the rungs, e.g. [1m, 3m, 10m]")
        rules = [name for name in ("tokens_per_parameter", "tokens", "flops") if getattr(self, name)]
        if len(rules) != (0 if self.own_budgets else 1):
            given = " and ".join([*rules, *(["budget.* in sizes"] if self.own_budgets else [])]) or "none"
            wrong.append(f"tokens: state exactly one of tokens_per_parameter, tokens and flops, got {given}")
        for name in ("sizes", "tokens", "flops", "branch", "seeds"):
            doubled = sorted(str(value) for value, times in Counter(getattr(self, name)).items() if times > 1)
            if doubled:
                wrong.append(f"{name}: {', '.join(doubled)} given twice")
        for name, least in (("tokens", 1), ("flops", 1), ("seeds", 0)):
            small = [value for value in getattr(self, name) if value < least]
            wrong += [f"{name}: {value} given, {least} or more wanted" for value in small]
        wrong += [f"branch: {value:g} given, more than 0 wanted" for value in self.branch if value <= 0]
        if many := too_many(self._lengths()):
            wrong.append(many)
        if not self.branch and self.decay != LadderConfig.model_fields["decay"].default:
            wrong.append("decay: only branches read it; add ladder.branch")
        if not self.seeds:
            wrong.append("seeds: at least one is needed")
        for name in ("lr", "batch_size"):
            rule = getattr(self, name)
            if rule is not None and rule.parameters is not None and rule.law is None:
                wrong.append(f"{name}.parameters: only a law reads it; add {name}.law")
        between = self.tokens_per_parameter_between
        if between is not None and not 0 <= between[0] < between[1]:
            wrong.append(f"tokens_per_parameter_between: {list(between)} is no range; the first must be the smaller")
        if between is not None and not self.flops:
            wrong.append("tokens_per_parameter_between: only an isoFLOP grid reads it; add ladder.flops")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=,+-]{0,80}", self.name):
            wrong.append(f"name: {self.name!r} is not a plain folder name (letters, digits and . _ = , + -)")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


class LadderRoot(Section):
    """Where a ladder's keys hang: `ladder.sizes` and its like."""

    ladder: LadderConfig
