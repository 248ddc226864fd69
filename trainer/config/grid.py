"""A grid of objectives: what a file in conf/grid may say."""

from __future__ import annotations

import re
from collections import Counter
from math import inf
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, field_validator, model_validator

from trainer.config.ladder import COUNT, Sizes, too_many
from trainer.utils.schema import CountWord, Paths, Section, key


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Score = Literal["accuracy", "f1", "macro_f1", "matthews", "exact_match", "perplexity"]


def _amounts(value: Any) -> Any:
    """One amount, or a list of them, as numbers; `5m` and its like are known. Raises ValueError for another thing."""
    if isinstance(value, list | tuple):
        return tuple(map(_amounts, value))
    number = COUNT.validate_python(value) if isinstance(value, str) else value
    if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
        raise ValueError(f"{value!r} given; a number wanted, or a list of one for each size")
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _whole_amounts(value: Any) -> Any:
    """As `_amounts`, of whole numbers alone."""
    amounts = _amounts(value)
    for one in amounts if isinstance(amounts, tuple) else (amounts,):
        if isinstance(one, float):
            raise ValueError(f"{one} given; a whole number wanted")
    return amounts


Word = int | CountWord  # as a file says it
Amounts = Annotated[  # one for all sizes, or one for each
    int | tuple[int, ...] | None, BeforeValidator(_whole_amounts, json_schema_input_type=Word | list[Word] | None)
]
Energies = Annotated[
    float | tuple[float, ...] | None, BeforeValidator(_amounts, json_schema_input_type=float | list[float] | None)
]
Seeds = Annotated[tuple[int, ...], BeforeValidator(_listed, json_schema_input_type=int | list[int])]


class GridTaskConfig(Section):
    """One column of the table: what every pre-trained model is tuned on."""

    words: Paths = key((), "overrides of the tuning run, e.g. task=swapped")
    score: Score = key("accuracy", "what is reported of it, on records that were not trained on")

    @property
    def lower_is_better(self) -> bool:
        return self.score == "perplexity"


class GridConfig(Section):
    """Objectives at equal compute: each is pre-trained with the same budget, then tuned on the same tasks."""

    name: str = key("grid", "folder of the runs under run.root")
    title: str = key("Comparison of pre-training objectives", "title of the table")
    base: Paths = key((), "overrides of every pre-training run, e.g. data=stdlib")
    objectives: dict[str, Paths] = key({}, "rows: name -> overrides, e.g. [model.family=encoder, objective=masked_lm]")
    tasks: dict[str, GridTaskConfig] = key({}, "columns: name -> {words, score}")
    tuning: Paths = key((), "overrides of every tuning run, e.g. budget.steps=50")
    seeds: Seeds = key((0, 1, 2), "of every objective")

    sizes: Sizes = key(
        (), "every objective at each: words ('model.width=64 model.heads=4'), presets, or parameters for the size dial"
    )

    # The budget of each pre-training run: exactly one; with sizes one for all, or a list of one for each.
    flop: Amounts = key(None, "model FLOPs by the books; a list: of each size", "FLOP")
    kwh: Energies = key(None, "energy as it is measured; a list: of each size", "kWh")
    tokens: Amounts = key(None, "training tokens; a list: of each size", "tokens")
    tokens_per_parameter: float | None = key(
        None, "the FLOPs that so many tokens a parameter take the first objective's model of each size", "tokens", gt=0
    )

    BUDGETS: ClassVar[tuple[str, ...]] = ("flop", "kwh", "tokens", "tokens_per_parameter")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=,+-]{0,80}", value):
            raise ValueError(f"{value!r} is not a plain folder name (letters, digits and . _ = , + -)")
        return value

    @model_validator(mode="after")
    def _complete(self) -> GridConfig:
        wrong = []
        if len(self.objectives) < 2:
            wrong.append(f"objectives: a comparison needs at least two, got {len(self.objectives)}")
        if not self.tasks:
            wrong.append("tasks: name at least one, e.g. {swapped: {words: [task=swapped]}}")
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            wrong.append(f"seeds: different whole numbers from 0 on are wanted, got {list(self.seeds)}")
        stated = [name for name in self.BUDGETS if getattr(self, name) is not None]
        lists = {name: len(getattr(self, name)) for name in ("objectives", "tasks", "sizes", "seeds")}
        if many := too_many({name: number for name, number in lists.items() if number}):
            wrong.append(many)
        if len(stated) != 1:
            given = " and ".join(stated) or "none"
            wrong.append(
                f"flop: state exactly one budget of {', '.join(self.BUDGETS[:-1])} and {self.BUDGETS[-1]}, got {given}"
            )
        wrong += [line for name in stated for line in self._wrong_amounts(name)]
        if doubled := sorted(size for size, times in Counter(self.sizes).items() if times > 1):
            wrong.append(f"sizes: {', '.join(doubled)} given twice")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _wrong_amounts(self, name: str) -> list[str]:
        """What is wrong with a budget: too little, or a list that is not one amount for each size."""
        stated, least = getattr(self, name), 1 if name in ("flop", "tokens") else 0
        amounts = stated if isinstance(stated, tuple) else (stated,)
        wrong = [
            f"{name}: {value:g} given, {'1 or more' if least else 'more than 0'} wanted"
            for value in amounts
            if not (value >= least and value > 0 and value < inf)
        ]
        if isinstance(stated, tuple) and len(stated) != len(self.sizes):
            sizes = f"{len(self.sizes)} size{'s' * (len(self.sizes) != 1)}"
            wrong.append(
                f"{name}: {len(stated)} amount{'s' * (len(stated) != 1)} given for {sizes}; give one for all, or one "
                "for each"
            )
        return wrong

    def amount(self, number: int = 0) -> tuple[str, float]:
        """Which budget is stated, and its amount for this size."""
        name = next(name for name in self.BUDGETS if getattr(self, name) is not None)
        stated = getattr(self, name)
        return name, stated[number] if isinstance(stated, tuple) else stated


class GridRoot(Section):
    """Where a grid's keys hang: `grid.flop` and its like."""

    grid: GridConfig
