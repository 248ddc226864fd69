"""The groups that decide speed, memory and price, and never the outcome, but for keys that are marked as numerics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from trainer.config.choice import Choosing, with_keys
from trainer.config.division import a_partition
from trainer.config.recomputation import a_recomputation
from trainer.descriptions.evaluations import EVALUATIONS
from trainer.descriptions.hooks import HOOKS
from trainer.descriptions.trackers import TRACKERS
from trainer.utils.errors import nearest
from trainer.utils.schema import Count, NoTruth, Paths, Section, Steps, folder_path, key, plain_name


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


# Peaks that datasheets print with sparsity (or for FP8): twice what dense 16-bit work can reach.
SPARSE_PEAKS = {
    624e12: "A100",
    733e12: "L40S",
    1513e12: "H100 PCIe",
    1671e12: "H100 NVL",
    1979e12: "H100 and H200",
    2615e12: "MI300X",
    4500e12: "B200",
}


DTYPES = ("bf16", "fp16", "tf32", "fp32", "fp8")


ARCHITECTURES = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "gfx942", "gfx950")


def an_architecture(value: str) -> str:
    """What kernels are compiled for, a chip's nearest one below (sm_100 for sm_103). Raises ValueError."""
    if value in ARCHITECTURES:
        return value
    raise ValueError(
        f"{value!r} is no architecture; there is {', '.join(ARCHITECTURES)}{nearest(value, ARCHITECTURES)}"
    )


def a_dtype(value: str) -> str:
    """A dtype that datasheets state peaks for. Raises ValueError."""
    if value in DTYPES:
        return value
    raise ValueError(f"{value!r} is no dtype; there is {', '.join(DTYPES)}{nearest(value, DTYPES)}")


class MachineConfig(Section):
    """What the datasheet says about one device; null where it is not stated."""

    name: str = key("unstated", "name of the device")
    architecture: Annotated[str, AfterValidator(an_architecture)] | None = key(
        None, "what kernels are compiled for, e.g. sm_90, by which kernels.attention=auto chooses", introduced=None
    )
    peak_flops: dict[str, float] = key({}, f"dense peak by dtype ({', '.join(DTYPES)}), never a sparse one", "FLOP/s")
    memory_bytes: Count | None = key(None, "memory of one device", "bytes", gt=0)
    memory_bandwidth: float | None = key(None, "between a device and its memory", "B/s", gt=0)
    link_bandwidth: float | None = key(None, "of one device to the others of its host, one direction", "B/s", gt=0)
    network_bandwidth: float | None = key(None, "of one device to other hosts, one direction", "B/s", gt=0)
    host_bandwidth: float | None = key(
        None, "of one device to its host's memory, one direction, for offload", "B/s", gt=0, introduced=None
    )
    devices_per_host: int | None = key(None, "devices that share the links of one host", "devices", ge=1)
    software: int | None = key(
        None,
        "year of the software that shares of the peak are taken of; null: the newest there are",
        ge=2017,
        le=2100,
        introduced=None,
    )
    power_watts: float | None = key(None, "board power of one device", "W", gt=0)
    embodied_kgco2e: float | None = key(None, "emissions of making one device", "kg CO2e", gt=0)
    lifetime_hours: float | None = key(None, "hours over which they are spread", "h", gt=0)
    source: str | None = key(None, "the datasheet's name")
    driver_names: Paths = key((), "what drivers call the device, by which a host's is recognised", introduced=())

    @field_validator("peak_flops")
    @classmethod
    def _dense(cls, peaks: dict[str, float]) -> dict[str, float]:
        for dtype, peak in peaks.items():
            a_dtype(dtype)
            if peak <= 0:
                raise ValueError(f"{dtype}: {peak} is not a positive number of FLOP/s")
            if dtype in ("bf16", "fp16") and peak in SPARSE_PEAKS:
                whose = SPARSE_PEAKS[peak]
                raise ValueError(f"{dtype}: {peak:g} is the sparse (or FP8) peak of {whose}; dense is {peak / 2:g}")
        return peaks


def a_currency(value: Any) -> str:
    """A currency's code or sign. Raises ValueError."""
    if isinstance(value, str) and re.fullmatch(r"[^\W\d_]{1,4}|[^\w\s]", value):
        return value
    raise ValueError(f"{value!r} is no currency; write e.g. USD")


def a_date(value: Any) -> str:
    """A year, a month or a day, as 2026, 2026-11 or 2026-11-24. Raises ValueError."""
    text = str(value)
    if re.fullmatch(r"(19|20)\d\d(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?", text):
        return text
    raise ValueError(f"{text!r} is no date; write 2026, 2026-11 or 2026-11-24")


def a_gram(value: Any) -> str:
    """The unit of an intensity, where it has to be said. Raises ValueError."""
    if value == "g":
        return "g"
    raise ValueError(f"{value!r} given; g says that grams are meant (kgco2e_per_kwh takes kilograms)")


MOST_GRAMS = 2000.0  # a kWh, of any grid


def no_intensity(grams: float, way: str, *, meant: bool = False) -> str | None:
    """What is wrong with an intensity in g/kWh, or null. Between 0 and 1 g are a few grids of water and wind, and far
    more often kilograms: such a number is taken where `way` says that grams are meant."""
    if grams == 0 or 1 <= grams <= MOST_GRAMS or (meant and 0 < grams < 1):
        return None
    if 0 < grams < 1:
        return (
            f"{grams:g} g/kWh is less than nearly any grid has; {grams:g} kg would be {grams * 1000:g} (grams: {way})"
        )
    return f"{grams:g} g/kWh is no grid's intensity (0 to {MOST_GRAMS:g} grams per kWh)"


class SiteConfig(Section):
    """Where the energy comes from and what things cost there; null where it is not stated."""

    name: str = key("unstated", "name of the site")
    pue: float | None = key(None, "power usage effectiveness: facility over IT energy", ge=1, le=10)
    intensity_unit: Literal["g"] | None = key(
        None, "g: an intensity of less than 1 g/kWh is meant, and not one in kg", introduced=None
    )
    gco2e_per_kwh: float | None = key(None, "grid intensity", "g/kWh", ge=0, le=2000)
    market_gco2e_per_kwh: float | None = key(None, "the same after contracts (market-based)", "g/kWh", ge=0, le=2000)
    intensity_year: int | None = key(None, "year of the intensity", ge=1990, le=2100)
    intensity_source: str | None = key(None, "who published the intensity")
    curve: str | None = key(
        None, "CSV file of the intensity by time, in place of the yearly one (docs/carbon.md)", introduced=None
    )
    curve_kind: Literal["average", "marginal"] | None = key(
        None, "which intensity of the curve; null: the only one of the file, of two the average", introduced=None
    )
    curve_repeats: bool = key(False, "the curve is of typical days, and stands for all others", introduced=False)
    wue_l_per_kwh: float | None = key(
        None, "water that the facility uses (WUE), a kWh of the devices", "l/kWh", ge=0, le=100, introduced=None
    )
    water_l_per_kwh: float | None = key(
        None, "water that making electricity uses, a kWh of the facility", "l/kWh", ge=0, le=1000, introduced=None
    )
    water_source: str | None = key(None, "who published the use of water", introduced=None)
    price_per_device_hour: float | None = key(None, "rent of one device", "currency/h", ge=0)
    price_per_kwh: float | None = key(None, "price of energy", "currency/kWh", ge=0)
    currency: Annotated[str, BeforeValidator(a_currency)] | None = key(None, "currency of the prices, e.g. USD")
    price_date: Annotated[str, BeforeValidator(a_date)] | None = key(None, "date of the prices, e.g. 2026-11")

    @field_validator("gco2e_per_kwh", mode="before")
    @classmethod
    def _in_grams(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, float | int) and not isinstance(value, bool):
            meant = info.data.get("intensity_unit") == "g"
            if wrong := no_intensity(value, "site.intensity_unit=g", meant=meant):
                raise ValueError(wrong)
        return value

    @model_validator(mode="after")
    def _complete(self) -> SiteConfig:
        prices = [name for name in ("price_per_device_hour", "price_per_kwh") if getattr(self, name) is not None]
        if len(prices) > 1:
            raise ValueError("price_per_kwh: a device's rent already pays for its energy; state one of the two prices")
        if prices and not (self.currency and self.price_date):
            raise ValueError(f"{prices[0]}: a price needs site.currency and site.price_date")
        if self.gco2e_per_kwh is not None and not (self.intensity_source and self.intensity_year):
            raise ValueError("gco2e_per_kwh: an intensity needs site.intensity_source and site.intensity_year")
        water = [name for name in ("wue_l_per_kwh", "water_l_per_kwh") if getattr(self, name) is not None]
        if water and not self.water_source:
            raise ValueError(f"{water[0]}: a use of water needs site.water_source")
        needs = [name for name in ("curve_kind", "curve_repeats") if getattr(self, name)]
        if needs and self.curve is None:
            raise ValueError(f"{needs[0]}: there is no curve; name its file with site.curve")
        return self


class MeterConfig(Section):
    """The instruments."""

    every_seconds: float = key(5.0, "time between two readings of the energy counters", "s", gt=0, le=60)
    thread_watts_low: float = key(1.5, "where no counter is: a busy CPU thread draws at least", "W", gt=0)
    thread_watts_high: float = key(7.0, "where no counter is: a busy CPU thread draws at most", "W", gt=0)
    host_idle_watts: float | None = key(
        None, "where no counter is: what a host draws idle, of which one has the sole use", "W", gt=0, introduced=None
    )
    memory_watts: float | None = key(
        None, "where no counter is: what the memory of a host draws", "W", gt=0, introduced=None
    )
    unmetered_factor: float | None = key(
        None, "energy of all that computes and connects over that of what is metered", ge=1, le=10, introduced=None
    )
    unmetered_source: str | None = key(None, "who published that factor", introduced=None)

    @model_validator(mode="after")
    def _sourced(self) -> MeterConfig:
        if self.unmetered_factor is not None and not (self.unmetered_source or "").strip():
            raise ValueError("unmetered_factor: a factor needs meter.unmetered_source, who published it")
        return self

    @model_validator(mode="after")
    def _interval(self) -> MeterConfig:
        if self.thread_watts_low > self.thread_watts_high:
            raise ValueError(
                f"thread_watts_low: {self.thread_watts_low} is more than thread_watts_high {self.thread_watts_high}"
            )
        return self


@with_keys
class TrackerConfig(Choosing):
    """Who hears of the steps: the terminal, metrics.jsonl, Weights & Biases."""

    ALL: ClassVar = TRACKERS

    every_steps: int = key(10, "steps between two plain lines and two W&B log calls", "steps", ge=1)


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
        return str(Path(value).expanduser())  # shells leave the ~ of run.root=~/runs alone

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
