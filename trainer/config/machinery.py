"""The groups that decide speed, memory and price, and never the outcome, but for keys that are marked as numerics."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from trainer.config.choice import Choosing, with_keys
from trainer.config.division import a_partition
from trainer.config.recomputation import a_recomputation
from trainer.config.samples import SamplesConfig
from trainer.descriptions.evaluations import EVALUATIONS
from trainer.descriptions.hooks import HOOKS
from trainer.descriptions.trackers import TRACKERS
from trainer.utils.errors import nearest
from trainer.utils.home import expanded
from trainer.utils.schema import Count, NoTruth, Section, Steps, folder_path, key, plain_name


def on_off_or_auto(value: Any) -> Any:
    """true, false or auto. Raises ValueError."""
    if isinstance(value, bool) or value == "auto":
        return value
    meant = nearest(value, ["true", "false", "auto"]) if isinstance(value, str) else ""
    raise ValueError(f"{value!r} given; true, false or auto wanted{meant}")


class EngineConfig(Section):
    """DeepSpeed: how the work is divided and in which precision it is done."""

    zero_stage: Annotated[Literal[0, 1, 2, 3] | None, NoTruth] = key(
        None, "ZeRO stage; null: 0 on one rank, 1 on several"
    )
    micro_batch: int | None = key(
        None, "sequences per rank and forward pass; null: all of the rank's share, 16 at most", "sequences", ge=1
    )
    precision: Literal["auto", "fp32", "bf16"] = key(
        "auto",
        "arithmetic of matrix products; auto: bf16 where the device has it. Weights and optimizer stay fp32",
        kind="numerics",
    )
    linear: Literal["bf16", "fp8"] = key(
        "bf16",
        "products of the blocks' linear layers in training; bf16: as engine.precision says; fp8: of operands in 8 "
        "bits, each scaled by its largest number (needs bf16, and a GPU of sm_89 or newer or a CPU)",
        kind="numerics",
        introduced="bf16",
    )
    wire: Literal["fp32", "bf16"] = key(
        "fp32",
        "weights on their way between ranks (ZeRO 1-3); bf16: half the bytes, where autocast would round them anyway",
        introduced="fp32",
    )
    wire_gradients: Literal["fp32", "bf16"] = key(
        "fp32",
        "gradients on their way between ranks (ZeRO 1-3); bf16: half the bytes, rounded before they are added up",
        kind="numerics",
        introduced="fp32",
    )
    keep_gathered: bool = key(
        False,
        "gather weights once a step instead of in every micro-batch (ZeRO 3), where memory allows",
        introduced=False,
    )
    partition: Annotated[Literal["world", "node"] | int, BeforeValidator(a_partition)] = key(
        "world",
        "ranks that weights are gathered from (ZeRO 3): all, those of a host, or groups of so many; states are divided "
        "over all (hpZ)",
        introduced="world",
    )
    sequence_parallel: int = key(1, "ranks that share each sequence", "ranks", ge=1, introduced=1)
    sequence_kind: Literal["ulysses", "ring"] = key(
        "ulysses",
        "how they attend; ulysses: heads for positions, all to all; ring: keys and values go around",
        introduced="ulysses",
    )
    expert_parallel: int = key(1, "ranks that share the experts of each layer", "ranks", ge=1, introduced=1)
    offload_optimizer: bool = key(False, "keep optimizer states in host memory (ZeRO 1-3)")
    offload_parameters: bool = key(False, "keep parameters in host memory (ZeRO 3)")
    activation_checkpointing: Annotated[
        bool | Annotated[int, Field(ge=1)] | Literal["selective"], BeforeValidator(a_recomputation)
    ] = key(
        False,
        "compute again in the backward pass what is not kept: true: each block; n: every n-th; "
        "selective: attention's scores, which only backends without fused scores keep",
    )
    feed_forward_tile: int | None = key(
        None,
        "positions of a sequence that a feed-forward computes at a time, and again in the backward pass, so that its "
        "inside is there for these alone; null: all, and it is kept",
        "tokens",
        ge=1,
        introduced=None,
    )
    compile: Annotated[bool | Literal["auto"], BeforeValidator(on_off_or_auto)] = key(
        "auto", "torch.compile the model (needs a C++ compiler on CPU); auto: on a GPU, where that is known to work"
    )
    dry_run: bool = key(
        False, "before step 1, a step on the longest sequences that is thrown away, so that the memory peak is known"
    )
    device: Literal["auto", "cpu", "cuda"] = key("auto", "where to compute; auto: cuda if there is one")
    data_workers: int = key(
        1, "threads that draw batches ahead of the model; 0: between the steps", "threads", ge=0, le=64
    )
    threads: int | None = key(
        None,
        "CPU threads per rank; null: OMP_NUM_THREADS, else the cores that this process may use / ranks",
        "threads",
        ge=1,
    )
    deepspeed: dict[str, Any] = key(
        {}, "any raw DeepSpeed key, e.g. engine.deepspeed.zero_optimization.reduce_bucket_size=5e7"
    )

    def micro_batch_of(self, share: int) -> int:
        """Sequences of a forward pass, of a rank's share of a step: as asked for, else its fewest parts of up to 16."""
        if self.micro_batch is not None:
            return min(self.micro_batch, share)
        return -(-share // -(-share // 16))

    @model_validator(mode="after")
    def _offload_fits(self) -> EngineConfig:
        if self.offload_optimizer and self.zero_stage not in (1, 2, 3):
            raise ValueError("offload_optimizer: needs engine.zero_stage=1, 2 or 3")
        if self.offload_parameters and self.zero_stage != 3:
            raise ValueError("offload_parameters: needs engine.zero_stage=3")
        if self.linear == "fp8" and self.precision == "fp32":
            raise ValueError("linear: fp8 needs engine.precision=bf16, fp32 given")
        return self


class KernelsConfig(Section):
    """Which implementation computes; a switch changes speed, never the outcome."""

    attention: Literal["auto", "triton", "sdpa", "reference"] = key("auto", "backend of attention")
    backward: Literal["two_pass", "ordered"] = key(
        "two_pass", "of Triton's attention: scores twice, or once with dQ added in order", introduced="two_pass"
    )
    norm: Literal["auto", "triton", "torch", "reference"] = key("auto", "of RMSNorm and LayerNorm")
    rotary: Literal["auto", "triton", "torch", "reference"] = key("auto", "of rotary positions")
    gated: Literal["auto", "triton", "torch", "reference"] = key("auto", "of SwiGLU and GeGLU")
    loss: Literal["auto", "triton", "chunked", "torch", "reference"] = key(
        "auto", "of the output layer with its loss; triton and chunked never hold all logits"
    )
    dropout: Literal["auto", "triton", "torch", "reference"] = key("auto", "of dropout", introduced="auto")
    experts: Literal["auto", "torch", "reference"] = key(
        "auto", "of the grouped products of a mixture of experts", introduced="auto"
    )

    @property
    def need_gpu(self) -> list[str]:
        """The keys that ask for Triton, which runs on GPUs alone."""
        return [name for name, backend in self if backend == "triton"]


def _words(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Alerts = Annotated[tuple[Literal["spike", "halt", "end"], ...], BeforeValidator(_words)]


@with_keys
class TrackerConfig(Choosing):
    """Who hears of the steps: the terminal and metrics.jsonl, and those that are added: tracker=[wandb,tensorboard]."""

    ALL: ClassVar = TRACKERS

    every_steps: int = key(10, "steps between two plain lines, and two log calls of other trackers", "steps", ge=1)
    alerts: Alerts = key(
        (),
        "of what W&B, MLflow and TensorBoard alert people: spike, halt, end",
        introduced=[],
    )
    samples: SamplesConfig = key(SamplesConfig(), "text that the model writes as it learns", introduced={})


@with_keys
class HooksConfig(Choosing):
    """What observes a training from inside; the keys are those of plugins."""

    ALL: ClassVar = HOOKS


class CheckpointConfig(Section):
    """When to save, and what to keep."""

    asynchronous: bool = key(True, "write in the background from a copy in host memory; false: the step waits")
    every_steps: int | None = key(200, "steps between two checkpoints; null: only at the end", "steps", ge=1)
    keep_last: int = key(2, "newest checkpoints to keep", "checkpoints", ge=1)
    keep_every: int | None = key(None, "keep for good those whose step is a multiple of this", "steps", ge=1)
    keep_best: bool = key(True, "keep the checkpoint with the lowest held-out loss")
    at_steps: Steps = key(
        (), "steps after which to save too, and whose checkpoints are kept, e.g. for branches", "steps", introduced=[]
    )

    def at(self, step: int) -> bool:
        """Whether to save after this step."""
        return step in self.at_steps or (self.every_steps is not None and step % self.every_steps == 0)


@with_keys
class EvaluationConfig(Choosing):
    """Held-out loss during the run, and what else is asked of the model."""

    ALL: ClassVar = EVALUATIONS

    every_steps: int | None = key(200, "steps between two evaluations; null: only at the end", "steps", ge=1)
    samples: int | None = key(None, "held-out samples an evaluation reads; null: all", "sequences", ge=1)
    tasks_every_steps: Count | None = key(
        None,
        "steps between two times that tasks are asked; null: whenever the loss is measured",
        "steps",
        ge=1,
        introduced=None,
    )
    tasks_every_tokens: Count | None = key(
        None, "the same in training tokens: after each step that reaches a multiple", "tokens", ge=1, introduced=None
    )

    @model_validator(mode="after")
    def _one_interval(self) -> EvaluationConfig:
        given = [name for name in ("tasks_every_steps", "tasks_every_tokens") if getattr(self, name) is not None]
        if len(given) == 2:
            raise ValueError("tasks_every_tokens: evaluation.tasks_every_steps is given too; state one of the two")
        if given and not self.asks:
            raise ValueError(f"{given[0]}: nothing is asked; add evaluation.tasks=[...]")
        return self

    @property
    def asks(self) -> bool:
        """Whether the model is asked more than its held-out loss."""
        return bool(self.taking_part)

    def due(self, step: int, tokens: int, before: int) -> tuple[bool, bool]:
        """After `step` updates on so many tokens, `before` of them before the last update: whether the held-out loss is
        measured, and whether more is asked, with which the loss is always measured. At the end both are."""
        loss = self.every_steps is not None and step % self.every_steps == 0
        if not self.asks:
            return loss, False
        if self.tasks_every_steps is not None:
            asked = step % self.tasks_every_steps == 0
        elif self.tasks_every_tokens is not None:
            asked = tokens // self.tasks_every_tokens > before // self.tasks_every_tokens
        else:
            asked = loss
        return loss or asked, asked


class RunConfig(Section):
    """Where the run lives."""

    root: str = key("runs", "folder of all runs and of their ledger")
    project: str | None = key(
        None, "what the run is of: one ledger adds up all that a project cost, e.g. a paper", introduced=None
    )
    experiment: str | None = key(None, "folder under the root; null: <model>-<objective>-<data>")
    id: str | None = key(
        None, "folder under the experiment; null: date, time and science hash. The same id continues the run"
    )
    cache: str | None = key(
        None,
        "folder of tokenizers and token shards; null: $ISOFLOP_CACHE, $XDG_CACHE_HOME/isoflop or ~/.cache/isoflop",
    )

    @field_validator("root", "cache")
    @classmethod
    def _folder(cls, value: str | None) -> str | None:
        return None if value is None else folder_path(value)

    @field_validator("root")
    @classmethod
    def _own_home(cls, value: str) -> str:
        return str(expanded(value))  # shells leave the ~ of run.root=~/runs alone

    @field_validator("project", "experiment", "id")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        return None if value is None else plain_name(value)


class FaultsConfig(Section):
    """What is noticed, and when."""

    wall_seconds: float | None = key(
        None, "time this attempt may take, checkpoint included; null: what SLURM says, else no limit", "s", gt=0
    )
    hang_factor: float = key(20.0, "a step that takes this many times the median has hung", gt=1)
    hang_seconds: float = key(300.0, "but none that takes less", "s", gt=0)
    straggler_factor: float = key(1.3, "a rank that computes this many times as long as the median rank is told", gt=1)
    straggler_steps: int = key(50, "steps between two comparisons of the ranks", "steps", ge=1)
