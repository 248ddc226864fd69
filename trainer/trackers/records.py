"""What the loop tells its trackers: a StepRecord a step, an EvaluationRecord an evaluation, the logbook's Events."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

# Name of an event -> the kind of alert that it is, and its level.
ALERTS = {
    "spike": ("spike", "WARN"),
    "nonfinite": ("spike", "WARN"),
    "rollback": ("spike", "WARN"),
    "halted": ("halt", "ERROR"),
    "failed": ("halt", "ERROR"),
    "lost": ("halt", "ERROR"),
    "finished": ("end", "INFO"),
    "stopped": ("end", "INFO"),
}


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step, summed over all ranks; seconds are those of rank 0."""

    step: int  # number of finished optimizer steps, 1 after the first
    samples: int  # sequences trained on since the run began
    tokens: int  # positions trained on since the run began, padding included
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
    padding: float = 0.0  # share of this step's positions that hold no text
    waiting: float | None = None  # share of their time that rank 0's threads, ready to run, waited for a core
    gradient_noise: dict[str, Any] = field(default_factory=dict)  # of debug.noise_every: noise_scale, its interval ...
    updates: dict[str, Any] = field(default_factory=dict)  # of debug.updates_every: part -> norms and their ratio
    # of what changes along the run beside the rate: batch_size, weight_decay, momentum of this step
    scheduled: dict[str, float] = field(default_factory=dict)
    # of a model with experts: load_entropy, dropped_share, dead_experts, and of the worst layer
    experts: dict[str, float] = field(default_factory=dict)
    # of a policy that learns from rewards: `answers_written` of this step
    policy: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "step", **asdict(self)}


def answers_written(sums: Mapping[str, float], count: float) -> dict[str, float]:
    """What a policy wrote in a step, from the sums over its `count` answers: mean and standard deviation of the reward,
    KL divergence from the reference in nats an answer (an estimate, which may be below 0), entropy in nats a token (by
    the answers' own log-probabilities), tokens of an answer, share that came to an end. Of other models: {}."""
    if "answers_ended" not in sums or not count:
        return {}
    reward = sums["reward"] / count
    return {
        "reward": reward,
        "reward_std": max(sums["reward_squared"] / count - reward * reward, 0.0) ** 0.5,
        "kl": sums["kl"] / count,
        "entropy": sums["surprisal"] / max(sums["answer_tokens"], 1.0),
        "length": sums["answer_tokens"] / count,
        "ended": sums["answers_ended"] / count,
    }


@dataclass(frozen=True)
class EvaluationRecord:
    """Held-out loss after `step` optimizer steps, and what else was asked of the model."""

    step: int
    tokens: int  # trained on so far
    loss: float  # nats per target
    bits_per_byte: float | None  # comparable over tokenizers; null where the loss is no likelihood of the text
    unigram_bits_per_byte: float | None  # baseline: a model without context, over the same targets
    targets: int
    seconds: float
    attempt: int = 0
    unigram_loss: float | None = None  # the same in nats per target; null where the loss has other terms than targets'
    # of a mixture: name -> loss, targets and bits_per_byte
    sources: dict[str, dict[str, float | None]] = field(default_factory=dict)
    languages: dict[str, dict[str, float | None]] = field(default_factory=dict)
    averages: dict[str, float] = field(default_factory=dict)  # loss of each average of the weights, by its name
    # where it was asked for more: name of the evaluation -> what it found; `tasks`: task -> bits_per_byte, accuracy ...
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores_seconds: float = 0.0  # part of `seconds` that it took

    @property
    def below_unigram(self) -> float | None:
        return below_unigram(vars(self))

    def to_json(self) -> dict[str, Any]:
        return {"kind": "evaluation", **asdict(self)}


def below_unigram(record: Mapping[str, Any]) -> float | None:
    """Share by which a held-out loss lies below that of a model without context; null where there is no such yardstick.

    record: of an evaluation. In bits per byte where they are known: records of 0.1.0 have no unigram_loss.
    """
    for name in ("bits_per_byte", "loss"):
        measured, yardstick = record.get(name), record.get(f"unigram_{name}")
        if measured is not None and yardstick:
            return float(1 - measured / yardstick)
    return None


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


@dataclass(frozen=True)
class TextSample:
    """What the model wrote after `step` updates."""

    step: int
    tokens_seen: int  # trained on so far
    prompt: str
    text: str  # what follows the prompt; of a prompt with <mask>s the whole text, filled

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Alert:
    """An event that somebody wants to be called for."""

    kind: str  # spike, halt or end
    level: str  # INFO, WARN or ERROR
    title: str
    text: str
    step: int


def alert_of(event: Event, wanted: Collection[str], run: str) -> Alert | None:
    """The alert that an event comes to, if its kind is wanted. run: its name."""
    kind, level = ALERTS.get(event.name, ("", ""))
    if kind not in wanted:
        return None
    return Alert(kind, level, f"{run}: {event.name}"[:63], f"step {event.step}: {event.text}", event.step)
