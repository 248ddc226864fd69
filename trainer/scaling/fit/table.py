"""One table of runs, wherever they were made: what each run was, what it reached, what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from trainer.utils.errors import UserError

AXES = {"flop": "FLOP", "kwh": "kWh", "gco2e": "g CO2e", "money": ""}  # the unit of money is the table's currency
PLACE = ("parameters", "tokens", "active", "experts", "unique_tokens", "vocabulary", "characters")  # what a law reads
LARGEST = 1e60  # of any amount, and the inverse of the smallest: powers of numbers beyond are no numbers any more
SAME_BUDGET = 0.1  # budgets whose logarithms are nearer than this are one budget
WIDEST_BUDGET = 0.4  # of the logarithms of one budget
TOGETHER = "to fit them together all the same, add mixed=true"
MOST_NAMES = 6  # of runs in one line of an error


@dataclass(frozen=True)
class Curve:
    """Held-out loss along one run, or along the runs of one size: arrays of one length, cheapest first."""

    flop: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True)
class TaskScore:
    """What a run reached in one task; None where it is not stated."""

    task: str
    bits_per_byte: float | None = None  # of the right answer
    accuracy: float | None = None  # 0 to 1
    chance: float | None = None  # of a guess


@dataclass(frozen=True)
class Run:
    """One finished run. Amounts that were neither measured nor stated are None.

    Amounts that every run has may be nan in a table that does not state them: tokens and flop (of mixtures of experts,
    of vocabularies), loss (where there are tasks alone).
    """

    name: str
    parameters: float
    tokens: float
    flop: float
    loss: float  # nats per token
    kwh: float | None = None
    gco2e: float | None = None
    money: float | None = None
    curve: Curve | None = None
    origin: tuple[tuple[str, str], ...] = ()  # ("data", "..."), ("tokenizer", "..."): must agree within one fit

    # What else a law may depend on.
    active: float | None = None  # parameters that one token reads
    experts: float | None = None
    unique_tokens: float | None = None  # of which `tokens` are repetitions
    vocabulary: float | None = None
    characters: float | None = None  # of text, where the loss is normalised over vocabularies

    # Settings: of the runs of one place the best is kept.
    lr: float | None = None  # peak learning rate
    batch: float | None = None  # in the table's batch_unit
    noise_batch: float | None = None  # tokens: the gradient noise scale at its end, where it was measured
    seed: int | None = None
    optimizer: str = ""
    setting: str = ""  # everything else that differs, in words

    tasks: tuple[TaskScore, ...] = ()
    earlier: tuple[Run, ...] = ()  # the same run before its end, cheapest first: of tables that say it row by row

    kind: str = ""  # of the loss: annealed, cosine, stopped ...; nothing where it is not stated
    tried: int = 1  # settings at its place, of which this is the best
    at_edge: tuple[str, ...] = ()  # settings whose best value is the lowest or the highest of three or more tried


@dataclass(frozen=True)
class Table:
    """Runs, and what must be said beside any figure that is made from them."""

    runs: tuple[Run, ...]
    counts: str  # what `parameters` counts
    flop_rule: str  # where `flop` comes from
    currency: str = ""
    left_out: tuple[tuple[str, str], ...] = ()  # (name, why)
    notes: tuple[str, ...] = ()
    batch_unit: str = ""  # "tokens" or "sequences"; nothing where it is not stated
    every: tuple[Run, ...] = ()  # the runs of all settings; `runs` are those of the best setting at each place
    flat: bool = False  # whether it is rows of a file, which `where=` can choose from

    def column(self, name: str) -> np.ndarray:
        """float64 [runs]; nan where the run does not say."""
        values = [getattr(run, name) for run in self.runs]
        return np.array([np.nan if value is None else value for value in values], float)

    @cached_property
    def budgets(self) -> np.ndarray:
        """int64 [runs]: which budget each run belongs to, 0 the smallest: of FLOP, else of `amount`."""
        logs = np.log(self.amount)
        order = np.argsort(logs, kind="stable")
        numbers = np.empty(len(logs), np.int64)
        numbers[order] = np.cumsum(_first_of_groups(logs[order]))
        return numbers

    @cached_property
    def amount(self) -> np.ndarray:
        """float64 [runs]: what orders the runs by compute: FLOP; where no row states it nor tokens, the parameters that
        a token reads x characters, or these parameters alone (in no unit of work)."""
        flop = self.column("flop")
        if np.isfinite(flop).all():
            return flop
        active, characters = self.column("active"), self.column("characters")
        active = np.where(np.isfinite(active), active, self.column("parameters"))
        return active * characters if np.isfinite(characters).all() else active

    @cached_property
    def places(self) -> np.ndarray:
        """int64 [runs]: which PLACE each run has; runs of one place are its seeds."""
        columns = np.nan_to_num(np.stack([self.column(name) for name in PLACE], axis=1), nan=-1)
        return np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1)

    @property
    def states_no_loss(self) -> bool:
        """Whether its runs have scores of tasks alone."""
        return bool(np.isnan(self.column("loss")).all())

    def only(self, keep: np.ndarray) -> Table:
        """The runs that `keep` (bool [runs]) marks."""
        return replace(self, runs=tuple(run for run, kept in zip(self.runs, keep, strict=True) if kept))

    def unit(self, axis: str) -> str:
        return self.currency if axis == "money" else AXES[axis]


def _first_of_groups(logs: np.ndarray) -> np.ndarray:
    """bool [n]: which of the ascending logarithms begins a new budget, but for the first.

    Neighbours further apart than SAME_BUDGET are two budgets; what chains of nearer ones stretch beyond WIDEST_BUDGET
    is divided at its widest steps.
    """
    steps = np.diff(logs, prepend=logs[:1])
    first = steps > SAME_BUDGET
    edges = [0, *np.flatnonzero(first), len(logs)]
    parts = list(pairwise(edges))
    while parts:
        begin, end = parts.pop()
        if logs[end - 1] - logs[begin] > WIDEST_BUDGET:
            middle = begin + 1 + int(np.argmax(steps[begin + 1 : end]))
            first[middle] = True
            parts += [(begin, middle), (middle, end)]
    return first


def check_origin(table: Table) -> None:
    """Raise UserError where runs are of different data, tokenizers, objectives or numerics, or of losses of different
    kinds: their losses are not one scale."""
    runs = table.every if table.flat else table.runs
    lines = origins_apart([(run.name, run.origin) for run in runs])
    if lines and table.flat:
        first, *others = lines
        also = f"; they differ in {', '.join(others)}, too" if others else ""
        raise UserError(f"{lines[first]}{also}; to fit one of them, add where={_commonest(runs)}; {TOGETHER}")
    if lines:
        raise UserError("\n".join([*lines.values(), TOGETHER]))


def origins_apart(runs: Sequence[tuple[str, tuple[tuple[str, str], ...]]]) -> dict[str, str]:
    """In what runs, (name, origin) each, differ that makes a loss another scale: what -> a line about it."""
    lines = {}
    for what in dict.fromkeys(name for _, origin in runs for name, _ in origin):
        by_value: dict[str, list[str]] = {}
        for run, origin in runs:
            by_value.setdefault(dict(origin).get(what, "not stated"), []).append(run)
        if len(by_value) > 1:
            sides = " against ".join(f"{value or 'nothing'} ({_some(names)})" for value, names in by_value.items())
            lines[what] = f"{what}: these runs differ in it, and losses of different {what} are not one scale: {sides}"
    return lines


def _some(names: Sequence[str]) -> str:
    return named(names) if len(names) <= MOST_NAMES else f"{named(names[:2])} and {len(names) - 2} more"


def _commonest(runs: Sequence[Run]) -> str:
    """As `where=` takes it: what leaves most runs of one origin."""
    [(most, _)] = Counter(run.origin for run in runs).most_common(1)
    words = []
    for what, value in most:
        if any(dict(run.origin).get(what) != value for run in runs):
            words.append(f"{what.replace(' ', '_')}={value}")
            runs = [run for run in runs if dict(run.origin).get(what) == value]
    return ",".join(words)


def named(names: Iterable[str]) -> str:
    """Names for one line of text: the first few, and how many more."""
    names = list(names)
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
