"""All layouts of a cluster for a run, and the cheapest that fit: `isoflop plan layouts=8x8`.

Only machinery changes, so the outcome does not. Which layouts there are is for the configuration's own checks to say.
Two kinds need not be looked at, for another one is as good in everything: weights in fp32 on the wire where they may
travel in bf16, and blocks that are computed again where what they keep fits. What takes no host's memory comes first:
the time of an offload is not known (`trainer.books.clock`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import ValidationError

from trainer.books.clock import run_seconds, wire_seconds
from trainer.books.fitting import RECOMPUTATIONS, RESERVE, largest_step
from trainer.books.flops import flops
from trainer.books.layout import micro_batch, world_size
from trainer.books.links import bytes_between, bytes_sent
from trainer.books.memory import memory
from trainer.books.quantity import Quantity
from trainer.books.run_length import known_steps
from trainer.config import Config, EngineConfig, LaunchConfig
from trainer.config.host import precision
from trainer.utils.errors import UserError

SHOWN = 10
NO_OFFLOAD, OFFLOADS = (False, False), ((True, False), (True, True))  # of the optimizer's states, of parameters


@dataclass(frozen=True)
class Layout:
    """One way to lay a run out, and what it takes."""

    words: tuple[str, ...]  # keys of the engine with the values that make it
    memory: int  # bytes of one rank
    seconds: Quantity  # of one step, on average over the run
    tokens_per_second: float
    utilisation: float  # model FLOPs over the peak of all devices
    wire_seconds: float  # of what is sent in a step, by itself
    sent: float  # bytes of one rank and step
    between: float  # of these, to other hosts
    host_memory: int  # bytes of one rank

    def to_json(self) -> dict[str, Any]:
        low, high = self.seconds.low, self.seconds.high
        return {
            "overrides": list(self.words),
            "memory_bytes": self.memory,
            "host_memory_bytes": self.host_memory,
            "seconds_per_step": {"value": self.seconds.value, "low": low, "high": high},
            "tokens_per_second": self.tokens_per_second,
            "utilisation": self.utilisation,
            "wire_seconds": self.wire_seconds,
            "sent_bytes": self.sent,
            "between_hosts_bytes": self.between,
        }


@dataclass(frozen=True)
class Layouts:
    """The cheapest that fit, in order of time; on the same devices that is the order of energy and money too."""

    cheapest: tuple[Layout, ...]
    tried: int
    fitting: int
    available: float  # bytes of a device, after the reserve

    def to_json(self) -> dict[str, Any]:
        return {
            "tried": self.tried,
            "fitting": self.fitting,
            "available_bytes": self.available,
            "layouts": [one.to_json() for one in self.cheapest],
        }


def layouts(config: Config, nodes: int, devices: int, held: frozenset[str] = frozenset()) -> Layouts:
    """Search the layouts of `config` on so many nodes of so many devices. held: keys of the engine that stay.

    Raises UserError where the machine states too little, where no layout is possible, and where none fits: then with
    what the nearest one needs.
    """
    available, search = _available(config, nodes, devices), _Search(config, nodes, devices, held)
    for offloads in ((NO_OFFLOAD,), OFFLOADS):
        if found := search.fitting(available, offloads):
            return Layouts(tuple(search.cheapest(found)), search.tried, len(found), available)
    if search.nearest is None:
        raise UserError(f"layouts={nodes}x{devices}: none is possible; of one, {search.why}")
    need, words = search.nearest
    raise UserError(
        f"layouts={nodes}x{devices}: none of {search.tried} fits {available / 1e9:.1f} GB a device; the nearest needs "
        f"{need / 1e9:.1f} GB: {' '.join(words)}; take more or larger devices"
    )


def _available(config: Config, nodes: int, devices: int) -> float:
    """Bytes of a device. Raises UserError where the machine does not state what tells layouts apart."""
    machine, dtype = config.machine, precision(config)
    wanted: dict[str, Any] = {
        "memory_bytes": machine.memory_bytes,
        f"peak_flops.{dtype}": machine.peak_flops.get(dtype),
        "memory_bandwidth": machine.memory_bandwidth,
    }
    wanted |= {"link_bandwidth": machine.link_bandwidth} if devices > 1 else {}
    wanted |= {"network_bandwidth": machine.network_bandwidth} if nodes > 1 else {}
    if missing := [f"machine.{name}" for name, value in wanted.items() if not value]:
        raise UserError(f"layouts={nodes}x{devices}: state {' and '.join(missing)}, by which layouts differ")
    assert machine.memory_bytes is not None
    return machine.memory_bytes * (1 - RESERVE)


def _first(error: ValidationError) -> str:
    """The first line of what is wrong."""
    return str(error.errors()[0]["msg"]).removeprefix("Value error, ").splitlines()[0]


def _divisors(number: int) -> list[int]:
    return sorted(
        {two for one in range(1, math.isqrt(number) + 1) if number % one == 0 for two in (one, number // one)}
    )


class _Search:
    """Layouts of one run on one cluster, by the engine's keys that make them."""

    def __init__(self, config: Config, nodes: int, devices: int, held: frozenset[str]) -> None:
        self.config, self.held, self.ranks, self.devices = config, held, nodes * devices, devices
        try:
            self.launch = LaunchConfig.model_validate({**dict(config.launch), "nodes": nodes, "processes": devices})
        except ValidationError as error:
            raise UserError(f"launch.{_first(error)}") from None
        self.steps = known_steps(config) or 1
        self.tried, self.why = 0, ""
        self.nearest: tuple[int, tuple[str, ...]] | None = None
        self._checked({})  # what is wrong with the run's own layout is said first

    def fitting(self, available: float, offloads: tuple[tuple[bool, bool], ...]) -> list[Config]:
        """Of each division of the work and each micro-batch, what fits with the least that is computed again."""
        found = []
        for division, offload in product(list(self._divisions()), offloads):
            named = dict(zip(("offload_optimizer", "offload_parameters"), offload, strict=True))
            start = self._checked(division | (named if any(offload) else {}))
            if start is None:
                continue
            for rows in self._rows(start):
                for again in self._choices("activation_checkpointing", RECOMPUTATIONS):
                    update = {"micro_batch": rows, "activation_checkpointing": again}
                    one = start.model_copy(update={"engine": start.engine.model_copy(update=update)})
                    self.tried += 1
                    needed = memory(one.at_shape(largest_step(one))).total
                    if needed <= available:
                        found.append(one)
                        break
                    if self.nearest is None or needed < self.nearest[0]:
                        self.nearest = needed, self._words(one)
        return found

    def cheapest(self, found: list[Config]) -> Iterator[Layout]:
        """The first ten by time, then by time where nothing that is sent hides, then memory, then number of words, each
        as the configuration checks it; of those that are alike in all of this the one with the fewest words."""
        laid = []
        for one in found:
            seconds = self._seconds(one)
            by = seconds.value or 0.0, seconds.high or 0.0, memory(one).total, len(self._words(one))
            laid.append((by, one))
        shown = set()
        for (time, _, size, _), one in sorted(laid, key=lambda item: item[0]):
            alike = time, size, bytes_sent(one)
            if alike not in shown and self._checked(dict(one.engine)) is not None:
                shown.add(alike)
                yield self._laid_out(one)
            if len(shown) == SHOWN:
                return

    def _divisions(self) -> Iterator[dict[str, Any]]:
        """What of the engine's keys says who holds and sends what."""
        experts = self.config.model.experts.count
        shared = math.gcd(self.ranks, *self.config._stated_lengths().values())
        choices = {
            "zero_stage": (0, 1, 2, 3),
            "keep_gathered": (False, True),
            "partition": ("world", "node", *_divisors(self.devices)[1:-1]),
            "sequence_parallel": _divisors(shared),
            "sequence_kind": ("ulysses", "ring"),
            "expert_parallel": _divisors(math.gcd(self.ranks, experts)) if experts else (1,),
            "wire": ("bf16", "fp32") if precision(self.config) == "bf16" else ("fp32",),
        }
        lists = [self._choices(name, values) for name, values in choices.items()]
        before: dict[str, Any] = {}
        for values in product(*lists):
            one = dict(zip(choices, values, strict=True))
            if one["sequence_parallel"] == 1 and one["sequence_kind"] != lists[4][0]:
                continue  # nothing is shared: one kind is the other
            rest = {name: value for name, value in one.items() if name != "wire"}
            if rest == before:  # weights in bf16 are no worse
                continue
            if self._checked(one) is not None:
                before = rest
                yield one

    def _choices(self, name: str, values: Any) -> Any:
        return (getattr(self.config.engine, name),) if name in self.held else tuple(values)

    def _checked(self, change: dict[str, Any]) -> Config | None:
        """The run with these keys of the engine on the cluster, where the configuration and the device allow that."""
        try:
            engine = EngineConfig.model_validate({"micro_batch": None, **dict(self.config.engine), **change})
            parts = {name: getattr(self.config, name) for name in Config.model_fields}
            return Config.model_validate({**parts, "engine": engine, "launch": self.launch})
        except ValidationError as error:
            self.why = self.why or _first(error)
        return None

    def _rows(self, config: Config) -> list[int]:
        """Sequences of a pass: as many as the engine would take by itself, and down to one by halves."""
        size = micro_batch(config)
        if "micro_batch" in self.held:
            return [size]
        rows = [size]
        while rows[-1] > 1:
            rows.append(rows[-1] // 2)
        return rows

    def _seconds(self, config: Config) -> Quantity:
        return run_seconds(config, self.steps) / self.steps

    def _laid_out(self, config: Config) -> Layout:
        account, seconds, steps = memory(config.at_shape(largest_step(config))), self._seconds(config), self.steps
        assert seconds.value is not None
        peak = config.machine.peak_flops[precision(config)] * world_size(config)
        work = flops(config.ending_after(steps)).total / steps
        return Layout(
            words=self._words(config),
            memory=account.total,
            seconds=seconds,
            tokens_per_second=config.curriculum.tokens(steps) / steps / seconds.value,
            utilisation=work / seconds.value / peak,
            wire_seconds=wire_seconds(config),
            sent=bytes_sent(config),
            between=bytes_between(config),
            host_memory=account.host,
        )

    def _words(self, config: Config) -> tuple[str, ...]:
        """What to say to have it, beside what was said."""
        before, after = dict(self.config.engine), dict(config.engine)
        changed = {name: value for name, value in after.items() if value != before[name]}
        if "zero_stage" not in self.held:
            changed = {"zero_stage": after["zero_stage"], **changed}
        return tuple(f"engine.{name}={str(value).lower()}" for name, value in changed.items())
