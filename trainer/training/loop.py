"""One run, from the first sample to the last checkpoint. Read it from top to bottom."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from trainer.books import parameters
from trainer.books.layout import micro_batch
from trainer.books.run_length import known_steps
from trainer.config import Config
from trainer.config.host import precision
from trainer.data import Examples, StepBatch, StepLoader, describe, tokens_by_source
from trainer.models import NOT_A_TARGET
from trainer.run_folder import RunFolder
from trainer.trackers import RunContext, make_trackers
from trainer.trackers.records import EvaluationRecord
from trainer.training.checkpoint import newest_intact, remove_leftovers
from trainer.training.checkpoint_manager import Saver
from trainer.training.dataset import Source, examples, prepare
from trainer.training.distributed import World
from trainer.training.engine import Engine
from trainer.training.faults.damaged_data import DataWatch
from trainer.training.faults.deadline import Deadline, guessed_seconds
from trainer.training.faults.guard import Gradients, Guard
from trainer.training.faults.signals import StopRequest
from trainer.training.faults.stragglers import Stragglers
from trainer.training.faults.watchdog import Watchdog
from trainer.training.held_out_loss import accounts, parts
from trainer.training.initial_weights import parent_weights
from trainer.training.lr_schedule import expected_steps, learning_rate
from trainer.training.numerics import numerics_of_attempt
from trainer.training.step_metrics import Bookkeeper


@dataclass(frozen=True)
class Outcome:
    """How the run ended."""

    status: str  # finished, stopped, failed; halted: a policy found that going on is useless
    step: int
    reason: str = ""

    @property
    def text(self) -> str:
        return f"{self.status}: {self.reason}" if self.reason else self.status


def train(config: Config, folder: RunFolder, world: World, stop: StopRequest) -> Outcome:
    """Train until the budget is used up or somebody asks to stop. Every rank of the run calls this."""
    attempt = world.broadcast(folder.attempts())
    prepared = prepare(config)
    data_watch = DataWatch(prepared, world, folder.path)
    if world.is_first:
        remove_leftovers(folder.checkpoints)
        shutil.copyfile(prepared.tokenizer_file, folder.tokenizer)

    # The model, and where the last attempt, or the run that it is tuned from, left it.
    checkpoint, damage = newest_intact(folder.checkpoints, world)
    engine = Engine(config, world, parent_weights(config, beginning=checkpoint is None))
    first_step = 0
    best: dict[str, Any] = {}
    if checkpoint is not None:
        first_step, best = checkpoint.step, checkpoint.manifest["best"]
        engine.load(first_step, checkpoint.reader())

    # The data: a function of the step.
    samples, held_out = examples(prepared, config, "train"), parts(prepared, config)
    batch_size, size, total = config.optim.batch_size, micro_batch(config), known_steps(config)
    loader = StepLoader(samples, batch_size=batch_size, micro_batch=size, rank=world.rank, world_size=world.size)

    # Those who listen.
    trackers = make_trackers(config, folder.path, rank=world.rank, resumed_from=first_step)
    trackers.start(RunContext(config, folder.path, total, parameters(config).total, world.size, first_step, attempt))
    book = Bookkeeper(config, folder, world, trackers, attempt, first_step)
    if world.is_first and folder.ended_in_silence():
        lost = f"attempt {attempt - 1} ended without a word, as after kill -9 or a loss of power"
        book.event("lost", first_step, lost)
    for line in damage:
        book.event("damage", first_step, line)
    where = f"on {world.size} rank(s) at ZeRO {engine.stage} in {precision(config)}"
    if attempt == 0:
        lengths = ", then ".join(str(stage.sequence_length) for stage in config.curriculum.stages)
        shape = f"{total or 'as many'} steps of {batch_size} x {lengths} tokens"
        book.event("start", 0, f"start: {shape} {where}")
    else:
        place = checkpoint.folder.name if checkpoint else "the beginning"
        book.event("resume", first_step, f"going on from {place} {where}")
    if world.is_first:
        arithmetic = numerics_of_attempt(config, folder, attempt, first_step, book.event)
        facts = {
            "world_size": world.size,
            "zero_stage": engine.stage,
            "device": str(world.device),
            "numerics": arithmetic,
        }
        folder.write_environment(attempt, {**facts, "data": prepared.fingerprint})

    # Those who look after it.
    guard = Guard(config.anomalies, checkpoint.manifest.get("guard", {}) if checkpoint else {})
    saver = Saver(config.checkpoint, engine, world, folder.checkpoints, book, first_step if checkpoint else None)
    deadline = Deadline(config.faults.wall_seconds, guessed_seconds(parameters(config).total))
    stragglers = Stragglers(config.faults, world)
    data_watch.begin(first_step, checkpoint.manifest.get("trusted", 0) if checkpoint else 0)
    watchdog = Watchdog(config, world, folder.path, attempt, lambda: world.entered + engine.passes)

    def gradients(batch: StepBatch, targets: float) -> Gradients:
        loss_sum, side_sums = engine.forward_backward(batch.micro_batches, targets)
        norm, names = engine.gradient_norm(), sorted(side_sums)
        mine = (float(loss_sum), norm / world.size, *(float(side_sums[name]) for name in names))
        loss, norm, *sides = world.sum(*mine)
        return Gradients(loss / max(targets, 1), norm, dict(zip(names, sides, strict=True)))

    evaluated_step = first_step if checkpoint is not None else None

    def evaluate(step: int) -> None:
        nonlocal best, evaluated_step
        book.phase("evaluation")
        watchdog.begin("evaluation", step)
        evaluated_step = step
        record = held_out_loss(engine, world, held_out, prepared, config, size, step, attempt)
        trackers.evaluation(record)
        if record.loss < best.get("loss", math.inf):
            best = {"step": step, "loss": record.loss}
            if record.bits_per_byte is not None:
                best["bits_per_byte"] = record.bits_per_byte

    def save(step: int) -> None:
        book.phase("checkpoint")
        watchdog.begin("checkpoint", step)
        facts = {"science": config.science_hash(), "data": prepared.fingerprint, "best": best, "guard": guard.state()}
        saver.save(step, {**facts, "trusted": data_watch.trusted()})

    def roll_back(step: int, batch: int) -> int:
        """To the newest checkpoint, or only past this batch where there is none; returns the step of it."""
        nonlocal best
        saver.wait()
        checkpoint, _ = newest_intact(folder.checkpoints, world)
        if checkpoint is None:
            guard.skip(batch)
            return step
        engine.load(checkpoint.step, checkpoint.reader())
        best = checkpoint.manifest["best"]
        guard.roll_back(checkpoint.step, checkpoint.manifest["guard"], batch)
        first, _ = guard.holes[-1]
        book.event(
            "rollback", checkpoint.step, f"back at step {checkpoint.step}; batches {first} to {batch} are skipped"
        )
        return checkpoint.step

    # The steps.
    step, outcome = first_step, None
    every_evaluation, every_checkpoint = config.evaluation.every_steps, config.checkpoint.every_steps
    book.phase("data")
    drawn = loader.steps(guard.batch(step), workers=config.engine.data_workers)
    with contextlib.closing(drawn) as batches, book.telling_of_losses(lambda: step):
        while total is None or step < total:
            watchdog.begin("step", step + 1)
            batch = next(batches)
            # Exact also when ranks and micro-batches hold different numbers of targets: divide by the global count.
            counted = sum(int((micro["targets"] != NOT_A_TARGET).sum()) for micro in batch.micro_batches)
            wish = stop.signal or deadline.reason()
            spent = book.budget()  # of the first rank, so that all decide alike
            book.phase("idle")  # until the slowest rank has its batch
            asked, most = float(wish is not None), max(spent.values(), default=0.0)
            targets, stops, used, *standing = world.sum(counted, asked, most, *data_watch.standing())
            if data_watch.judge(step, standing, book.event):
                outcome = Outcome("failed", step)
                break
            if stops:
                outcome = Outcome("stopped", step, wish or "another rank was asked to stop")
                break
            if used >= 1:
                name = max(spent, key=lambda name: spent[name], default="")
                outcome = Outcome("finished", step, f"budget.{name}={config.budget.measured.get(name)} is used up")
                break

            book.phase("forward_backward")
            tell = partial(book.event_of_batch, samples, batch.step, step)
            found, verdict = guard.judge(partial(gradients, batch, targets), engine.discard, tell)
            if verdict == "stop":
                outcome = Outcome("halted", step, guard.reason)
                break
            if verdict in ("skip", "rollback"):
                if verdict == "rollback":
                    step = roll_back(step, batch.step)
                else:
                    guard.skip(batch.step)
                book.phase("data")
                continue

            book.phase("optimizer")
            lr = learning_rate(config.optim, step, total or expected_steps(step, used))
            engine.update(lr)
            engine.synchronize()
            step += 1

            book.phase("other")
            readings = samples.readings(guard.batch(step) * batch_size)
            memory, sources = engine.memory_peak_bytes(), tokens_by_source(readings)
            book.step(step, targets, found.loss, found.norm, lr, memory, found.sums, sources)
            if step == config.curriculum.stage(step - 1).last or step == total:
                book.event("read", step, describe(readings), readings=[asdict(reading) for reading in readings])
            stragglers.step(batch.seconds_waited + engine.forward_seconds, partial(book.event, step=step))
            saver.look()

            # Once in a while: measure on text that was never trained on, and save.
            if every_evaluation and step % every_evaluation == 0:
                evaluate(step)
            if every_checkpoint and step % every_checkpoint == 0:
                save(step)
            deadline.saved(saver.seconds)
            book.phase("data")

    # The end, or the end of this attempt.
    outcome = outcome or Outcome("finished", step)
    saver.wait()
    if outcome.status == "finished" and evaluated_step != step:
        evaluate(step)
    if outcome.status in ("finished", "stopped") and saver.saved_step != step:
        save(step)
        saver.wait()
    if outcome.status == "finished":
        book.phase("idle")
        if wish := data_watch.wait(step, lambda: stop.signal or deadline.reason(), book.event, watchdog):
            outcome = Outcome("stopped", step, wish)
    if outcome.status != "halted" and saver.failure is not None:
        outcome = Outcome("failed", step, f"the last checkpoint could not be written ({saver.failure.strerror})")
    if data_watch.damaged:
        outcome = Outcome("failed", step, data_watch.conclude(step, folder.checkpoints, book.event))
    data_watch.close()
    watchdog.close()
    book.close(outcome.status, step, outcome.text)
    trackers.finish(outcome.status, {"step": step, **{f"best_{name}": value for name, value in best.items()}})
    engine.close()
    return outcome


def held_out_loss(
    engine: Engine,
    world: World,
    held_out: Mapping[str, Examples],
    prepared: Source,
    config: Config,
    size: int,
    step: int,
    attempt: int,
) -> EvaluationRecord:
    """Loss over the held-out samples, divided over the ranks in micro-batches of `size`."""
    began = time.monotonic()
    total = sum(map(len, held_out.values()))
    most = config.evaluation.samples or total
    sums = {}
    for name, samples in held_out.items():
        count = min(len(samples), -(-most * len(samples) // total))
        sums[name] = engine.evaluate(_shares(samples, count, size, world))
    return EvaluationRecord(
        step=step,
        tokens=config.curriculum.tokens(step),
        seconds=time.monotonic() - began,
        attempt=attempt,
        **accounts(prepared, config, sums),
    )


def _shares(held_out: Examples, count: int, size: int, world: World) -> Iterator[dict[str, np.ndarray]]:
    """This rank's held-out micro-batches: equally many and equally large on every rank; past the end, no targets."""
    for start in range(0, count, size * world.size):
        first = start + world.rank * size
        batch = held_out.batch(first, first + size)
        batch["targets"][max(0, count - first) :] = NOT_A_TARGET
        yield batch
