"""One batch after the other: gradients, the guard's decision, the update, the record.

Where a policy wants a step's loss and norm before its update, they are read then, and the host waits for the device.
Else the update is made at once, on the condition that both are finite, which the device itself looks at. The values are
read when the passes of the next batch have been asked for, so that the device is never idle; before the next update, so
that a step that turns out not finite is computed again from the very weights it had, as if it had been read at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

from trainer.config import Config
from trainer.data import Examples, StepBatch, describe, tokens_by_source
from trainer.training.diagnostics import Diagnostics
from trainer.training.engine import Engine
from trainer.training.faults.anomalies import Anomaly
from trainer.training.faults.guard import Decision, Gradients, Guard
from trainer.training.hooks import Hook, StepResult
from trainer.training.lr_schedule import expected_steps
from trainer.training.state import Agreement, Outcome, TrainState
from trainer.training.step_metrics import StepMetrics
from trainer.training.step_settings import StepSettings, scheduled, step_settings
from trainer.training.step_values import StepValues, reasons_to_wait
from trainer.utils.outcomes import Status


@dataclass
class Update:
    """An update that was made, on the condition that its values are finite where they are not read yet."""

    batch: StepBatch
    agreed: Agreement
    step: int  # updates so far, this one included
    values: StepValues
    settings: StepSettings
    memory_peak_bytes: int
    forward_seconds: Callable[[], float]


class Run(Protocol):
    """What is used of the Trainer."""

    config: Config
    engine: Engine
    guard: Guard
    diagnostics: Diagnostics
    metrics: StepMetrics
    hooks: list[Hook]
    state: TrainState
    total: int | None

    @property
    def samples(self) -> Examples: ...

    def roll_back(self, batch: int) -> None: ...


class Stepping:
    """Trains on batches. All methods are collective: every rank calls them alike."""

    def __init__(self, run: Run, phase: Callable[[str], None]) -> None:
        """phase: told of what begins."""
        self.run, self.engine, self.guard, self.phase = run, run.engine, run.guard, phase
        self.reasons = reasons_to_wait(run.config)
        self.late = run.engine.device.type != "cpu" and not self.reasons  # on a CPU everything is there at once
        self.trained: int | None = None  # the batch of the newest update
        self._unread: Update | None = None  # the newest update, while its values are not read

    def tell(self) -> None:
        """Once: which policies make every step wait, where waiting costs something."""
        if self.reasons and self.engine.device.type != "cpu":
            text = f"every step waits for its loss and gradient norm: {'; '.join(self.reasons)}"
            self.run.metrics.event("waits", self.run.state.step, text, reasons=self.reasons)

    def train(self, batch: StepBatch, agreed: Agreement) -> Outcome | None:
        """One update by this batch, or none where the guard says so; an outcome where the run ends here."""
        state = self.run.state
        if not self.late or self.run.diagnostics.measures(state.step + 1):
            if (outcome := self.settle()) is not None:
                return outcome
            return self._decide_and_update(batch, agreed)
        values = self._compute(batch, agreed)
        if self._unread is not None:
            again, outcome = self._read_late(discard=self.engine.skip_update)
            if outcome is not None:
                return outcome
            if again:  # other weights than those that the gradients were of, which are gone
                return self.train(batch, agreed)
        self._unread = self._update(batch, agreed, values, on_condition=True)
        return None

    def settle(self) -> Outcome | None:
        """Read what is not read yet, and write its record; an outcome where the run ends here. Afterwards
        `state.step` and `trained` stand for good."""
        return None if self._unread is None else self._read_late(discard=lambda: None)[1]

    @contextmanager
    def recording_when_broken(self) -> Iterator[None]:
        """Where the run breaks, the newest step has its record all the same. Not collective."""
        try:
            yield
        except BaseException:
            if (update := self._unread) is not None:
                with suppress(Exception):  # a device that is gone says nothing
                    found = update.values.read()
                    if self.guard.judge(found, lambda *_: None) is None:
                        self.run.metrics.step_ended(self._result(update, found))
            raise

    # --- the parts of a step ---

    def _compute(self, batch: StepBatch, agreed: Agreement) -> StepValues:
        """Gradients of the batch, in the engine, and their values, on the way."""
        run = self.run
        self.phase("forward_backward")
        run.diagnostics.gradients_begin(run.state.step)
        loss_sum, side_sums = self.engine.forward_backward(batch.micro_batches, agreed.targets)
        norm = self.engine.norm()
        return StepValues(self.engine.world, agreed.targets, loss_sum, norm, side_sums, run.diagnostics.source)

    def _decide_and_update(self, batch: StepBatch, agreed: Agreement) -> Outcome | None:
        """Read the values before the update is made."""
        values: list[StepValues] = []

        def compute() -> Gradients:
            values.append(self._compute(batch, agreed))
            return values[-1].read()

        found, decision = self.guard.decide(
            compute, self.engine.skip_update, self._report(batch), warming_up=self._settings(agreed).warming_up
        )
        if decision != "update":
            return self._without_update(batch, decision)
        self._record_step(self._update(batch, agreed, values[-1], on_condition=False), found)
        return None

    def _read_late(self, discard: Callable[[], None]) -> tuple[bool, Outcome | None]:
        """Read the newest update's values: whether weights or gradients are others than they were before, and an
        outcome where the run ends here. discard: throws away the gradients that the engine holds."""
        update = self._unread
        assert update is not None
        found, state = update.values.read(), self.run.state
        self._unread = None  # not before: what breaks the run while it waits must not take the record along
        report = self._report(update.batch, update.step - 1)
        anomaly = self.guard.judge(found, report, warming_up=update.settings.warming_up)
        if anomaly is None:
            self._record_step(update, found)
            return False, None
        discard()
        state.step, self.trained = update.step - 1, None  # the device has left it out
        return True, self._again(update, anomaly, report)

    def _again(self, update: Update, anomaly: Anomaly, report: Callable[[str, str], None]) -> Outcome | None:
        """Compute once more what the device has left out."""
        batch, agreed, values = update.batch, update.agreed, []

        def compute() -> Gradients:
            values.append(self._compute(batch, agreed))
            return values[-1].read()

        found, decision = self.guard.compute_again(
            anomaly, compute, self.engine.skip_update, report, warming_up=update.settings.warming_up
        )
        if decision != "update":
            return self._without_update(batch, decision)
        self._record_step(self._update(batch, agreed, values[-1], on_condition=False), found)
        return None

    def _without_update(self, batch: StepBatch, decision: Decision) -> Outcome | None:
        if decision == "stop":
            return Outcome(Status.HALTED, self.run.state.step, self.guard.reason)
        if decision == "skip":
            self.guard.skip(batch.step)
        else:
            self.run.roll_back(batch.step)
        return None

    def _settings(self, agreed: Agreement) -> StepSettings:
        """Of the next update, in a run of so many steps as are known, else expected by what is used up."""
        run = self.run
        return step_settings(run.config, run.state.step, run.total or expected_steps(run.state.step, agreed.used))

    def _update(self, batch: StepBatch, agreed: Agreement, values: StepValues, *, on_condition: bool) -> Update:
        """One update of the weights with the gradients that the engine holds."""
        run, state = self.run, self.run.state
        self.phase("optimizer")
        settings = self._settings(agreed)
        run.diagnostics.update_begins(state.step + 1)
        condition: dict[str, Any] = {"unless": values.nonfinite} if on_condition else {}
        self.engine.update(settings.lr, settings.weight_decay, settings.momentum, **condition)
        state.step, self.trained = state.step + 1, batch.step
        memory, clock = self.engine.memory_peak_bytes(), self.engine.forward_clock()
        return Update(batch, agreed, state.step, values, settings, memory, clock)

    def _record_step(self, update: Update, found: Gradients) -> None:
        """What follows an update that stands, before the next one."""
        run, batch = self.run, update.batch
        self.engine.averages.take(update.step, run.config.curriculum.stretch(batch.step).tokens_per_step)
        self.phase("other")
        result = self._result(update, found)
        for hook in run.hooks:
            hook.step_ended(result)
        if batch.step + 1 == run.config.curriculum.stage(batch.step).last or update.step == run.total:
            usage = run.samples.usage(run.config.curriculum.samples(batch.step + 1))
            run.metrics.event("read", update.step, describe(usage), readings=[asdict(part) for part in usage])

    def _result(self, update: Update, found: Gradients) -> StepResult:
        run, batch, step, targets = self.run, update.batch, update.step, update.agreed.targets
        measured = run.diagnostics.measures(step)
        return StepResult(
            step=step,
            targets=targets,
            loss=found.loss,
            grad_norm=found.norm,
            lr=update.settings.lr,
            memory_peak_bytes=update.memory_peak_bytes,
            sums=found.sums,
            sources=tokens_by_source(run.samples.usage(run.config.curriculum.samples(batch.step + 1))),
            padding=update.agreed.padding,
            alone_seconds=batch.seconds_waited + update.forward_seconds(),
            gradient_noise=run.diagnostics.noise_record(step, targets, found.norm) if measured else {},
            updates=run.diagnostics.updates_record() if measured else {},
            trained=self.guard.trained(step),
            scheduled=scheduled(run.config, update.settings, batch.step),
            experts=self.engine.expert_loads.record(found.sums, targets),
        )

    def _report(self, batch: StepBatch, step: int | None = None) -> Callable[[str, str], None]:
        """Writes a line about the batch into the logbook."""
        run = self.run
        return partial(run.metrics.event_of_batch, run.samples, batch.step, run.state.step if step is None else step)
