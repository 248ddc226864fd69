"""One run, from the first sample to the last checkpoint. Read it from top to bottom."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial

import torch

from trainer.books import memory, parameters
from trainer.books.branch import branch_line, read_branch
from trainer.books.continued import initial_line, read_lineage
from trainer.books.fitting import largest_step, too_large
from trainer.books.layout import checkpoint_bytes, micro_batch
from trainer.books.run_length import known_steps
from trainer.config import Config
from trainer.config.host import precision
from trainer.data import StepBatch, StepLoader
from trainer.models import NOT_A_TARGET
from trainer.run_folder import RunFolder
from trainer.trackers import RunContext, make_trackers
from trainer.training.asking import Evaluations, measured_at
from trainer.training.branch import begin_branch, newest_checkpoint
from trainer.training.checkpoint import Checkpoint, remove_leftovers
from trainer.training.checkpoint_manager import CheckpointManager
from trainer.training.completion import completed, completer_of
from trainer.training.dataset import examples, fingerprints, prepare
from trainer.training.diagnostics import Diagnostics
from trainer.training.distributed import World
from trainer.training.engine import Engine
from trainer.training.faults.damaged_data import DataWatch
from trainer.training.faults.deadline import Deadline, guessed_seconds
from trainer.training.faults.guard import Guard
from trainer.training.faults.pausing import Pauses
from trainer.training.faults.signals import StopRequest
from trainer.training.faults.stragglers import Stragglers
from trainer.training.faults.watchdog import Watchdog
from trainer.training.hooks import Hook, hooks_of
from trainer.training.host_notes import host_notes
from trainer.training.initial_weights import known_weights
from trainer.training.numerics import numerics_of_attempt
from trainer.training.plugin_sources import plugins_of_attempt
from trainer.training.sampling import Sampling
from trainer.training.state import Agreement, Outcome, TrainState
from trainer.training.step_metrics import StepMetrics, tokens_of
from trainer.training.stepping import Stepping
from trainer.utils.errors import UserError
from trainer.utils.files import FULL
from trainer.utils.outcomes import Status


def train(config: Config, folder: RunFolder, world: World, stop: StopRequest, hooks: Sequence[Hook] = ()) -> Outcome:
    """Train until the budget is used up or a stop is asked for. Every rank of the run calls this."""
    trainer = Trainer(config, folder, world, stop)
    trainer.hooks += hooks
    return trainer.run()


class Trainer:
    """One attempt at a run. All methods are collective: every rank calls them alike.

    What only observes is in `hooks`, a list that may be added to before `run`; the guard, the deadline and the data
    watch also decide, and are called by name.
    """

    def __init__(self, config: Config, folder: RunFolder, world: World, stop: StopRequest) -> None:
        self.config, self.folder, self.world, self.stop = config, folder, world, stop
        self.curriculum = config.curriculum
        self.attempt = world.broadcast(folder.attempts())
        self.total = known_steps(config)  # null: until a measured budget is used up
        self.prepared = prepare(config)
        self.data_watch = DataWatch(self.prepared, world, folder.path)
        if world.is_first:
            remove_leftovers(folder.checkpoints)
            shutil.copyfile(self.prepared.tokenizer_file, folder.tokenizer)
        checkpoint, damage = self._setup_model()
        begin_branch(config, folder, checkpoint, self.prepared.fingerprint, world)
        self._setup_data()
        stop.begin()
        if world.is_first:
            folder.remove_report()
        self._setup_metrics(checkpoint, damage)
        self._setup_hooks(checkpoint)
        self._dry_run()

    # --- setup ---

    def _setup_model(self) -> tuple[Checkpoint | None, list[str]]:
        """The model, where the last attempt or the run that it begins from left it; returns the checkpoint that it
        goes on from and a line for each later one that is corrupt."""
        checkpoint, damage = newest_checkpoint(self.config, self.folder, self.world)
        known = known_weights(self.config, self.folder, beginning=checkpoint is None)
        self.engine = Engine(self.config, self.world, known)
        self.state = TrainState()
        self.begun: list[str] = []  # averages that the checkpoint has nothing of
        if checkpoint is not None:
            self.begun = self.engine.load(checkpoint.step, checkpoint.reader(), checkpoint.manifest.get("averages", {}))
            measured = measured_at(self.folder.path, checkpoint.step, self.world)
            self.state = TrainState(checkpoint.step, checkpoint.manifest["best"], *measured)
        return checkpoint, damage

    def _setup_data(self) -> None:
        """The data: a function of the step."""
        self.samples = examples(self.prepared, self.config, "train")
        self.completer = completer_of(self.config, self.engine, self.prepared)
        self.evaluations = Evaluations(self.config, self.folder.path, self.prepared, self.engine, self.completer)
        self.loader = StepLoader(
            self.samples,
            curriculum=self.curriculum,
            micro_batch=partial(micro_batch, self.config),
            rank=self.engine.sharing.data_rank,
            world_size=self.engine.sharing.data_ranks,
            numbered=self.config.model.drops,
        )

    def _setup_metrics(self, checkpoint: Checkpoint | None, damage: list[str]) -> None:
        """Trackers, step records, and the first lines of this attempt in the logbook."""
        config, folder, world, step, attempt = self.config, self.folder, self.world, self.state.step, self.attempt
        self.trackers = make_trackers(config, folder.path, rank=world.rank, resumed_from=step)
        self.sampling = Sampling(config, folder.path, self.prepared, self.engine, self.trackers)
        count = parameters(config).total
        notes, busy = host_notes(world)
        notes += tuple(self.engine.notes)
        self.trackers.start(RunContext(config, folder.path, self.total, count, world.size, step, attempt, notes))
        self.metrics = StepMetrics(config, folder, world, self.trackers, attempt, step)
        if world.is_first and folder.ended_in_silence():
            lost = f"attempt {attempt - 1} ended without a word, as after kill -9 or a loss of power"
            self.metrics.event("lost", step, lost)
        for line in damage:
            self.metrics.event("damage", step, line)
        where = f"on {world.size} rank(s) at ZeRO {self.engine.stage} in {precision(config)}"
        if attempt == 0:
            shape = f"{self.total or 'as many'} steps of {self.curriculum.text} tokens"
            self.metrics.event("start", 0, f"start: {shape} {where}")
            if (lineage := read_lineage(folder.path)) is not None:
                self.metrics.event("init", 0, initial_line(lineage), lineage=lineage)
            if (branch := read_branch(folder.path)) is not None:
                self.metrics.event("branch", step, branch_line(branch), branch=branch)
        else:
            place = checkpoint.folder.name if checkpoint else "the beginning"
            self.metrics.event("resume", step, f"going on from {place} {where}")
            self._tell_begun()
        if world.is_first:
            numerics = numerics_of_attempt(config, folder, attempt, step, self.metrics.event)
            host = {"world_size": world.size, "zero_stage": self.engine.stage, "device": str(world.device)}
            plugins = plugins_of_attempt(config, folder, step, self.metrics.event)
            said = {"numerics": numerics, **fingerprints(self.prepared), "runnable": busy, **plugins}
            folder.write_environment(attempt, host | said)

    def _tell_begun(self) -> None:
        if self.begun:
            text = f"averages that the checkpoint has not begin with its weights: {', '.join(self.begun)}"
            self.metrics.event("averages", self.state.step, text, begun=self.begun)

    def _setup_hooks(self, checkpoint: Checkpoint | None) -> None:
        config, world, step, manifest = self.config, self.world, self.state.step, checkpoint and checkpoint.manifest
        self.guard = Guard(config.anomalies, manifest.get("guard", {}) if manifest else {})
        self.checkpoints = CheckpointManager(
            config.checkpoint,
            self.engine,
            world,
            self.folder.checkpoints,
            self.metrics,
            step if checkpoint else None,
            self._saved,
        )
        self.diagnostics = Diagnostics(config, self.engine, world, self.folder.path)
        self.stepping = Stepping(self, self._phase)
        self.pauses = Pauses(config, world)
        self.deadline = Deadline(config.faults.wall_seconds, guessed_seconds(checkpoint_bytes(config)))
        stragglers = Stragglers(config.faults, world, self.metrics.event)
        self.data_watch.begin(step, manifest.get("trusted", 0) if manifest else 0)
        self.watchdog = Watchdog(config, world, self.folder.path, self.attempt, self._progress)
        self.hooks: list[Hook] = [
            self.metrics,
            self.watchdog,
            stragglers,
            self.checkpoints,
            self.deadline,
            self.data_watch,
            *hooks_of(config, self.folder.path),
        ]
        self.stepping.tell()
        if world.device.type != "cpu" and config.engine.compile == "auto":
            on, reason = self.engine.compilation
            text = f"engine.compile=auto: {'compiled' if on else 'not compiled'} ({reason})"
            self.metrics.event("compile", step, text, on=on)

    def _progress(self) -> int:
        """A number that grows as long as this rank does not hang."""
        return self.world.entered + self.engine.passes

    def _dry_run(self) -> None:
        """A step on the largest batch before step 1, whose gradients are thrown away: whether it fits is known now."""
        if not self.config.engine.dry_run:
            return
        largest = largest_step(self.config)
        try:
            drawn = iter(self.loader.step(self.curriculum.first_step(largest)))
            batches = map(self.completer.complete, self.engine.sharing.batches(drawn))
            peak = self.engine.dry_run([*batches])
        except torch.OutOfMemoryError:
            raise UserError(too_large(self.config)) from None
        planned = memory(self.config.at_shape(largest)).total
        text = f"dry run: {peak / 2**30:.2f} GiB at the peak of a step, {planned / 2**30:.2f} GiB planned"
        self.metrics.event("dry_run", self.state.step, text, memory_peak_bytes=peak, planned_bytes=planned)

    def _phase(self, name: str) -> None:
        for hook in self.hooks:
            hook.phase(name, self.state.step)

    def _saved(self, step: int, seconds: float) -> None:
        for hook in self.hooks:
            hook.saved(step, seconds)

    # --- the run ---

    def run(self) -> Outcome:
        """Every step, then the end of the run or of this attempt.

        The iterator over batches goes on through a roll-back, it never starts again: after batch b comes b + 1 on every
        path. An update, a skipped batch and a roll-back all leave `guard.batch(step) == b + 1`; the last, because the
        batches that it skips are all those from the checkpoint's next one to b.
        """
        outcome = None
        self._phase("data")
        drawn = self.loader.steps(self.guard.batch(self.state.step), workers=self.config.engine.data_workers)
        batches = self.engine.sharing.steps(drawn)
        errors = self.metrics.reporting_errors(lambda: self.state.step)
        with contextlib.closing(batches), errors, self.stepping.recording_when_broken():
            while outcome is None and (self.total is None or self.state.step < self.total):
                outcome = self.pause() or self.step(batches)
        return self.finish(outcome or Outcome(Status.FINISHED, self.state.step))

    def step(self, batches: Generator[StepBatch, None, None]) -> Outcome | None:
        """Train on the next batch, or leave it out where the guard says so; an outcome where the run ends here."""
        for hook in self.hooks:
            hook.step_began(self.state.step)
        batch = completed(self.completer, next(batches), self._phase)
        agreed = self._agree(batch)
        if agreed.outcome is not None:
            return self.stepping.settle() or replace(agreed.outcome, step=self.state.step)
        if (outcome := self.stepping.train(batch, agreed)) is not None:
            return outcome
        if self.stepping.trained == batch.step and (outcome := self._now_and_then(batch.step)) is not None:
            return outcome
        self._phase("data")
        return None

    def pause(self) -> Outcome | None:
        """Outside of `launch.window` save, and wait until it opens; an outcome where the run ends here. State and
        batches stay as they are."""
        if not self.pauses.closed():
            return None
        outcome = self.stepping.settle()
        if outcome is not None or self.state.step == self.total:
            return outcome
        step = self.state.step
        if step and self.checkpoints.saved_step != step:
            self.save()
        self.checkpoints.wait()
        self.metrics.event("pause", step, self.pauses.text)
        waited = self.pauses.wait(self._reason_to_stop, partial(self._phase, "paused"))
        if waited.reason_to_stop is not None:
            return Outcome(Status.STOPPED, step, waited.reason_to_stop)
        self.metrics.event("go_on", step, f"going on after {waited.seconds:.0f} s", paused_seconds=waited.seconds)
        self._phase("data")
        return None

    def _agree(self, batch: StepBatch) -> Agreement:
        """One collective at every step boundary."""
        step = self.state.step
        # Exact also when ranks and micro-batches hold different numbers of targets: divide by the global count.
        counted = sum(int((micro["targets"] != NOT_A_TARGET).sum()) for micro in batch.micro_batches)
        reason_to_stop = self._reason_to_stop()
        spent = self.metrics.budget()  # of the first rank, so that all decide alike
        self._phase("idle")  # until the slowest rank has its batch
        asked, most = float(reason_to_stop is not None), max(spent.values(), default=0.0)
        mine = (counted, *batch.padding, asked, most)
        targets, padding, positions, stops, used, *standing = self.world.sum(*mine, *self.data_watch.standing())
        outcome = None
        if self.data_watch.decide(step, standing, self.metrics.event):
            outcome = Outcome(Status.FAILED, step)
        elif stops:
            outcome = Outcome(Status.STOPPED, step, reason_to_stop or "another rank was asked to stop")
        elif used >= 1:
            name = max(spent, key=lambda name: spent[name], default="")
            reason = f"budget.{name}={self.config.budget.measured.get(name)} is used up"
            outcome = Outcome(Status.FINISHED, step, reason)
        return Agreement(targets, padding / max(positions, 1), used, outcome)

    def _reason_to_stop(self) -> str | None:
        """Why this rank is to stop before the end, if it is."""
        return self.stop.signal or self.deadline.reason()

    # --- once in a while ---

    def _now_and_then(self, batch: int) -> Outcome | None:
        """What is due after the update by this batch, which is read first and may not stand; an outcome where the run
        ends here."""
        tokens, last = self.curriculum.stretch(batch).tokens_per_step, self.state.step == self.total
        measures, asks = self.evaluations.due(self.state.step, self._tokens(), tokens, last)
        saves, samples = self.config.checkpoint.at(self.state.step), self.sampling.due(self.state.step, measures)
        if not (measures or saves or samples or last):
            return None
        outcome = self.stepping.settle()
        if outcome is None and self.stepping.trained == batch:
            if measures:
                self.evaluate(asks)
            if samples:
                self.sample()
            if saves:
                self.save()
        return outcome

    def _tokens(self) -> int:
        return tokens_of(self.curriculum, self.guard.trained(self.state.step))

    def evaluate(self, asks: bool = True) -> None:
        """Measure the loss on text that was never trained on, and what else is asked of the model."""
        self._phase("evaluation")
        progress = partial(self.watchdog.phase, "tasks", self.state.step)
        record = self.evaluations.measure(self.state, self.attempt, self._tokens(), asks, progress)
        for hook in self.hooks:
            hook.evaluated(record)

    def sample(self) -> None:
        """Let the model write, where somebody wants to read it."""
        self._phase("evaluation")
        self.sampling.sample(self.state.step, self._tokens(), partial(self.watchdog.phase, "tasks", self.state.step))

    def save(self) -> None:
        """Write a checkpoint, in the background where `checkpoint.asynchronous` says so."""
        self._phase("checkpoint")
        identity = {"science": self.config.science_hash(), "data": self.prepared.fingerprint}
        progress = {"best": self.state.best, "guard": self.guard.state(), "trusted": self.data_watch.trusted()}
        self.checkpoints.save(self.state.step, identity | progress | self.engine.facts())

    def roll_back(self, batch: int) -> None:
        """To the latest checkpoint, leaving out all batches since; only past this batch where there is none."""
        self.checkpoints.wait()
        checkpoint, _ = newest_checkpoint(self.config, self.folder, self.world)
        if checkpoint is None:
            self.guard.skip(batch)
            return
        step = checkpoint.step
        self.begun = self.engine.load(step, checkpoint.reader(), checkpoint.manifest.get("averages", {}))
        self.state = TrainState(step, checkpoint.manifest["best"])
        self.guard.roll_back(step, checkpoint.manifest["guard"], batch)
        first, _ = self.guard.skipped_batches[-1]
        self.metrics.event("rollback", step, f"back at step {step}; batches {first} to {batch} are skipped")
        self._tell_begun()

    # --- the end, or the end of this attempt ---

    def finish(self, outcome: Outcome) -> Outcome:
        """Evaluate and save what is not yet, and close everything; returns how the run ended after that."""
        outcome = self._complete(outcome)
        for hook in reversed(self.hooks):
            hook.closed(outcome.status.value, self.state.step, outcome.text)
        best = {f"best_{name}": value for name, value in self.state.best.items()}
        self.trackers.finish(outcome.status.value, {"step": self.state.step, **best})
        self.engine.close()
        return outcome

    def _complete(self, outcome: Outcome) -> Outcome:
        """The last evaluation, the last checkpoint and the last shards to verify; each may change the outcome."""
        step = self.state.step
        self.checkpoints.wait()
        if outcome.status == Status.FINISHED and self.evaluations.missing(self.state):
            self.evaluate()
            if self.sampling.newest != step:
                self.sample()
        if outcome.status in (Status.FINISHED, Status.STOPPED) and self.checkpoints.saved_step != step:
            self.save()
            self.checkpoints.wait()
        if outcome.status == Status.FINISHED:
            self._phase("idle")
            progress = partial(self.watchdog.phase, "verification", step)
            if reason_to_stop := self.data_watch.wait(step, self._reason_to_stop, self.metrics.event, progress):
                outcome = Outcome(Status.STOPPED, step, reason_to_stop)
        failure = self.checkpoints.failure
        if outcome.status != Status.HALTED and failure is not None:
            reason = f"the last checkpoint could not be written ({failure.strerror})"
            outcome = Outcome(Status.FAILED, step, reason, failure.errno in FULL)
        if self.data_watch.damaged:
            reason = self.data_watch.conclude(step, self.folder.checkpoints, self.metrics.event)
            outcome = Outcome(Status.FAILED, step, reason)
        return outcome
