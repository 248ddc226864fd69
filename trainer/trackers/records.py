"""What the loop tells its trackers: a StepRecord a step, an EvaluationRecord an evaluation, the logbook's Events."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step, summed over all ranks; seconds are those of rank 0."""

    step: int  # number of finished optimizer steps, 1 after the first
    samples: int  # sequences trained on since the run began
    tokens: int  # positions trained on since the run began
    targets: int  # positions of this step that carried loss
    flop: float  # model FLOPs since the run began (forward and backward, no recomputation)
    loss: float  # nats per target
    grad_norm: float
    lr: float
    tokens_per_second: float
    flop_per_second: float  # model FLOP/s over all ranks
    mfu: float | None  # null when the machine's peak is not stated
    peak_flop_per_second: float | None  # MFU's denominator, over all ranks
    memory_peak_bytes: int  # of rank 0: allocator peak on a GPU, resident peak on a CPU
    seconds: dict[str, float]  # by phase (trainer.books.records.STEP_PHASES), and of others since the last record
    wall_seconds: float  # since this attempt began: the sum of all its records' seconds
    attempt: int = 0  # 0 for the first start of the run, 1 after the first resume ...
    sources: dict[str, int] = field(default_factory=dict)  # tokens read of each source since the run began
    sums: dict[str, float] = field(default_factory=dict)  # named side results of the model
    joules: dict[str, float | None] = field(default_factory=dict)  # by component, since the run began
    budget: dict[str, float] = field(default_factory=dict)  # share of every measured budget that is used up
    price: dict[str, float | None] = field(default_factory=dict)  # kwh, gco2e, money since the run began

    def to_json(self) -> dict[str, Any]:
        return {"kind": "step", **asdict(self)}


@dataclass(frozen=True)
class EvaluationRecord:
    """Held-out loss after `step` optimizer steps."""

    step: int
    tokens: int  # trained on so far
    loss: float  # nats per target
    bits_per_byte: float | None  # comparable over tokenizers; null where the loss is no likelihood of the text
    unigram_bits_per_byte: float | None  # baseline: the entropy of the same tokens without context
    targets: int
    seconds: float
    attempt: int = 0
    # of a mixture: name -> loss, targets and bits_per_byte
    sources: dict[str, dict[str, float | None]] = field(default_factory=dict)
    languages: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "evaluation", **asdict(self)}


@dataclass(frozen=True)
class Event:
    """One line of the logbook: start, resume, signal, checkpoint, damage, stop ..."""

    name: str
    time: float  # seconds since the epoch
    step: int
    text: str  # one line for a person
    data: dict[str, Any] = field(default_factory=dict)
    attempt: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
