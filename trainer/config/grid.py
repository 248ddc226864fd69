"""A grid of objectives: what a file in conf/grid may say."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, field_validator, model_validator

from trainer.config.ladder import too_many
from trainer.utils.schema import Count, Paths, Section, key


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Score = Literal["accuracy", "f1", "macro_f1", "matthews", "exact_match", "perplexity"]
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

    # The budget of each pre-training run: exactly one.
    flop: Count | None = key(None, "model FLOPs by the books", "FLOP", ge=1)
    kwh: float | None = key(None, "energy as it is measured", "kWh", gt=0)
    tokens: Count | None = key(None, "training tokens", "tokens", ge=1)

    BUDGETS: ClassVar[tuple[str, ...]] = ("flop", "kwh", "tokens")

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
        lists = {name: len(getattr(self, name)) for name in ("objectives", "tasks", "seeds")}
        if many := too_many({name: number for name, number in lists.items() if number}):
            wrong.append(many)
        if len(stated) != 1:
            given = " and ".join(stated) or "none"
            wrong.append(f"flop: state exactly one budget of flop, kwh and tokens, got {given}")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @property
    def budget(self) -> list[str]:
        """The budget as an override of a run."""
        stated = {name: getattr(self, name) for name in self.BUDGETS}
        return [f"budget.{name}={value}" for name, value in stated.items() if value is not None]


class GridRoot(Section):
    """Where a grid's keys hang: `grid.flop` and its like."""

    grid: GridConfig
