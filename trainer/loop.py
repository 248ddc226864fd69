"""One run, from the first sample to the last checkpoint. Read it from top to bottom."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.books import flops, parameters
from trainer.checkpoint import newest_intact, remove_leftovers, retire, save_checkpoint
from trainer.config import Config
from trainer.data import Prepared, Samples, StepLoader, prepare
from trainer.distributed import World
from trainer.engine import Engine, micro_batch
from trainer.events import EvaluationRecord, Event, StepRecord
from trainer.faults import StopRequest
from trainer.folder import RunFolder
from trainer.models import NOT_A_TARGET
from trainer.schedule import learning_rate
from trainer.trackers import RunContext, Trackers, make_trackers


@dataclass(frozen=True)
class Outcome:
    """How the run ended."""

    status: str  # finished, stopped, failed
    step: int
    reason: str = ""


def train(config: Config, folder: RunFolder, world: World, stop: StopRequest) -> Outcome:
    """Train until the budget is used up or somebody asks to stop. Every rank of the run calls this."""
    started = time.monotonic()
    attempt = world.broadcast(folder.attempts())
    prepared = prepare(config)
    if world.is_first:
        remove_leftovers(folder.checkpoints)
        shutil.copyfile(prepared.tokenizer_file, folder.tokenizer)

    # The model, and where the last attempt left it.
    engine = Engine(config, world)
    checkpoint, damage = newest_intact(folder.checkpoints, world)
    first_step = 0
    best: dict[str, Any] = {}
    if checkpoint is not None:
        first_step, best = checkpoint.step, checkpoint.manifest["best"]
        engine.load(first_step, checkpoint.reader())

    # The data: a function of the step.
    samples, held_out = Samples(prepared, config, "train"), Samples(prepared, config, "held_out")
    size = micro_batch(config, world.size)
    batch_size = config.optim.batch_size
    loader = StepLoader(samples, batch_size=batch_size, micro_batch=size, rank=world.rank, world_size=world.size)

    trackers = make_trackers(config, folder.path, rank=world.rank, resumed_from=first_step)
    total = config.steps
    run = _Books(config, world, trackers, attempt, started)
    trackers.start(RunContext(config, folder.path, total, parameters(config).total, world.size, first_step, attempt))
    for line in damage:
        run.event("damage", first_step, line)
    if attempt == 0:
        run.event(
            "start", 0, f"{total} steps of {batch_size} x {config.data.sequence_length} tokens on {world.size} rank(s)"
        )
    else:
        run.event("resume", first_step, f"going on from {checkpoint.folder.name if checkpoint else 'the beginning'}")
    if world.is_first:
        folder.write_environment(
            attempt, {"world_size": world.size, "device": str(world.device), "data": prepared.fingerprint}
        )

    def evaluate(step: int) -> None:
        nonlocal best
        record = _evaluate(engine, world, held_out, prepared, config, size, step, attempt)
        run.phase("evaluation")
        trackers.evaluation(record)
        if record.loss < best.get("loss", math.inf):
            best = {"step": step, "loss": record.loss, "bits_per_byte": record.bits_per_byte}

    saved_step = first_step if checkpoint is not None else None

    def save(step: int) -> OSError | None:
        nonlocal saved_step
        facts = {"science": config.science_hash(), "data": prepared.fingerprint, "best": best}
        try:
            path = save_checkpoint(engine, world, folder.checkpoints, step, facts)
        except OSError as error:
            last = f"step {saved_step} is" if saved_step is not None else "there is none yet"
            run.event(
                "checkpoint_failed", step, f"could not be written ({error.strerror}); the last complete one: {last}"
            )
            return error
        finally:
            run.phase("checkpoint")
        saved_step = step
        if world.is_first:
            retire(folder.checkpoints, config.checkpoint, best.get("step"))
        run.event("checkpoint", step, f"saved {path.name}")
        return None

    # The steps.
    step, outcome = first_step, None
    failed_save: OSError | None = None
    every_evaluation, every_checkpoint = config.evaluation.every_steps, config.checkpoint.every_steps
    run.phase("start")
    with contextlib.closing(loader.steps(first_step, total)) as batches:
        for batch in batches:
            run.phase("data")
            counted = sum(int((micro["targets"] >= 0).sum()) for micro in batch.micro_batches)
            targets, stops = world.sum(counted, float(bool(stop)))
            if stops:
                outcome = Outcome("stopped", step, stop.signal or "a signal on another rank")
                break
            loss_sum, side_sums = engine.forward_backward(batch.micro_batches, targets)
            engine.synchronize()
            run.phase("forward_backward")
            lr = learning_rate(config.optim, step, total)
            grad_norm = engine.update(lr)
            engine.synchronize()
            run.phase("optimizer")
            step += 1

            names = sorted(side_sums)
            loss, *sides = world.sum(float(loss_sum), *(float(side_sums[name]) for name in names))
            loss /= max(targets, 1)
            run.step(
                step, targets, loss, grad_norm, lr, engine.memory_peak_bytes(), dict(zip(names, sides, strict=True))
            )
            if not (math.isfinite(loss) and math.isfinite(grad_norm)):
                outcome = Outcome("failed", step, f"loss {loss} and gradient norm {grad_norm} are not finite")
                break

            # Once in a while: measure on text that was never trained on, and save.
            last = step == total
            if last or (every_evaluation and step % every_evaluation == 0):
                evaluate(step)
            if last or (every_checkpoint and step % every_checkpoint == 0):
                failed_save = save(step)
            run.phase("other")

    if outcome is None:
        outcome = Outcome("finished", step)
    if outcome.status == "stopped" and saved_step != step:
        failed_save = save(step)
    if outcome.status != "failed" and failed_save is not None:
        outcome = Outcome("failed", step, f"the last checkpoint could not be written: {failed_save.strerror}")
    run.event(outcome.status, step, outcome.reason or f"after {step} steps")
    trackers.finish(outcome.status, {"step": step, **{f"best_{name}": value for name, value in best.items()}})
    engine.close()
    return outcome


def _evaluate(
    engine: Engine,
    world: World,
    held_out: Samples,
    prepared: Prepared,
    config: Config,
    size: int,
    step: int,
    attempt: int,
) -> EvaluationRecord:
    """Loss over the held-out samples, divided over the ranks."""
    began = time.monotonic()
    count = len(held_out) if config.evaluation.samples is None else min(config.evaluation.samples, len(held_out))
    loss_sum, targets = engine.evaluate(_shares(held_out, count, size, world))
    loss = loss_sum / max(targets, 1)
    # Every token of a document but its first is a target.
    targets_per_byte = (prepared.held_out.tokens - prepared.held_out.documents) / prepared.held_out.bytes
    return EvaluationRecord(
        step=step,
        tokens=step * config.tokens_per_step,
        loss=loss,
        bits_per_byte=loss / math.log(2) * targets_per_byte,
        unigram_bits_per_byte=prepared.held_out.unigram_bits_per_byte,
        targets=int(targets),
        seconds=time.monotonic() - began,
        attempt=attempt,
    )


def _shares(held_out: Samples, count: int, size: int, world: World) -> Iterator[dict[str, np.ndarray]]:
    """This rank's held-out micro-batches: equally many and equally large on every rank; past the end
    there are no targets."""
    for start in range(0, count, size * world.size):
        first = start + world.rank * size
        batch = held_out.batch(first, first + size)
        batch["targets"][max(0, count - first) :] = NOT_A_TARGET
        yield batch


class _Books:
    """Clocks and counters of one attempt; writes the records."""

    def __init__(self, config: Config, world: World, trackers: Trackers, attempt: int, started: float) -> None:
        self.config, self.world, self.trackers = config, world, trackers
        self.attempt, self.started = attempt, started
        self.flop_per_step = flops(config).per_step
        peak = config.machine.peak_flops.get(config.engine.precision)
        self.peak = peak * world.size if peak is not None else None
        self.seconds: dict[str, float] = {}
        self.mark = time.monotonic()

    def phase(self, name: str) -> None:
        """The time since the last call belongs to `name`."""
        now = time.monotonic()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.mark
        self.mark = now

    def step(
        self, step: int, targets: float, loss: float, grad_norm: float, lr: float, memory: int, sums: dict[str, float]
    ) -> None:
        self.phase("other")
        seconds, self.seconds = self.seconds, {}
        compute = sum(seconds.get(name, 0.0) for name in ("data", "forward_backward", "optimizer", "other"))
        rate = self.flop_per_step / compute
        self.trackers.step(
            StepRecord(
                step=step,
                samples=step * self.config.optim.batch_size,
                tokens=step * self.config.tokens_per_step,
                targets=int(targets),
                flop=step * self.flop_per_step,
                loss=loss,
                grad_norm=grad_norm,
                lr=lr,
                tokens_per_second=self.config.tokens_per_step / compute,
                flop_per_second=rate,
                mfu=None if self.peak is None else rate / self.peak,
                peak_flop_per_second=self.peak,
                memory_peak_bytes=memory,
                seconds=seconds,
                wall_seconds=time.monotonic() - self.started,
                attempt=self.attempt,
                sums=sums,
            )
        )

    def event(self, name: str, step: int, text: str, **data: Any) -> None:
        self.trackers.event(Event(name, time.time(), step, text, data, self.attempt))
