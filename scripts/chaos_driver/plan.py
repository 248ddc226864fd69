"""Which faults, where, and in which layout: all of it a function of the seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

ALONE = ("setup", "tokenizer", "encoding", "report")  # phases in which only the launcher is there
RANKS = ("loading", "steps", "evaluation", "saving")
PHASES = ("setup", "tokenizer", "encoding", "loading", "steps", "evaluation", "saving", "report", "between")
SIGNALS = ("HUP", "QUIT", "TERM", "INT")
KINDS = ("kill", *SIGNALS, "pause", "disk", "damage")
WEIGHT = {"kill": 3}  # as often as three other kinds
DISKS = {
    "tokenizer": ("cache",),
    "encoding": ("cache",),
    "loading": ("run",),
    "steps": ("run", "checkpoints"),
    "saving": ("run", "checkpoints"),
}


@dataclass(frozen=True)
class Layout:
    """How one attempt divides the work; a run may change all of it at every resume."""

    processes: int = 1
    zero_stage: int = 0
    micro_batch: int | None = None
    offload_optimizer: bool = False
    offload_parameters: bool = False
    activation_checkpointing: bool = False
    data_workers: int = 1
    asynchronous: bool = True

    @property
    def words(self) -> list[str]:
        """Overrides for the command line."""
        engine = {name: value for name, value in vars(self).items() if name not in ("processes", "asynchronous")}
        words = [f"engine.{name}={'null' if value is None else str(value).lower()}" for name, value in engine.items()]
        return [
            f"launch.processes={self.processes}",
            f"checkpoint.asynchronous={str(self.asynchronous).lower()}",
            *words,
        ]

    def __str__(self) -> str:
        marks = {"offload": self.offload_optimizer, "+params": self.offload_parameters}
        marks |= {"recompute": self.activation_checkpointing, "async": self.asynchronous}
        batch = "" if self.micro_batch is None else f" mb{self.micro_batch}"
        return " ".join([f"{self.processes}r Z{self.zero_stage}{batch}", *(name for name, on in marks.items() if on)])


@dataclass(frozen=True)
class Fault:
    """One attempt and what happens to it."""

    number: int  # from 1
    phase: str
    kind: str
    target: str  # a process; of disk: which folder; of damage: what is done to a file
    moment: float  # where in the phase, 0 to 1
    steps: int  # at least so many of this attempt come before it
    layout: Layout
    by_name: bool  # started with resume=<run> instead of the first command's run.id

    def __str__(self) -> str:
        return f"{self.phase} {self.kind} {self.target}"


def targets(phase: str, kind: str) -> tuple[str, ...]:
    """What a fault of this kind can hit in this phase; nothing where there is none."""
    if phase == "between":
        return ("flip", "truncate", "delete") if kind == "damage" else ()
    if kind == "kill":
        return ("launcher",) if phase in ALONE else ("launcher", "rank 0", "other rank", "all")
    if kind in SIGNALS:
        return ("launcher", "group") if phase in ALONE else ("launcher", "group", "rank 0", "other rank")
    if kind == "pause":
        return ("rank 0", "other rank") if phase in RANKS[1:] else ()
    return DISKS.get(phase, ()) if kind == "disk" else ()


def plan(
    seed: int, count: int, phases: Iterable[str] = PHASES, kinds: Iterable[str] = KINDS, disks: bool = True
) -> list[Fault]:
    """`count` faults over these phases and kinds, each phase and each kind in it about equally often. The same
    arguments give the same plan. Raises ValueError where phases and kinds leave nothing."""
    chance = random.Random(seed)
    kinds = [kind for kind in kinds if disks or kind != "disk"]
    phases = [phase for phase in phases if any(targets(phase, kind) for kind in kinds)]
    if not phases:
        raise ValueError("none of these kinds can strike in these phases")
    used: Counter[tuple[str, ...]] = Counter()  # by kind, phase and kind, kind and target, phase and kind and target
    waiting: list[str] = []
    faults = []
    for number in range(1, count + 1):
        if not waiting:
            waiting = chance.sample(phases, len(phases))
        phase = waiting.pop()
        possible = [kind for kind in chance.sample(kinds, len(kinds)) if targets(phase, kind)]
        kind = min(possible, key=lambda one: (used[phase, one] / WEIGHT.get(one, 1), used[one,] / WEIGHT.get(one, 1)))
        aims = targets(phase, kind)
        target = min(chance.sample(aims, len(aims)), key=lambda one: (used[phase, kind, one], used[kind, one]))
        used.update([(kind,), (phase, kind), (kind, target), (phase, kind, target)])
        least = 2 if target in ("rank 0", "other rank") else 1
        layout = draw_layout(chance, least, 2 if phase == "report" else 3)  # all steps come before a report
        moment, steps, by_name = chance.random(), chance.randrange(3), chance.random() < 0.5
        faults.append(Fault(number, phase, kind, target, moment, steps, layout, by_name))
    return faults


def draw_layout(chance: random.Random, least: int, most: int) -> Layout:
    """A layout of so many ranks."""
    processes, stage = chance.randint(least, most), chance.randrange(4)
    offload = stage > 0 and chance.random() < 0.3
    return Layout(
        processes=processes,
        zero_stage=stage,
        micro_batch=chance.choice((None, 1, 2, 4)),
        offload_optimizer=offload,
        offload_parameters=stage == 3 and offload and chance.random() < 0.5,
        activation_checkpointing=chance.random() < 0.3,
        data_workers=chance.randrange(3),
        asynchronous=chance.random() < 0.6,
    )
