"""A model in training: weights, gradients and optimizer states are fp32 at every stage; bf16 is autocast inside the
forward pass. So the same science gives the same curve at every stage, and a checkpoint needs no second copy of the
weights.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.books.layout import zero_stage
from trainer.config import Config
from trainer.config.compilation import compilation, varying
from trainer.config.host import half_wire, no_triton, precision
from trainer.config.recomputation import keeps_casts
from trainer.config.wire import stays_half
from trainer.descriptions.optimizers import OPTIMIZERS
from trainer.meter.stopwatch import Stopwatch
from trainer.models import Model, PolicyAndReference, build, initialize
from trainer.models.expert_ranks import experts_shared, of_all_ranks, whole_shape
from trainer.models.fp8 import use_fp8
from trainer.models.losses import without_added_terms
from trainer.models.model import stored_buffers
from trainer.models.roles import halved, roles
from trainer.models.sequence import use_sequences
from trainer.models.tiles import use_tiles
from trainer.training.distributed import World
from trainer.training.engine.averages import Averages
from trainer.training.engine.expert_groups import expert_ranks, experts_announced
from trainer.training.engine.expert_loads import ExpertLoads, with_loads
from trainer.training.engine.fp8 import fp8_here
from trainer.training.engine.layouts import Fragment, Layout, Read, layout_of, of_part
from trainer.training.engine.library import import_deepspeed
from trainer.training.engine.settings import deepspeed_settings
from trainer.training.optimizers import make_optimizer, set_learning_rate, set_momentum, set_weight_decay
from trainer.training.sequences import Sharing

MicroBatch = Mapping[str, np.ndarray]


def host_memory_peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """A copy on this device; to a GPU from pinned memory, so that the host does not wait for it."""
    tensor = torch.from_numpy(array)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def mark_varying(tensors: Iterable[Tensor], dimensions: Sequence[int]) -> None:
    """Have code that is compiled for these tensors take any size of these dimensions."""
    for tensor in tensors:
        for dimension in dimensions:
            if dimension < tensor.dim():
                torch._dynamo.maybe_mark_dynamic(tensor, dimension)


class Engine:
    """A model in training. All methods are collective: every rank calls them alike."""

    def __init__(self, config: Config, world: World, known: Callable[[str], Tensor | None] = lambda name: None) -> None:
        """known: values of the parameters that begin where another run ended, by name."""
        self.config, self.world = config, world
        self.device = world.device
        self.notes: list[str] = []  # what is to be said of it, once
        self.half: frozenset[str] = frozenset()  # names of weights that travel in bf16
        self.stage = zero_stage(config)
        self._deepspeed = import_deepspeed(self.device.type)
        self._layout = layout_of(self.stage)(self._deepspeed, world, config.optim)
        settings = deepspeed_settings(config)
        self.accumulation = settings["gradient_accumulation_steps"]
        os.environ.setdefault("LOCAL_RANK", str(world.local_rank))  # DeepSpeed asks for it even where it is alone
        self._deepspeed.init_distributed(dist_backend="nccl" if self.device.type == "cuda" else "gloo", verbose=False)

        self.experts_shared = expert_ranks(config.engine.expert_parallel)
        self.sharing = Sharing(config, world)
        self.model = self._build(settings, known)
        self._autocast()
        # Any: DeepSpeed hangs attributes of its own on them
        self.parameters: dict[str, Any] = {
            name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad
        }
        self.buffers = stored_buffers(self.model, trained=True)  # what else a checkpoint holds
        self.expert_loads = ExpertLoads(self.model, world)
        with experts_announced(self.model, self.experts_shared, self.stage):
            self._engine, self._optimizer, _, _ = self._deepspeed.initialize(
                model=self.model,
                optimizer=make_optimizer(self.model, config.optim, apart=self._apart()),
                config=settings,
                dist_init_required=False,
            )
        self.compilation = compilation(config, self.device.type, no_triton())
        self._varying = varying(config) if self.compilation.on else ()
        if self.compilation.on:
            self._engine.compile()
        products = torch.bfloat16 if precision(config) == "bf16" else torch.float32
        self._layout.stay_half = stays_half(config)
        self._layout.attach(self._optimizer, self.parameters, roles(self.model), products, self.half)
        self.averages = Averages(config, self._layout)
        self.passes = 0  # forward and backward passes of this rank so far
        self._forwards = Stopwatch(self.device)
        self.observers: list[Callable[[MicroBatch], None]] = []  # told of each micro-batch after its backward pass

    # --- building ---

    def _build(self, settings: dict[str, Any], known: Callable[[str], Tensor | None]) -> Model | PolicyAndReference:
        with self._layout.building(settings), experts_shared(self.experts_shared):
            model = build(self.config)
        initialize(model, self.config.seed, lambda parameter: self._layout.whole(parameter, to_write=True), known)
        model.recompute = self.config.engine.activation_checkpointing
        tiled = use_tiles(model, self.config.engine.feed_forward_tile)
        if half_wire(self.config):
            self.half = halved(model)
        self._layout.built(model, self.half, tiled)
        use_sequences(model, self.sharing.sequences)
        if fp8_here(self.config, self.device):
            slow = " (a CPU computes it for tests: slower than bf16)" if self.device.type == "cpu" else ""
            self.notes.append(use_fp8(model) + slow)
        return model

    def _apart(self) -> frozenset[str]:
        """Parameters in groups of their own for the optimizer: at stages 1 and 2 a group travels in one dtype. They are
        so whatever that dtype is: the norm of the gradients, and with it the curve, depends on the groups to the bit.
        """
        return halved(self.model) if self.stage in (1, 2) and precision(self.config) == "bf16" else frozenset()

    def _autocast(self) -> None:
        """bf16 inside the forward pass. DeepSpeed's own autocast would also round the reduced gradients."""
        if precision(self.config) == "bf16":
            inner, device_type = self.model.forward, self.device.type
            # The cache would keep a bf16 copy of every weight until the end of the pass, all that recomputation saves.
            keep = keeps_casts(self.config.engine)

            def forward(*args: Any, **kwargs: Any) -> Any:
                with torch.autocast(device_type, dtype=torch.bfloat16, cache_enabled=keep):
                    return inner(*args, **kwargs)

            self.model.forward = forward  # type: ignore[method-assign]

    # --- stepping ---

    def tensors(self, batch: MicroBatch) -> dict[str, Tensor]:
        tensors = {name: to_device(array, self.device) for name, array in batch.items()}
        mark_varying(tensors.values(), self._varying)
        return tensors

    def forward_backward(
        self, micro_batches: Sequence[MicroBatch], global_targets: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradients of the mean loss over the step's global targets, of any number of micro-batches, as many on every
        rank. Returns this rank's loss sum and side sums."""
        # DeepSpeed divides by the accumulation steps that it was made with, however many there are in this step, and
        # averages over ranks; undo both and divide by the true count.
        scale = self.world.size * self.accumulation / max(global_targets, 1.0)
        total = torch.zeros((), device=self.device)
        sums: dict[str, Tensor] = {}
        self._forwards = Stopwatch(self.device)  # the last one may not have been read yet
        loads = None
        if self.config.routes_twice:
            loads = self.expert_loads.of_batch(micro_batches, lambda batch: self._engine(**self.tensors(batch))[2])
        for index, batch in enumerate(micro_batches):
            self._engine.set_gradient_accumulation_boundary(index + 1 == len(micro_batches))
            tensors = with_loads(self.tensors(batch), loads, global_targets)
            with self._forwards:
                loss, _, side = self._engine(**tensors)
            self.passes += 1
            self._engine.backward(loss * scale)
            self.passes += 1
            for observe in self.observers:
                observe(batch)
            self.expert_loads.take(side)
            total += without_added_terms(loss, side)
            for name, value in side.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
            if index + 1 < len(micro_batches):
                self._engine.step()  # counts the micro-batch; the update waits for the last one
        self.expert_loads.finish()
        return total, sums

    def progressed(self) -> None:
        """Note that this rank does something beside passes of a step, and does not hang."""
        self.passes += 1

    @property
    def layout(self) -> Layout:
        """Where this rank's share of everything lies."""
        return self._layout

    @property
    def forward_seconds(self) -> float:
        """Of the last step's forward passes, which wait for no other rank; 0 at stage 3, where they gather weights, and
        where ranks share sequences."""
        return self.forward_clock()()

    def forward_clock(self) -> Callable[[], float]:
        """`forward_seconds` of the step whose passes were called last, to be asked once the device has made them."""
        waits = self._layout.forward_waits or self.sharing.group is not None
        return (lambda: 0.0) if waits else self._forwards.seconds

    def norm(self) -> Tensor:
        """Of the step's gradients over all ranks, before clipping, on the device: fp32, no dimension; not finite where
        any of them is not. Called once a step, before its update."""
        return self._layout.gradient_norm()

    def gradient_norm(self) -> float:
        """`norm` as a number; waits for the device."""
        return float(self.norm())

    def update(
        self,
        lr: float,
        weight_decay: float | None = None,
        momentum: float | None = None,
        *,
        unless: Tensor | None = None,
    ) -> None:
        """One optimizer step with the gradients whose `norm` was measured; None: as in the step before.

        unless: fp32 without dimensions on the device; where it is 1 the optimizer leaves everything as it is, to the
        bit, and nobody has to know before the call. Only for what `leaves_out` names.
        """
        set_learning_rate(self._optimizer, lr)
        if weight_decay is not None:
            set_weight_decay(self._optimizer, weight_decay)
        if momentum is not None:
            set_momentum(self._optimizer, momentum)
        self._layout.before_update()
        inner: Any = self._layout.inner
        inner.found_inf = unless  # torch's fused optimizers read it as those under a GradScaler do
        self._engine.step()
        inner.found_inf = None
        self.expert_loads.move_biases()

    def skip_update(self) -> None:
        """Forget the step's gradients, whatever they hold: weights and optimizer stay as they are, to the bit."""
        for _ in self.optimizer_states():  # DeepSpeed links the optimizer's state after a step, so it must be there
            pass
        inner: Any = self._layout.inner
        inner.step = lambda *_: None
        try:
            self._engine.step()
        finally:
            del inner.step

    def dry_run(self, micro_batches: Sequence[MicroBatch]) -> int:
        """A step that leaves no trace: gradients of these micro-batches, and no update. Returns the peak of memory in
        bytes, with the optimizer's state. Weights, states and random numbers stay as they are, to the bit."""
        for _ in self.optimizer_states():  # an update would create them
            pass
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            self.forward_backward(micro_batches, 1.0)
            self.norm()
            self.skip_update()
        self.synchronize()
        return self.memory_peak_bytes()

    @contextmanager
    def evaluation(self, average: str | None = None) -> Iterator[Callable[[MicroBatch], tuple[Tensor, Tensor]]]:
        """The model in evaluation mode, without gradients: a function that gives the loss sum and the target count of a
        batch. Every rank calls it equally often. average: of which the weights are; None: those that are used."""
        self._engine.eval()
        try:
            with torch.no_grad(), self._layout.showing(self._weights_of(average)):
                yield lambda batch: self._engine(**self.tensors(batch))[:2]
        finally:
            self._engine.train()

    def _weights_of(self, average: str | None) -> list[Tensor] | None:
        """This rank's share of the weights that are used, or of an average; None where they are the trained ones."""
        return self._layout.used(self.config.optim) if average is None else self.averages.values(average)

    def memory_peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else host_memory_peak()

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    # --- state, for checkpoints ---

    def shapes(self) -> dict[str, tuple[int, ...]]:
        stored = {**self.parameters, **self.buffers}
        return {name: whole_shape(one) for name, one in stored.items()}

    @torch.no_grad()
    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter, whole and in fp32, one after the other, and what a checkpoint holds beside them."""
        self._layout.settle()
        for name, parameter in self.parameters.items():
            with self._layout.whole(parameter):
                yield name, of_all_ranks(parameter)
        yield from self.buffers.items()

    def optimizer_states(self) -> Iterator[Fragment]:
        """This rank's fragments of the optimizer's states, created as zeros where no step was taken yet. At stage 0
        every rank holds everything."""
        return self._layout.fragments()

    def to_save(self) -> Iterator[Fragment]:
        """What a checkpoint holds beside the weights, every element on one rank only: the optimizer's states and the
        averages."""
        yield from self._layout.fragments(to_save=True)
        yield from self.averages.fragments()

    def facts(self) -> dict[str, Any]:
        """What a checkpoint says of its weights, where there is something to say: the averages beside them, and
        whether those that are used differ from those that are trained."""
        averages, used = self.averages.facts(), OPTIMIZERS[self.config.optim.name].used(self.config.optim)
        facts = {"averages": averages} if averages else {}
        return facts | ({"used": {"state": used[0], "share": used[1]}} if used else {})

    @torch.no_grad()
    def load(self, step: int, read: Read, averages: Mapping[str, Any]) -> list[str]:
        """Take over the state after `step` updates; `read(name, kind, start, numel)` gives fp32 stretches of a
        flattened parameter, kind "weight", one of the optimizer's states or of the averages, which were as these facts
        say. Returns the names of averages that are not there: they begin with these weights."""
        for fragment in self.optimizer_states():
            fragment.tensor.copy_(read(fragment.name, fragment.kind, fragment.start, fragment.tensor.numel()))
        for name, parameter in self.parameters.items():
            self._layout.load_weight(name, parameter, of_part(read, parameter))
        for name, buffer in self.buffers.items():
            buffer.view(-1).copy_(read(name, "weight", 0, buffer.numel()))
        self._layout.loaded()
        for state in self._layout.inner.state.values():
            if "step" in state:
                state["step"].fill_(step)
        return self.averages.load(step, averages, read)

    def close(self) -> None:
        """Before the process group goes: an engine that outlives it can abort the process."""
        if "comms_logger" in self.config.engine.deepspeed:
            self._deepspeed.comm.log_summary()
        self.release()
        torch.distributed.destroy_process_group()

    def release(self) -> None:
        """Let go of what DeepSpeed holds; the process group stays."""
        self._engine.destroy()
