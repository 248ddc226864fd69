"""The clocks and counters of one attempt at a run; they write its records."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from trainer.books import flops
from trainer.books.budget import price_of
from trainer.books.costs import intensity_over
from trainer.books.curve import curve_of
from trainer.books.machine import known_machine
from trainer.books.quantity import Quantity
from trainer.books.records import STEP_PHASES
from trainer.books.second_plan import STEPS, second_plan
from trainer.config import Config, Curriculum, StepShape
from trainer.config.host import precision
from trainer.data import Examples
from trainer.meter import Meter, gpu_of
from trainer.meter.host_load import Waiting
from trainer.run_folder import RunFolder
from trainer.trackers import Trackers
from trainer.trackers.jsonl import append_event
from trainer.trackers.records import EvaluationRecord, Event, StepRecord, answers_written
from trainer.training.budget_tracker import BudgetTracker
from trainer.training.distributed import World
from trainer.training.faults.reporting import cause_of
from trainer.training.hooks import Hook, StepResult
from trainer.utils.files import write_atomic


def tokens_of(curriculum: Curriculum, trained: Sequence[tuple[int, int]]) -> int:
    """Tokens of these ranges of batches."""
    return sum(curriculum.tokens(last) - curriculum.tokens(first) for first, last in trained)


class StepMetrics(Hook):
    """Hears of phases as they begin and of steps as they end; writes step records, evaluations and the logbook."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        world: World,
        trackers: Trackers,
        attempt: int,
        step: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`step` is the number of steps that were finished before this attempt."""
        self.config, self.world, self.trackers, self.attempt = config, world, trackers, attempt
        self.run, self._folder = folder.path, folder
        self.curriculum = config.curriculum
        self.flop_per_step = {shape: flops(config.at_shape(shape)).per_step for shape in self.curriculum.shapes}
        peak = known_machine(config).config.machine.peak_flops.get(precision(config))
        self.peak = peak * world.size if peak is not None else None
        self.meter = Meter(
            config,
            folder.path,
            rank=world.rank,
            local_rank=world.local_rank,
            world_size=world.size,
            attempt=attempt,
            step=step,
            gpu=gpu_of(world.device),
        )
        self.waiting = Waiting()
        self.curve = curve_of(config.site)
        self._clock = clock
        self.began = self._mark = clock()
        self._phase = "start"
        self._seconds: dict[str, float] = {}
        self._first_steps: list[tuple[StepShape, float]] = []  # of this attempt, until there is a second plan
        self._paused = 0.0  # seconds of this attempt outside of launch.window
        self._suspended = 0.0
        self._budget_tracker = (
            BudgetTracker(config, folder.path, world.size) if config.budget.measured and world.is_first else None
        )
        self.meter.start()

    def phase(self, name: str, step: int = 0) -> None:
        """From now on time and energy belong to `name`; a phase ends where the next one begins, so that together they
        are the time of the attempt."""
        self._advance()
        self._phase = name
        self.meter.phase(name)

    def _advance(self) -> None:
        """Book the time until now; what the process was stopped is idle, in whatever phase that was."""
        now, suspended = self._clock(), self.meter.suspension.seconds()
        passed, stopped = now - self._mark, suspended - self._suspended
        stopped = min(stopped, passed)
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + passed - stopped
        self._paused += passed - stopped if self._phase == "paused" else 0.0
        if stopped:
            self._seconds["idle"] = self._seconds.get("idle", 0.0) + stopped
        self._mark, self._suspended = now, suspended

    def _take_seconds(self) -> dict[str, float]:
        """By phase, since they were last taken."""
        self._advance()
        seconds, self._seconds = self._seconds, {}
        return seconds

    def step_ended(self, result: StepResult) -> None:
        self.step(
            result.step,
            result.targets,
            result.loss,
            result.grad_norm,
            result.lr,
            result.memory_peak_bytes,
            dict(result.sums),
            dict(result.sources),
            result.padding,
            dict(result.gradient_noise),
            dict(result.updates),
            result.trained,
            dict(result.scheduled),
            dict(result.experts),
        )

    def evaluated(self, record: EvaluationRecord) -> None:
        self.trackers.evaluation(record)

    def step(
        self,
        step: int,
        targets: float,
        loss: float,
        grad_norm: float,
        lr: float,
        memory: int,
        sums: dict[str, float],
        sources: dict[str, int],
        padding: float = 0.0,
        gradient_noise: dict[str, Any] | None = None,
        updates: dict[str, Any] | None = None,
        trained: Sequence[tuple[int, int]] | None = None,
        scheduled: dict[str, float] | None = None,
        experts: dict[str, float] | None = None,
    ) -> None:
        """Write the record of the step that just ended; phases outside of steps since the last record are in it too."""
        seconds = self._take_seconds()
        duration = sum(seconds.get(name, 0.0) for name in STEP_PHASES)
        trained = [(0, step)] if trained is None else trained
        this, curriculum = self.curriculum.stretch(trained[-1][1] - 1), self.curriculum
        self._plan_again(this.shape, duration)
        rate = self.flop_per_step[this.shape] / duration
        shapes = [count for first, last in trained for count in curriculum.steps_by_shape(first, last).items()]
        self.trackers.step(
            StepRecord(
                step=step,
                samples=sum(curriculum.samples(last) - curriculum.samples(first) for first, last in trained),
                tokens=tokens_of(curriculum, trained),
                targets=int(targets),
                flop=sum(steps * self.flop_per_step[shape] for shape, steps in shapes),
                loss=loss,
                grad_norm=grad_norm,
                lr=lr,
                tokens_per_second=this.tokens_per_step / duration,
                flop_per_second=rate,
                mfu=None if self.peak is None else rate / self.peak,
                peak_flop_per_second=self.peak,
                memory_peak_bytes=memory,
                seconds=seconds,
                wall_seconds=self._mark - self.began,
                attempt=self.attempt,
                sources=sources,
                sums=sums,
                joules=(joules := self.meter.read(step)),
                price=price_of(self.config, joules, self._intensity()),
                budget=self.budget(),
                padding=padding,
                waiting=self.waiting.share(),
                gradient_noise=gradient_noise or {},
                updates=updates or {},
                scheduled=scheduled or {},
                experts=experts or {},
                policy=answers_written(sums, targets),
            )
        )

    def _plan_again(self, shape: StepShape, seconds: float) -> None:
        """Write the second plan once so many steps were measured; a disk that takes none leaves the run as it is."""
        if not self.world.is_first or len(self._first_steps) == STEPS:
            return
        self._first_steps.append((shape, seconds))
        if len(self._first_steps) == STEPS:
            tag = second_plan(self.config, self._first_steps)
            with contextlib.suppress(OSError):
                write_atomic(self._folder.second_plan, json.dumps(tag.to_json(), indent=1))

    def budget(self) -> dict[str, float]:
        """Share of every measured budget that is used up, all attempts counted; on ranks other than the first: none."""
        if self._budget_tracker is None:
            return {}
        taken = self._clock() - self.began
        return self._budget_tracker.used(taken, self.meter.joules, self._intensity(), self._paused)

    def _intensity(self) -> Quantity | None:
        """g CO2e per kWh over the hours of the run so far, where the site has a curve."""
        return None if self.curve is None else intensity_over(self.curve, self.meter.timeline)

    def event(self, name: str, step: int, text: str, **data: Any) -> None:
        """A line of the logbook."""
        self.trackers.event(Event(name, time.time(), step, text, data, self.attempt))

    def event_of_batch(self, examples: Examples, batch: int, step: int, name: str, text: str) -> None:
        """A line of the logbook about a batch, and about where its samples begin: document, and tokens into it."""
        if self.world.is_first:
            first, last = self.curriculum.batch(batch)
            where = examples.where(first, last)
            shown = ""
            if self.config.task.kind is None:  # else records were read, which that verb does not show
                shown = ": " + self._folder.command("data", "show", str(self.run), f"step={batch}")
            text = f"{text} (batch {batch}{shown})"
            self.event(name, step, text, batch=batch, first_sample=first, documents=where)

    @contextlib.contextmanager
    def reporting_errors(self, step: Callable[[], int]) -> Iterator[None]:
        """What breaks this attempt has a line of the logbook, by the first rank and by any that broke by itself."""
        try:
            yield
        except KeyboardInterrupt:  # whoever interrupts says so
            raise
        except BaseException as error:
            self._lost(step(), error)
            raise

    def _lost(self, step: int, error: BaseException) -> None:
        rank = self.world.rank
        text, from_peer = cause_of(rank, error)
        event = Event("lost", time.time(), step, text, {"rank": rank}, self.attempt)
        if self.world.is_first:
            self.trackers.event(event)
        elif not from_peer:
            append_event(self.run, event)

    def closed(self, status: str, step: int, text: str) -> None:
        """The last line of the logbook, with the time since the last step's record: an evaluation, a checkpoint."""
        seconds = self._take_seconds()
        self.event(status, step, text, status=status, seconds=seconds, wall_seconds=self._mark - self.began)
        self.meter.close()
