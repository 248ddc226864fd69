"""Does it fit, and if not, the cheapest setting of the machinery that does. The science is left alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from trainer.books.activations import saved
from trainer.books.clock import step_seconds
from trainer.books.layout import micro_batch, micro_batches, world_size, zero_stage
from trainer.books.lengths import lengths
from trainer.books.memory import MemoryAccount, memory
from trainer.books.quantity import Quantity
from trainer.config import Config, StepShape
from trainer.config.recomputation import Recomputation, deepest_stack

PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer states",
    "averages": "averages of the weights",
    "buckets": "communication buckets",
    "copies": "low-precision copies of the weights",
    "activations": "activations",
    "logits": "logits",
}
RECOMPUTATIONS: tuple[Recomputation, ...] = (False, "selective", 4, 3, 2, True)  # that are tried
RUNTIME = 0.03  # share of a device's memory for its context, libraries and fragmentation
MARGIN = 0.02  # of what is left: so far the account may be off, and nearer is no fit
RESERVE = 1 - (1 - RUNTIME) * (1 - MARGIN)
KEPT_BACK = f"after {RUNTIME:.0%} for the runtime and {MARGIN:.0%} margin"
SHOWN = 5  # proposals


@dataclass(frozen=True)
class Proposal:
    """A setting of the machinery that fits."""

    change: dict[str, Any]  # keys of the engine, and their values
    needed: MemoryAccount
    seconds: Quantity  # of the largest step

    @property
    def overrides(self) -> list[str]:
        """Words for the command line."""
        return [f"engine.{name}={str(value).lower()}" for name, value in self.change.items()]

    def to_json(self) -> dict[str, Any]:
        seconds = {"value": self.seconds.value, "low": self.seconds.low, "high": self.seconds.high}
        return {
            "overrides": self.overrides,
            "bytes": self.needed.total,
            "host_bytes": self.needed.host,
            "seconds_per_step": seconds,
        }


@dataclass(frozen=True)
class Fit:
    """Whether a configuration fits its machine; where it does not, what would."""

    needed: MemoryAccount
    available: float | None  # bytes; None where the machine states no memory
    proposals: tuple[Proposal, ...] = ()  # where it does not fit, what does: the cheapest first

    @property
    def fits(self) -> bool | None:
        return None if self.available is None else self.needed.total <= self.available

    @property
    def proposal(self) -> dict[str, Any] | None:
        """Keys of the engine that change in the cheapest of the settings that fit, and their values."""
        return self.proposals[0].change if self.proposals else None

    @property
    def proposed(self) -> MemoryAccount | None:
        """What that setting takes."""
        return self.proposals[0].needed if self.proposals else None

    @property
    def largest_part(self) -> str:
        return max(PARTS, key=lambda name: int(getattr(self.needed, name)))

    @property
    def text(self) -> str:
        """One line for a person."""
        if self.available is None:
            return "whether it fits is not stated: machine.memory_bytes"
        need, available = self.needed.total / 1e9, self.available / 1e9
        if self.fits:
            return f"fits: {need:.1f} GB of {available:.1f} GB ({KEPT_BACK})"
        line = (
            f"does not fit, so that it has no price: {need:.1f} GB of {available:.1f} GB ({KEPT_BACK}); the "
            f"largest part is {PARTS[self.largest_part]}"
        )
        if not self.proposals:
            return (
                f"{line}; no setting of stage, micro-batch, checkpointing and offload fits: use more or larger devices"
            )
        first = self.proposals[0]
        return f"{line}; the cheapest setting that fits ({_cost_text(first)}): {' '.join(first.overrides)}"

    @property
    def others(self) -> tuple[str, ...]:
        """A line for each of the other settings that fit, the cheaper first."""
        return tuple(f"fits too ({_cost_text(one)}): {' '.join(one.overrides)}" for one in self.proposals[1:])

    def to_json(self) -> dict[str, Any]:
        """Bytes of one rank, and what fits where this does not; null is not stated, or no setting fits."""
        return {
            "fits": self.fits,
            "needed_bytes": self.needed.total,
            "available_bytes": self.available,
            "largest_part": self.largest_part,
            "proposal": self.proposals[0].to_json() if self.proposals else None,
            "proposals": [one.to_json() for one in self.proposals],
        }


def _cost_text(one: Proposal) -> str:
    """What a setting takes."""
    seconds = "" if one.seconds.value is None else f", {one.seconds.value:.3g} s a step"
    return f"{one.needed.total / 1e9:.1f} GB{seconds}"


def fit(config: Config) -> Fit:
    """Check the largest step of `config` against its machine's memory; where it is too large, search the machinery."""
    size = config.machine.memory_bytes
    needed = memory(config.at_shape(largest_step(config)))
    available = None if size is None else size * (1 - RESERVE)
    if available is None or needed.total <= available:
        return Fit(needed, available)
    now = {
        "zero_stage": zero_stage(config),
        "micro_batch": micro_batch(config),
        "activation_checkpointing": config.engine.activation_checkpointing,
        "offload_optimizer": config.engine.offload_optimizer,
        "offload_parameters": config.engine.offload_parameters,
    }
    found: list[tuple[tuple[float, ...], Proposal]] = []
    for change in _settings(config):
        changed = config.model_copy(update={"engine": config.engine.model_copy(update=change)})
        largest = changed.at_shape(largest_step(changed))
        account = memory(largest)
        if account.total <= available:
            # An offload wants the stage to be said, also where it is what it would have been.
            before = now | ({"zero_stage": config.engine.zero_stage} if change["offload_optimizer"] else {})
            said = {name: value for name, value in change.items() if value != before[name]}
            seconds = step_seconds(largest)
            found.append((_price(largest, seconds), Proposal(said, account, seconds)))
    ordered = sorted(found, key=lambda item: item[0])
    return Fit(needed, available, tuple(_without_repeats(one for _, one in ordered)))


def _without_repeats(proposals: Iterable[Proposal]) -> Iterator[Proposal]:
    """The first few that differ in time or memory."""
    seen = set[tuple[float | None, int]]()
    for one in proposals:
        key = one.seconds.value, one.needed.total
        if key not in seen and len(seen) < SHOWN:
            seen.add(key)
            yield one


def largest_step(config: Config) -> StepShape:
    """The shape of the step that takes the most memory."""
    largest: dict[tuple[int, bool], StepShape] = {}  # of those that only differ in the rows of a pass: the most rows
    for shape in config.curriculum.shapes:
        key = shape.sequence_length, micro_batches(config.at_shape(shape)) > 1
        rows = micro_batch(config, shape.batch_size)
        if key not in largest or rows > micro_batch(config, largest[key].batch_size):
            largest[key] = shape
    if len(largest) == 1:
        return next(iter(largest.values()))
    return max(largest.values(), key=lambda shape: memory(config.at_shape(shape)).total)


def _settings(config: Config) -> Iterator[dict[str, Any]]:
    """Every setting of the machinery that leaves the outcome alone."""
    sizes, size, deepest = [], micro_batch(config), deepest_stack(config)
    recomputations = [one for one in RECOMPUTATIONS if one == "selective" or int(one) <= deepest]
    while size:
        sizes.append(size)
        size //= 2
    for stage in (0, 1, 2, 3) if world_size(config) > 1 else (zero_stage(config), 3):
        for rows in sizes:
            for recompute in recomputations:
                for optimizer, weights in ((False, False), (True, False), (True, True)):
                    written_with_whole = stage == 3 and config.task.writes
                    if written_with_whole or (optimizer and not stage) or (weights and stage != 3):
                        continue
                    yield {
                        "zero_stage": stage,
                        "micro_batch": rows,
                        "activation_checkpointing": recompute,
                        "offload_optimizer": optimizer,
                        "offload_parameters": weights,
                    }


def _price(config: Config, seconds: Quantity) -> tuple[float, ...]:
    """What a setting costs: time, then the way to the host, then what is computed again, the number of changes."""
    engine = config.engine
    offloaded = engine.offload_optimizer + engine.offload_parameters
    again = saved(config, micro_batch(config) * config.task.rows, *lengths(config)).computed_again
    return (seconds.value or 0.0, offloaded, float(again), zero_stage(config), -micro_batch(config))


def too_large(config: Config) -> str:
    """One line for a step that did not fit into the memory of its device."""
    rows, planned = micro_batch(config), memory(config).total / 2**30
    way = f"set engine.micro_batch={rows // 2}" if rows > 1 else "set engine.activation_checkpointing=true"
    return f"engine.micro_batch: {rows} x the longest sequence does not fit ({planned:.2f} GiB planned); {way}"
