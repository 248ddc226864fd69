"""The only file that knows DeepSpeed: a model, an optimizer and a ZeRO stage become steps.

Weights, gradients and optimizer states are fp32 at every stage; bf16 is autocast inside the forward pass. So the same
science gives the same curve at every stage, and a checkpoint needs no second copy of the weights.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainer.books.layout import micro_batch, micro_batches, reduce_bucket, zero_stage
from trainer.config import Config
from trainer.config.host import precision
from trainer.meter.stopwatch import Stopwatch
from trainer.models import build, initialize
from trainer.training.distributed import World
from trainer.training.optimizer import adamw, set_learning_rate
from trainer.utils.errors import UserError

MOMENTS = ("exp_avg", "exp_avg_sq")
MicroBatch = Mapping[str, np.ndarray]


def deepspeed_settings(config: Config) -> dict[str, Any]:
    """DeepSpeed's configuration for this run; raw keys of `engine.deepspeed` win."""
    stage = zero_stage(config)
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": reduce_bucket(config)}
    if config.engine.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    if config.engine.offload_parameters:
        zero["offload_param"] = {"device": "cpu"}
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch(config),
        "gradient_accumulation_steps": micro_batches(config),
        "zero_optimization": zero,
        "gradient_clipping": (config.optim.clip or 0.0) if stage else 0.0,  # stage 0 is clipped here, with its norm
        "zero_force_ds_cpu_optimizer": False,  # torch's AdamW also when offloaded: DeepSpeed's own needs a compiler
        "steps_per_print": 2**62,
    }
    return _merged(settings, config.engine.deepspeed)


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), dict)
        result[name] = _merged(result[name], value) if both else value
    return result


# What our own groups decide: as raw keys they would contradict the checkpoint, the schedule or the data order.
DECIDED_ELSEWHERE = {
    "bf16": "engine.precision",
    "fp16": "engine.precision",
    "optimizer": "optim.*",
    "scheduler": "optim.schedule",
    "gradient_clipping": "optim.clip",
    "train_batch_size": "optim.batch_size",
    "train_micro_batch_size_per_gpu": "engine.micro_batch",
    "gradient_accumulation_steps": "optim.batch_size and engine.micro_batch",
    "zero_optimization.stage": "engine.zero_stage",
    "zero_optimization.offload_optimizer": "engine.offload_optimizer",
    "zero_optimization.offload_param": "engine.offload_parameters",
}


def check(config: Config) -> None:
    """Let DeepSpeed judge its raw keys before any worker starts. Raises UserError with DeepSpeed's own words."""
    raw = config.engine.deepspeed
    if not raw:
        return
    zero = raw.get("zero_optimization")
    given = [*raw, *(f"zero_optimization.{name}" for name in (zero if isinstance(zero, Mapping) else ()))]
    taken = [
        f"engine.deepspeed.{name}: set {DECIDED_ELSEWHERE[name]} instead" for name in given if name in DECIDED_ELSEWHERE
    ]
    if taken:
        raise UserError("\n".join(taken))
    deepspeed = import_deepspeed("cpu")
    from deepspeed.runtime.config import DeepSpeedConfig  # type: ignore[import-untyped]

    known = {
        str(value)
        for name, value in vars(deepspeed.runtime.constants).items()
        if name.isupper() and isinstance(value, str)
    }
    known |= set(vars(deepspeed.runtime.config)) | {
        "zero_optimization",
        "activation_checkpointing",
        "aio",
        "torch_autocast",
    }
    unknown = [name for name in raw if name not in known]
    if unknown:
        raise UserError("\n".join(f"engine.deepspeed.{name}: DeepSpeed knows no such key" for name in unknown))
    try:
        DeepSpeedConfig(deepspeed_settings(config))
    except Exception as error:  # whatever DeepSpeed raises is its way to refuse
        errors: Callable[[], list[dict[str, Any]]] | None = getattr(error, "errors", None)
        lines = (
            [f"{'.'.join(map(str, one['loc']))}: {one['msg']}, got {one['input']!r}" for one in errors()]
            if errors is not None
            else [" ".join(str(error).split())]
        )
        raise UserError("\n".join(f"engine.deepspeed refused by DeepSpeed: {line}" for line in lines)) from None


def import_deepspeed(device_type: str) -> Any:
    """Import DeepSpeed quietly, and without the C++ extension that it would compile on a CPU."""
    if device_type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")
    # DeepSpeed calls all_gather_into_tensor and reduce_scatter_tensor by names that torch is retiring.
    warnings.filterwarnings(
        "ignore", category=FutureWarning, message=".*(all_gather_into_tensor|reduce_scatter_tensor).*"
    )
    import deepspeed  # type: ignore[import-untyped]

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # It serves inference_all_reduce only, and needs a compiler at the first start.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def host_memory_peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(frozen=True)
class Fragment:
    """A stretch of a parameter's optimizer state on this rank: elements [start, start + numel) of `name`."""

    name: str
    kind: str  # one of MOMENTS
    start: int
    tensor: Tensor  # 1-D fp32 view; writing into it changes the state


class Engine:
    """A model in training. All methods are collective: every rank calls them alike."""

    def __init__(self, config: Config, world: World, known: Callable[[str], Tensor | None] = lambda name: None) -> None:
        """known: values of the parameters that begin where another run ended, by name."""
        self.config, self.world = config, world
        self.device = world.device
        self.stage = zero_stage(config)
        self._deepspeed = import_deepspeed(self.device.type)
        settings = deepspeed_settings(config)
        self.accumulation = settings["gradient_accumulation_steps"]
        os.environ.setdefault("LOCAL_RANK", str(world.local_rank))  # DeepSpeed asks for it even where it is alone
        self._deepspeed.init_distributed(dist_backend="nccl" if self.device.type == "cuda" else "gloo", verbose=False)

        self.model = self._build(settings, known)
        self._autocast()
        # Any: DeepSpeed hangs attributes of its own on them
        self.parameters: dict[str, Any] = {
            name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad
        }
        self._engine, self._optimizer, _, _ = self._deepspeed.initialize(
            model=self.model, optimizer=adamw(self.model, config.optim), config=settings, dist_init_required=False
        )
        if config.engine.compile:
            self._engine.compile()
        self._keep_norm()
        self.passes = 0  # forward and backward passes of this rank so far
        self._forwards = Stopwatch(self.device)

    # --- building ---

    def _build(self, settings: dict[str, Any], known: Callable[[str], Tensor | None]) -> nn.Module:
        partitioned = self.stage == 3
        born: AbstractContextManager[Any] = torch.device("cpu")
        if partitioned:  # no rank ever holds the whole model
            # Without dtype: DeepSpeed reads "float32" there as half precision on hosts that support it.
            born = self._deepspeed.zero.Init(config_dict_or_path=settings)
        with born:
            model = build(self.config)
        gathered = self._gathered if partitioned else lambda parameter: nullcontext()
        initialize(model, self.config.seed, gathered, known)
        model.recompute = self.config.engine.activation_checkpointing
        return model

    def _gathered(self, parameter: nn.Parameter) -> AbstractContextManager[Any]:
        return self._deepspeed.zero.GatheredParameters([parameter], modifier_rank=0)

    def _autocast(self) -> None:
        """bf16 inside the forward pass. DeepSpeed's own autocast would also round the reduced gradients."""
        if precision(self.config) == "bf16":
            inner, device_type = self.model.forward, self.device.type
            # The cache would keep a bf16 copy of every weight until the end of the pass, all that recomputation saves.
            keep = not self.config.engine.activation_checkpointing

            def forward(*args: Any, **kwargs: Any) -> Any:
                with torch.autocast(device_type, dtype=torch.bfloat16, cache_enabled=keep):
                    return inner(*args, **kwargs)

            self.model.forward = forward  # type: ignore[method-assign]

    def _keep_norm(self) -> None:
        """The norm is wanted before the step; DeepSpeed, which measures it inside, is given what was measured."""
        if self.stage:
            from deepspeed.runtime.utils import combine_grad_norm_groups

            name = "_get_norm_groups" if self.stage == 3 else "scaled_global_norm"
            self._combined_norm, self._measure_norm = combine_grad_norm_groups, getattr(self._optimizer, name)
            setattr(self._optimizer, name, lambda *_: self._norm)

    # --- stepping ---

    def tensors(self, batch: MicroBatch) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array).to(self.device, non_blocking=True) for name, array in batch.items()}

    def forward_backward(
        self, micro_batches: Sequence[MicroBatch], global_targets: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradients of the mean loss over the step's global targets. Returns this rank's loss sum and side sums."""
        assert len(micro_batches) == self.accumulation, (len(micro_batches), self.accumulation)
        # DeepSpeed divides by the accumulation steps and averages over ranks; undo both and divide by the true count.
        scale = self.world.size * self.accumulation / max(global_targets, 1.0)
        total = torch.zeros((), device=self.device)
        sums: dict[str, Tensor] = {}
        self._forwards.clear()
        for index, batch in enumerate(micro_batches):
            tensors = self.tensors(batch)
            with self._forwards:
                loss, _, side = self._engine(**tensors)
            self.passes += 1
            self._engine.backward(loss * scale)
            self.passes += 1
            total += loss.detach()
            for name, value in side.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
            if index + 1 < len(micro_batches):
                self._engine.step()  # counts the micro-batch; the update waits for the last one
        return total, sums

    @property
    def forward_seconds(self) -> float:
        """Of the last step's forward passes, which wait for no other rank; 0 at stage 3, where they gather weights."""
        return self._forwards.seconds() if self.stage < 3 else 0.0

    def gradient_norm(self) -> float:
        """Of the step's gradients over all ranks, before clipping; infinite where any of them is not finite."""
        if self.stage == 0:
            found = [p.grad for p in self.parameters.values() if p.grad is not None]
            self._norm = nn.utils.get_total_norm(found)
            return float(self._norm)
        if self.stage < 3:
            self._optimizer._wait_for_offload_copies()
        self._norm = self._measure_norm()
        return float(self._combined_norm(self._norm) if self.stage == 3 else self._norm)

    def update(self, lr: float) -> None:
        """One optimizer step with the gradients that `gradient_norm` measured."""
        set_learning_rate(self._optimizer, lr)
        if self.stage == 0 and self.config.optim.clip is not None:  # DeepSpeed would clip but not tell the norm
            nn.utils.clip_grads_with_norm_(self.parameters.values(), self.config.optim.clip, self._norm)
        self._engine.step()

    def skip_update(self) -> None:
        """Forget the step's gradients, whatever they hold: weights and optimizer stay as they are, to the bit."""
        for _ in self.moments():  # DeepSpeed links the optimizer's state after a step, so it must be there
            pass
        inner = getattr(self._optimizer, "optimizer", self._optimizer)
        inner.step = lambda *_: None
        try:
            self._engine.step()
        finally:
            del inner.step

    @torch.no_grad()
    def evaluate(self, batches: Iterator[MicroBatch]) -> tuple[float, float]:
        """Loss sum and target count over all ranks' batches; every rank brings equally many."""
        self._engine.eval()
        loss_sum, targets = 0.0, 0.0
        for batch in batches:
            loss, count, _ = self._engine(**self.tensors(batch))
            loss_sum, targets = loss_sum + float(loss), targets + float(count)
        self._engine.train()
        total = self.world.sum(loss_sum, targets)
        return total[0], total[1]

    def memory_peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else host_memory_peak()

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    # --- state, for checkpoints ---

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(getattr(p, "ds_shape", p.shape)) for name, p in self.parameters.items()}

    @torch.no_grad()
    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter, whole, one after the other."""
        for name, parameter in self.parameters.items():
            if self.stage == 3:
                with self._deepspeed.zero.GatheredParameters([parameter]):
                    yield name, parameter.data
            else:
                yield name, parameter.data

    def moments(self, *, to_save: bool = False) -> Iterator[Fragment]:
        """This rank's fragments of AdamW's moments, created as zeros where no step was taken yet. At stage 0 every rank
        holds everything; `to_save` then yields only an equal share of it."""
        for name, parameter in self.parameters.items():
            if self.stage == 0:
                state = self._state(parameter)
                share = -(-parameter.numel() // self.world.size) if to_save else parameter.numel()
                start = min(share * self.world.rank, parameter.numel()) if to_save else 0
                numel = min(share, parameter.numel() - start)
                for kind in MOMENTS if numel else ():
                    yield Fragment(name, kind, start, state[kind].view(-1).narrow(0, start, numel))
            elif self.stage in (1, 2):
                mapping = parameter._hp_mapping  # None where this rank holds nothing of it
                if mapping is not None:
                    flat = self._optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
                    state, address = self._state(flat), mapping.hp_fragment_address
                    for kind in MOMENTS:
                        tensor = state[kind].narrow(0, address.start, address.numel)
                        yield Fragment(name, kind, mapping.lp_fragment_address.start, tensor)
            else:
                group, offset, padded = self._optimizer.grad_position[self._optimizer.get_param_id(parameter)]
                state = self._state(self._optimizer.fp32_partitioned_groups_flat[group])
                start = min(padded * self.world.rank, parameter.ds_numel)
                numel = min(padded, parameter.ds_numel - start)
                for kind in MOMENTS if numel else ():
                    yield Fragment(name, kind, start, state[kind].narrow(0, offset, numel))

    def _state(self, parameter: Tensor) -> dict[str, Tensor]:
        inner = getattr(self._optimizer, "optimizer", self._optimizer)
        state = inner.state[parameter]
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for kind in MOMENTS:
                state[kind] = torch.zeros_like(parameter, memory_format=torch.preserve_format).detach()
        return state

    @torch.no_grad()
    def load(self, step: int, read: Callable[[str, str, int, int], Tensor]) -> None:
        """Take over the state after `step` updates; `read(name, kind, start, numel)` gives fp32 stretches of a
        flattened parameter, kind "weight" or one of MOMENTS."""
        for fragment in self.moments():
            fragment.tensor.copy_(read(fragment.name, fragment.kind, fragment.start, fragment.tensor.numel()))
        for name, parameter in self.parameters.items():
            if self.stage == 3:
                group, offset, padded = self._optimizer.grad_position[self._optimizer.get_param_id(parameter)]
                start = min(padded * self.world.rank, parameter.ds_numel)
                numel = min(padded, parameter.ds_numel - start)
                if numel:
                    values = read(name, "weight", start, numel)
                    parameter.ds_tensor.view(-1).narrow(0, 0, numel).copy_(values)
                    self._optimizer.fp32_partitioned_groups_flat[group].narrow(0, offset, numel).copy_(values)
                continue
            parameter.view(-1).copy_(read(name, "weight", 0, parameter.numel()))
            mapping = getattr(parameter, "_hp_mapping", None)
            if mapping is not None:  # stages 1 and 2 step on a copy of their own
                address = mapping.lp_fragment_address
                mapping.get_hp_fragment().copy_(parameter.view(-1).narrow(0, address.start, address.numel))
        if self.stage == 3 and (kept := self._optimizer.persistent_parameters):
            kept[0].partition(kept, has_been_updated=False)  # small ones are kept whole: gather them anew
        inner = getattr(self._optimizer, "optimizer", self._optimizer)
        for state in inner.state.values():
            state["step"].fill_(step)

    def close(self) -> None:
        """Before the process group goes: an engine that outlives it can abort the process."""
        self._engine.destroy()
        torch.distributed.destroy_process_group()
