"""Steps of a tiny engine, read at once and read late: what each tells, leaves behind and waits for.

`python stepping_probe.py <stage>` prints one JSON line: of every rank what it found. Under `torch.distributed.run` each
rank takes its rows of the same batches, and only the first one's gradients are damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.config import Config
from trainer.data import StepBatch
from trainer.training.diagnostics import Diagnostics
from trainer.training.distributed import World, join
from trainer.training.engine import Engine
from trainer.training.faults.guard import Guard
from trainer.training.hooks import Hook, StepResult
from trainer.training.state import Agreement, TrainState
from trainer.training.step_values import Arriving
from trainer.training.stepping import Stepping

STEPS, TARGETS = 6, 32.0


class HostReads(TorchDispatchMode):
    """Counts what would wait for a device: scalars taken out of tensors, by whatever call, and copies to the host."""

    def __init__(self, order: list[str]) -> None:
        """order: what happens, in which the readings of values are noted."""
        super().__init__()
        self.order, self.counted = order, 0
        self._reading = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.note()
        return func(*args, **(kwargs or {}))

    def note(self) -> None:
        self.counted += not self._reading

    @contextmanager
    def watching(self) -> Iterator[None]:
        def counting(call: Callable[..., Any]) -> Callable[..., Any]:
            def noted(tensor: torch.Tensor, *arguments: Any, **more: Any) -> Any:
                self.note()
                return call(tensor, *arguments, **more)

            return noted

        def reading(arriving: Arriving) -> list[float]:
            self.order.append("read")
            self._reading = True
            try:
                return read(arriving)
            finally:
                self._reading = False

        names = ("tolist", "numpy", "cpu")
        kept = {name: getattr(torch.Tensor, name) for name in names}
        read, Arriving.read = Arriving.read, reading  # type: ignore[method-assign]
        for name, call in kept.items():
            setattr(torch.Tensor, name, counting(call))
        try:
            with self:
                yield
        finally:
            Arriving.read = read  # type: ignore[method-assign]
            for name, call in kept.items():
                setattr(torch.Tensor, name, call)


def batch(config: Config, step: int, world: World) -> StepBatch:
    """This rank's rows of it."""
    chance = np.random.default_rng(step)
    rows, length = 2, config.data.sequence_length
    tokens = chance.integers(4, config.vocabulary, (rows, length + 1))
    positions = np.broadcast_to(np.arange(length), (rows, length)).copy()
    whole = {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], "positions": positions}
    whole["segments"] = np.zeros((rows, length), np.int32)
    return StepBatch(step, [{name: one[world.rank :: world.size].copy() for name, one in whole.items()}], 0.0)


def digest(engine: Engine) -> str:
    content = hashlib.sha256()
    for _, weight in engine.weights():
        content.update(weight.detach().numpy().tobytes())
    for fragment in (*engine.optimizer_states(), *engine.averages.fragments()):
        content.update(fragment.tensor.numpy().tobytes())
    inner = getattr(engine._optimizer, "optimizer", engine._optimizer)
    content.update(str([float(state["step"]) for state in inner.state.values()]).encode())
    return content.hexdigest()


class Told(Hook):
    def __init__(self) -> None:
        self.records: list[Any] = []

    def step_ended(self, result: StepResult) -> None:
        found = (result.step, repr(result.loss), repr(result.grad_norm), result.lr, result.trained)
        self.records.append(json.loads(json.dumps(found)))


class Runs:
    """Runs over the same batches from the same weights, however they are read."""

    def __init__(self, stage: int) -> None:
        torch.set_num_threads(1)
        self.world: World = join("cpu", 60)
        plain = Config().model_dump(mode="json")
        plain["model"] |= {"depth": 1, "width": 32, "heads": 2, "kv_heads": 2, "name": "probe"}
        plain["tokenizer"]["vocabulary"] = 512
        plain["data"]["sequence_length"] = 16
        plain["optim"] |= {"batch_size": 2, "averages": {"ema": {"half_life": 100}}}
        plain["engine"] |= {"zero_stage": stage, "precision": "fp32"}
        plain["budget"]["steps"] = STEPS
        self.plain, self.config = plain, Config.model_validate(plain)
        self.engine = Engine(self.config, self.world)
        self.start = {name: weight.detach().clone() for name, weight in self.engine.weights()}
        for _ in self.engine.optimizer_states():
            pass

    def restart(self) -> None:
        def read(name: str, kind: str, start: int, numel: int) -> torch.Tensor:
            whole = self.start[name].reshape(-1) if kind == "weight" else torch.zeros(self.start[name].numel())
            return whole[start : start + numel]

        self.engine.load(0, read, {})

    def of(self, late: bool, nan: dict[int, int], breaks: int | None = None, **anomalies: Any) -> dict[str, Any]:
        """nan: batch -> how many of its passes have gradients that are not finite. breaks: the batch before which an
        error ends the run."""
        self.restart()
        plain = self.plain | {"anomalies": self.plain["anomalies"] | anomalies}
        config, hook, left = Config.model_validate(plain), Told(), dict(nan)
        events: list[list[Any]] = []
        run = SimpleNamespace(
            config=config,
            engine=self.engine,
            guard=Guard(config.anomalies, {}),
            diagnostics=Diagnostics(config, self.engine, self.world, Path("nowhere")),
            metrics=SimpleNamespace(
                event=lambda name, step, text, **_: events.append([name, step]),
                event_of_batch=lambda _, number, step, name, text: events.append([name, step, number]),
                step_ended=hook.step_ended,
            ),
            samples=SimpleNamespace(usage=lambda count: []),
            hooks=[hook],
            state=TrainState(),
            total=STEPS,
        )

        def roll_back(number: int) -> None:
            self.restart()
            run.state = TrainState()
            run.guard.roll_back(0, {}, number)

        run.roll_back = roll_back
        stepping = Stepping(run, lambda name: None)
        stepping.late = late and not stepping.reasons
        passing, updating = self.engine.forward_backward, self.engine.update
        batches = [batch(config, number, self.world) for number in range(STEPS + 4)]
        numbers = {id(one.micro_batches): one.step for one in batches}
        order: list[str] = []

        def passes(micro_batches: Any, targets: float) -> Any:
            number, handle = numbers[id(micro_batches)], None
            order.append(f"passes of {number}")
            if self.world.rank == 0 and left.get(number, 0) > 0:
                left[number] -= 1
                parameter = next(iter(self.engine.parameters.values()))
                handle = parameter.register_hook(lambda gradient: gradient * float("nan"))
            made = passing(micro_batches, targets)
            if handle is not None:
                handle.remove()
            return made

        def updates(*settings: Any, **more: Any) -> None:
            order.append("update")
            updating(*settings, **more)

        self.engine.forward_backward, self.engine.update = passes, updates  # type: ignore[method-assign]
        reads, outcome, broken, given = HostReads(order), None, "", iter(batches)
        agreed = Agreement(TARGETS, 0.0, 0.0, None)
        try:
            with reads.watching(), stepping.recording_when_broken():
                while outcome is None and run.state.step < STEPS:
                    one = next(given)
                    if one.step == breaks:
                        raise OSError("the disk is gone")
                    outcome = stepping.train(one, agreed)
                    if outcome is None and run.state.step == STEPS:
                        outcome = stepping.settle()
        except OSError as error:
            broken = str(error)
        finally:
            self.engine.forward_backward, self.engine.update = passing, updating  # type: ignore[method-assign]
        return {
            "records": hook.records,
            "events": events,
            "outcome": outcome and [outcome.status.value, outcome.step],
            "digest": digest(self.engine),
            "waits": reads.counted,
            "order": order,
            "holes": run.guard.skipped_batches,
            "broken": broken,
        }


def main() -> None:
    runs = Runs(int(sys.argv[1]))
    cases: dict[str, dict[str, Any]] = {
        "healthy": {"nan": {}},
        "a fault of the machine": {"nan": {2: 1}},
        "a fault at the end": {"nan": {5: 1}},
        "two faults": {"nan": {2: 1, 4: 1}},
        "stop": {"nan": {3: 2}},
        "skip": {"nan": {3: 2}, "nonfinite": "skip"},
        "skip at the end": {"nan": {5: 2}, "nonfinite": "skip"},
        "rollback": {"nan": {3: 2}, "nonfinite": "rollback"},
        "broken": {"nan": {}, "breaks": 4},
        "a policy on spikes": {"nan": {}, "spike": "stop"},
    }
    found = {name: [runs.of(late, **case) for late in (False, True)] for name, case in cases.items()}
    everyone: list[Any] = [None] * runs.world.size
    torch.distributed.all_gather_object(everyone, found)
    if runs.world.rank == 0:
        print(json.dumps(everyone), flush=True)
    runs.engine.close()
    os._exit(0)


main()
