"""A calibration file: what this machine really takes per unit of work, fitted to measured steps."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from trainer.books.step_work import Work
from trainer.config import Config
from trainer.config.host import cache_root, fp8, has_accelerator, precision, processor, threads

TERMS = ("product_flop", "score_flop", "activation_bytes", "loss_bytes", "optimizer_bytes", "layers")
FAR = 4.0  # times as large: what was measured of the one says nothing of the other


class Pace(Protocol):
    """What gives times to work: a calibration, a probe of the host, or steps of the run itself."""

    @property
    def source(self) -> str: ...

    def seconds(self, work: Work) -> float: ...

    def bounds(self, seconds: float) -> tuple[float, float | None]:
        """The interval of a time that `seconds` gave."""
        ...


@dataclass(frozen=True)
class OwnModel:
    """The model that a calibration was asked for: a block of it, and what its step took beside what the fit says."""

    product_flop: float  # per layer
    score_flop: float  # per layer
    activation_bytes: float  # per layer
    measured_by_fitted: float

    @staticmethod
    def timed(work: Work, measured_by_fitted: float) -> OwnModel:
        return OwnModel(*_block(work), measured_by_fitted)

    def factor(self, work: Work) -> float:
        """What the fit's time of other work is multiplied by: all of the correction for blocks of this size, in any
        number; none for such that are `FAR` times as large or small in anything; between, by the logarithm."""
        own = (self.product_flop, self.score_flop, self.activation_bytes)
        pairs = [(one, other) for one, other in zip(_block(work), own, strict=True) if one > 0 and other > 0]
        distance = max((abs(math.log(one / other)) for one, other in pairs), default=math.inf)
        return float(self.measured_by_fitted ** max(0.0, 1.0 - distance / math.log(FAR)))


def _block(work: Work) -> tuple[float, float, float]:
    """Products, scores and bytes moved of one layer's pass."""
    layers = max(work.layers, 1)
    return work.product_flop / layers, work.score_flop / layers, work.activation_bytes / layers


@dataclass(frozen=True)
class Calibration:
    """Seconds per FLOP, byte and layer of one device type, precision and number of threads."""

    machine: str
    precision: str
    threads: int
    seconds_per: dict[str, float]  # by the fields of Work
    error: float  # largest relative error over the steps that it was fitted to
    date: str
    steps: tuple[dict[str, Any], ...] = ()  # what was measured and what the fit says
    own: OwnModel | None = None  # where the model was small enough to be timed itself

    def seconds(self, work: Work) -> float:
        fitted = sum(self.seconds_per[name] * getattr(work, name) for name in TERMS)
        return fitted * (self.own.factor(work) if self.own else 1.0)

    def bounds(self, seconds: float) -> tuple[float, float]:
        return seconds * (1 - self.error), seconds * (1 + self.error)

    @property
    def source(self) -> str:
        return f"calibration of {self.machine}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def calibration_file(config: Config, machine: str) -> Path:
    """Where the calibration of a machine is kept: one file a machine, precision, number of threads and of ranks."""
    ranks = f"x{config.launch.processes}" if config.launch.processes > 1 else ""
    plain = "".join(letter if letter.isalnum() else "-" for letter in machine).strip("-")
    return cache_root(config) / "calibration" / f"{plain}-{precision(config)}-{threads(config)}{ranks}.json"


def timed_alike(config: Config) -> bool:
    """Whether ranks, if there are several, are laid out as those that a calibration times: here, by ZeRO's first
    stage, each with whole sequences and experts."""
    launch, engine = config.launch, config.engine
    if launch.ranks == 1:
        return True
    divided = engine.sequence_parallel > 1 or engine.expert_parallel > 1 or engine.offload_optimizer
    return launch.is_here and launch.nodes == 1 and engine.zero_stage in (None, 1) and not divided


def read_calibration(config: Config) -> Calibration | None:
    """The calibration of this host's processor, if it was calibrated and the run is to compute there alone, on as many
    ranks."""
    if config.engine.device == "cuda" or config.machine.name != "unstated" or not timed_alike(config):
        return None
    if fp8(config):  # which is not what was timed
        return None
    if config.engine.device == "auto" and has_accelerator():
        return None
    try:
        data = json.loads(calibration_file(config, processor()).read_text())
        data["steps"] = tuple(data.get("steps", ()))
        data["own"] = OwnModel(**data["own"]) if data.get("own") else None
        found = Calibration(**data)
        return found if set(found.seconds_per) >= set(TERMS) else None
    except (OSError, ValueError, TypeError, AttributeError, KeyError):  # none, or damaged
        return None
