"""The numbers of records under the names that people expect of a tracker, and which of them are logged."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import groupby
from typing import Any, TypeVar

from trainer.books import flops, parameters
from trainer.books.costs import JOULES_PER_KWH
from trainer.books.run_length import run_tokens
from trainer.config import Config
from trainer.trackers.jsonl import read_metrics, read_samples
from trainer.trackers.records import EvaluationRecord, StepRecord, TextSample
from trainer.trackers.scores import flat
from trainer.trackers.tracker import RunContext, due

GIB = 2**30
LOSS, HELD_OUT = "train/loss", "val/loss"  # which every step has, and every evaluation
TEXT = "text_samples"  # `samples` is a number, of sequences

# The axes people compare runs over, beside the step: what was read, and what it cost.
AXES = ("samples", "tokens", "flop", "kwh", "gco2e")

Logged = tuple[int, dict[str, float], list[float]]  # a step, its metrics, its update ratios
Record = TypeVar("Record", StepRecord, EvaluationRecord, TextSample)


class MetricTracker(ABC):
    """Passes on, to `log`, every `tracker.every_steps` steps, the first, the last, those that diagnostics measured,
    the first after a roll-back, and every evaluation."""

    def __init__(self, config: Config) -> None:
        self._config = config.tracker
        self._places: dict[str, float] = {}  # of the last step on every axis, for the evaluation that follows it
        self._newest = 0  # step of the last record

    def start(self, context: RunContext) -> None:
        self._context = context

    def step(self, record: StepRecord) -> None:
        metrics = step_metrics(record) | cost_metrics(record, self._context.config)
        self._places = {axis: metrics[axis] for axis in AXES if axis in metrics}
        measured = record.gradient_noise or record.updates  # at intervals of their own
        again, self._newest = record.step <= self._newest, record.step
        if measured or again or due(record.step, self._config.every_steps, self._context):
            self.log(record.step, metrics, update_ratios(record))

    def evaluation(self, record: EvaluationRecord) -> None:
        self.log(record.step, self._places | evaluation_metrics(record), [])

    def missed(self, first_step: int, first_evaluation: int) -> Iterator[Logged]:
        """What earlier attempts recorded from these steps on, up to the checkpoint that this one goes on from: a
        process that is killed takes with it what its trackers had not logged yet."""
        last = self._context.resumed_from
        if first_step > last and first_evaluation > last:
            return
        places: dict[str, float] = {}
        for plain in read_metrics(self._context.run):
            if plain.get("kind") == "evaluation":
                found = of_json(EvaluationRecord, plain)
                if found is not None and first_evaluation <= found.step <= last:
                    yield found.step, places | evaluation_metrics(found), []
                continue
            record = of_json(StepRecord, plain)
            if record is None or record.step > last:
                continue
            step = record.step
            metrics = step_metrics(record) | cost_metrics(record, self._context.config)
            places = {axis: metrics[axis] for axis in AXES if axis in metrics}
            wanted = step == 1 or step % self._config.every_steps == 0 or record.gradient_noise or record.updates
            if step >= first_step and wanted:
                yield step, metrics, update_ratios(record)

    def missed_samples(self, first_step: int) -> Iterator[tuple[int, list[TextSample]]]:
        """What the model wrote in earlier attempts from a step on, up to that checkpoint, step by step."""
        made = (of_json(TextSample, plain) for plain in read_samples(self._context.run))
        stand = [one for one in made if one is not None and first_step <= one.step <= self._context.resumed_from]
        for step, some in groupby(stand, key=lambda one: one.step):
            yield step, list(some)

    @abstractmethod
    def log(self, step: int, metrics: dict[str, float], ratios: list[float]) -> None:
        """ratios: relative sizes of the updates of the model's parts; empty where they were not measured."""


def of_json(kind: type[Record], plain: Mapping[str, Any]) -> Record | None:
    """The record that a line of a file holds, a number that is null there as NaN; None where it holds none."""
    known = {one.name: plain[one.name] for one in fields(kind) if one.name in plain}
    lost = {one.name: math.nan for one in fields(kind) if one.type == "float" and known.get(one.name, 0) is None}
    try:
        return kind(**{**known, **lost}) if isinstance(known["step"], int) else None
    except (KeyError, TypeError):
        return None


def step_metrics(record: StepRecord) -> dict[str, float]:
    """A StepRecord under the names that people expect; what is not known has no entry."""
    metrics: dict[str, float | None] = {
        "samples": record.samples,
        "tokens": record.tokens,
        "flop": record.flop,
        LOSS: record.loss,
        "optim/lr": record.lr,
        "optim/grad_norm": record.grad_norm,
        "throughput/tokens_per_second": record.tokens_per_second,
        "throughput/padding": record.padding,
        "throughput/waiting_for_cores": record.waiting,
        "throughput/flop_per_second": record.flop_per_second,
        "perf/mfu": record.mfu,
        "memory/peak_gib": record.memory_peak_bytes / GIB,
        "time/step_seconds": sum(record.seconds.values()),
        "time/wall_seconds": record.wall_seconds,
    }
    metrics |= {f"time/{phase}_seconds": seconds for phase, seconds in record.seconds.items()}
    metrics |= {f"train/{name}": value for name, value in record.sums.items()}
    metrics |= {f"optim/{name}": value for name, value in record.scheduled.items()}
    metrics |= {f"experts/{name}": value for name, value in record.experts.items()}
    metrics |= {f"policy/{name}": value for name, value in record.policy.items()}
    metrics |= {f"data/{name}_tokens": tokens for name, tokens in record.sources.items()}
    metrics |= {
        f"gradient_noise/{name}": value for name, value in record.gradient_noise.items() if not isinstance(value, str)
    }
    for part, figures in record.updates.items():
        metrics |= {f"updates/{part}/{name}": value for name, value in figures.items()}
    metrics |= {f"energy/{part}_kwh": j / JOULES_PER_KWH for part, j in record.joules.items() if j is not None}
    return {name: value for name, value in metrics.items() if value is not None}


def cost_metrics(record: StepRecord, config: Config) -> dict[str, float]:
    """What the run has cost so far: the axes kwh (with the PUE where one is stated) and gco2e, and their sections."""
    axes = {"kwh": "energy/kwh", "gco2e": "carbon/gco2e"}
    price = {name: value for name, value in record.price.items() if value is not None}
    costs = {name: price[name] for name in axes if name in price}
    costs |= {axes[name]: value for name, value in costs.items()}
    if "money" in price:
        costs[f"cost/{config.site.currency}"] = price["money"]
    return costs


def evaluation_metrics(record: EvaluationRecord) -> dict[str, float]:
    """An EvaluationRecord under such names."""
    metrics: dict[str, float | None] = {
        "tokens": record.tokens,
        HELD_OUT: record.loss,
        "val/bits_per_byte": record.bits_per_byte,
        "val/unigram_bits_per_byte": record.unigram_bits_per_byte,
        "val/unigram_loss": record.unigram_loss,
        "time/evaluation_seconds": record.seconds,
    }
    metrics |= {f"val/loss_{name}": loss for name, loss in record.averages.items()}
    metrics |= flat(record.scores)
    return {name: value for name, value in metrics.items() if value is not None}


def update_ratios(record: StepRecord) -> list[float]:
    """Of each part of the model whose update was measured (`debug.updates_every`): RMS of the update over RMS of the
    weights; [] where none was."""
    return [one["ratio"] for one in record.updates.values() if one.get("ratio") is not None]


def facts(context: RunContext) -> dict[str, Any]:
    """What a tracker should know of an attempt beside its configuration; what is not known is None."""
    config = context.config
    return {
        "science_hash": config.science_hash(),
        "parameters": context.parameters,
        "parameters_without_embeddings": parameters(config).non_embedding,
        "planned_tokens": run_tokens(config),
        "planned_flop": flops(config).total,
        "total_steps": context.total_steps,
        "world_size": context.world_size,
    }
