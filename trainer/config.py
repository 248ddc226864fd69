"""The typed schema: the one place where a key gets a type, a unit, a bound and a sentence of help.

A group is *science* (it decides the outcome) or *machinery* (it decides speed, memory and price). `science_hash` is the
identity of an experiment: a resume may change any machinery and no science without saying so.

This module imports neither torch nor hydra: ranks, books and reports read a frozen `config.yaml` through it.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

SCIENCE = ("model", "objective", "data", "tokenizer", "optim", "budget", "seed")
MACHINERY = ("engine", "kernels", "launch", "machine", "site", "meter", "tracker", "checkpoint", "evaluation", "run")


def _count(value: Any) -> Any:
    """Accept 5e6, "5m" and "1.5b" where a whole number is wanted."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([kmbt]?)\s*", value.lower())
        if match:
            value = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}[match[2]]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _paths(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Count = Annotated[int, BeforeValidator(_count)]
Paths = Annotated[tuple[str, ...], BeforeValidator(_paths)]


def key(default: Any, help: str, unit: str | None = None, **bounds: Any) -> Any:
    """One configuration key: its default, its sentence of help, its unit and its bounds."""
    return Field(default, description=help, json_schema_extra={"unit": unit} if unit else None, **bounds)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=(), ser_json_inf_nan="null")


# --- science ---------------------------------------------------------------------------------------------------------


class ModelConfig(Section):
    """A transformer, described in full; a published architecture is a file in conf/model."""

    name: str = key("llama-mini", "name of the preset, shown in reports and used in the run's folder")
    family: Literal["decoder"] = key("decoder", "which assembly of blocks")
    vocabulary: Count | None = key(None, "rows of the embedding; null: the tokenizer's pieces, rounded up to 64", "tokens", ge=1)
    depth: int = key(4, "number of blocks", "layers", ge=1)
    width: int = key(256, "size of the residual stream", "channels", ge=1)
    heads: int = key(4, "query heads per attention layer", "heads", ge=1)
    kv_heads: int | None = key(None, "key and value heads (grouped queries); null: as many as heads", "heads", ge=1)
    head_size: int | None = key(None, "channels per head; null: width / heads", "channels", ge=1)
    ffn_width: int | None = key(None, "hidden size of the feed-forward; null: 4 width, or 8/3 width if gated", "channels", ge=1)
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = key("silu", "nonlinearity of the feed-forward")
    gated: bool = key(True, "gated feed-forward (SwiGLU with silu, GeGLU with gelu)")
    norm: Literal["layernorm", "rmsnorm"] = key("rmsnorm", "normalisation before each branch")
    norm_epsilon: float = key(1e-5, "added to the variance", gt=0)
    position: Literal["learned", "rotary"] = key("rotary", "position scheme")
    rotary_base: float = key(10_000.0, "base of the rotary frequencies", gt=1)
    max_length: int | None = key(None, "rows of the learned position table; null: data.sequence_length", "tokens", ge=1)
    bias: bool = key(False, "additive biases in linear layers and LayerNorm")
    tied: bool = key(True, "output head shares the embedding matrix")
    init_std: float = key(0.02, "standard deviation of the initial weights", gt=0)
    init_residual: bool = key(True, "divide it by sqrt(2 depth) for the projections into the residual stream (GPT-2)")

    @property
    def head_channels(self) -> int:
        return self.head_size or self.width // self.heads

    @property
    def key_heads(self) -> int:
        return self.kv_heads or self.heads

    @property
    def ffn_channels(self) -> int:
        if self.ffn_width:
            return self.ffn_width
        return -(-8 * self.width // (3 * 64)) * 64 if self.gated else 4 * self.width

    @model_validator(mode="after")
    def _heads_fit(self) -> ModelConfig:
        if self.head_size is None and self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide width {self.width}; choose a divisor or set model.head_size")
        if self.heads % self.key_heads:
            raise ValueError(f"kv_heads: {self.kv_heads} does not divide heads {self.heads}")
        if self.position == "rotary" and self.head_channels % 2:
            raise ValueError(f"head_size: rotary positions need an even number of channels per head, got {self.head_channels}")
        return self


class ObjectiveConfig(Section):
    """How text becomes a training example."""

    name: Literal["causal"] = key("causal", "pre-training objective")


class DataConfig(Section):
    """Which text, and how much of it a sample holds."""

    name: Literal["stdlib", "text"] = key("stdlib", "corpus: Python's own standard library, or text files of yours")
    path: Paths = key((), "files, folders or globs of text (.txt, .md, .py, ...) and JSONL; for data=text")
    field: str = key("text", "name of the JSONL field that holds a document's text")
    document: Literal["file", "paragraph", "line"] = key("file", "what one document is in a plain text file")
    sequence_length: int = key(256, "tokens per sample", "tokens", ge=8)
    held_out: float = key(0.05, "share of the documents (chosen by hash) that is never trained on", gt=0, lt=0.5)


class TokenizerConfig(Section):
    """Sentencepiece, lossless, with byte fallback."""

    name: Literal["unigram", "bpe"] = key("bpe", "kind of sentencepiece model to train")
    vocabulary: Count = key(4096, "pieces, bytes and special tokens", "tokens", ge=300, le=1_000_000)
    sentinels: int = key(100, "special tokens <extra_id_0> ... for objectives that replace spans", "tokens", ge=0, le=10_000)
    training_bytes: Count = key(16_000_000, "most text that the tokenizer is trained on", "bytes", ge=1)
    path: str | None = key(None, "an existing sentencepiece .model file instead of training one")


class OptimConfig(Section):
    """AdamW with decay on matrices only, and its schedule."""

    lr: float = key(3e-3, "peak learning rate", gt=0)
    schedule: Literal["cosine", "linear", "wsd", "constant"] = key("cosine", "shape after warm-up (wsd: warm-up, stable, decay)")
    warmup_steps: int | None = key(None, "linear warm-up; null: a tenth of the run, 2000 at most", "steps", ge=0)
    decay_fraction: float = key(0.2, "share of the steps that the final decay of wsd takes", gt=0, le=1)
    min_lr_ratio: float = key(0.1, "final over peak learning rate", ge=0, le=1)
    beta1: float = key(0.9, "decay of the first moment", ge=0, lt=1)
    beta2: float = key(0.95, "decay of the second moment", ge=0, lt=1)
    epsilon: float = key(1e-8, "added to the root of the second moment", gt=0)
    weight_decay: float = key(0.1, "decoupled decay of matrices; norms and biases are not decayed", ge=0)
    clip: float | None = key(1.0, "largest global gradient norm; null: no clipping", gt=0)
    batch_size: int = key(32, "sequences per optimizer step, over all ranks", "sequences", ge=1)


class BudgetConfig(Section):
    """When the run ends: state exactly one."""

    steps: Count | None = key(None, "optimizer steps", "steps", ge=1)
    tokens: Count | None = key(None, "training tokens, rounded up to whole steps", "tokens", ge=1)

    @model_validator(mode="after")
    def _one(self) -> BudgetConfig:
        stated = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(stated) != 1:
            raise ValueError(f"state exactly one of budget.steps and budget.tokens, got {' and '.join(stated) or 'none'}")
        return self


# --- machinery -------------------------------------------------------------------------------------------------------


class EngineConfig(Section):
    """DeepSpeed: how the work is divided and in which precision it is done."""

    zero_stage: Literal[0, 1, 2, 3] | None = key(None, "ZeRO stage; null: 0 on one rank, 1 on several")
    micro_batch: int | None = key(None, "sequences per rank and forward pass; null: all of the rank's share, 16 at most", "sequences", ge=1)
    precision: Literal["fp32", "bf16"] = key("bf16", "arithmetic of matrix products; weights and optimizer stay fp32")
    offload_optimizer: bool = key(False, "keep optimizer states in host memory (ZeRO 1-3)")
    offload_parameters: bool = key(False, "keep parameters in host memory (ZeRO 3)")
    activation_checkpointing: bool = key(False, "recompute each block in the backward pass")
    compile: bool = key(False, "torch.compile the model (needs a C++ compiler on CPU)")
    device: Literal["auto", "cpu", "cuda"] = key("auto", "where to compute; auto: cuda if there is one")
    threads: int | None = key(None, "CPU threads per rank; null: this host's cores / ranks", "threads", ge=1)
    deepspeed: dict[str, Any] = key({}, "any raw DeepSpeed key, e.g. engine.deepspeed.zero_optimization.reduce_bucket_size=5e7")

    @model_validator(mode="after")
    def _offload_fits(self) -> EngineConfig:
        if self.offload_optimizer and self.zero_stage not in (1, 2, 3):
            raise ValueError("offload_optimizer: needs engine.zero_stage=1, 2 or 3")
        if self.offload_parameters and self.zero_stage != 3:
            raise ValueError("offload_parameters: needs engine.zero_stage=3")
        return self


class KernelsConfig(Section):
    """Which implementation computes; a switch changes speed, never the outcome."""

    attention: Literal["auto", "triton", "sdpa", "reference"] = key("auto", "backend of attention")


class LaunchConfig(Section):
    """From one command to processes."""

    name: Literal["local"] = key("local", "launcher")
    processes: int = key(1, "ranks on this host", "processes", ge=1)
    timeout_seconds: float = key(1800.0, "a collective that takes longer is an error", "s", gt=0)


class MachineConfig(Section):
    """What the datasheet says about one device; null where nobody stated it."""

    name: str = key("unstated", "name of the device")
    peak_flops: dict[str, float] = key({}, "dense peak by dtype (bf16, fp16, tf32, fp32), never a sparse one", "FLOP/s")
    memory_bytes: Count | None = key(None, "memory of one device", "bytes", gt=0)
    memory_bandwidth: float | None = key(None, "between a device and its memory", "B/s", gt=0, allow_inf_nan=False)
    link_bandwidth: float | None = key(None, "of one device to the others of its host, one direction", "B/s", gt=0, allow_inf_nan=False)
    network_bandwidth: float | None = key(None, "of one device to other hosts, one direction", "B/s", gt=0, allow_inf_nan=False)
    devices_per_host: int | None = key(None, "devices that share the links of one host", "devices", ge=1)
    power_watts: float | None = key(None, "board power of one device", "W", gt=0, allow_inf_nan=False)
    source: str | None = key(None, "the datasheet's name")


class SiteConfig(Section):
    """Where the energy comes from and what things cost there; null where nobody stated it."""

    name: str = key("unstated", "name of the site")
    pue: float | None = key(None, "power usage effectiveness: facility over IT energy", ge=1, le=10, allow_inf_nan=False)
    gco2e_per_kwh: float | None = key(None, "grid intensity", "g/kWh", ge=2, le=2000, allow_inf_nan=False)
    intensity_year: int | None = key(None, "year of the intensity", ge=1990, le=2100)
    intensity_source: str | None = key(None, "who published the intensity")
    price_per_device_hour: float | None = key(None, "rent of one device", "currency/h", ge=0, allow_inf_nan=False)
    price_per_kwh: float | None = key(None, "price of energy", "currency/kWh", ge=0, allow_inf_nan=False)
    currency: str | None = key(None, "currency of the prices, e.g. USD")
    price_date: str | None = key(None, "date of the prices, e.g. 2026-11")

    @model_validator(mode="after")
    def _complete(self) -> SiteConfig:
        priced = self.price_per_device_hour is not None or self.price_per_kwh is not None
        if priced and not (self.currency and self.price_date):
            raise ValueError("a price needs site.currency and site.price_date")
        if self.gco2e_per_kwh is not None and not (self.intensity_source and self.intensity_year):
            raise ValueError("gco2e_per_kwh: an intensity needs site.intensity_source and site.intensity_year")
        return self


class MeterConfig(Section):
    """The instruments."""

    every_seconds: float = key(5.0, "longest time between two readings of the energy counters", "s", gt=0)


class TrackerConfig(Section):
    """Who hears of the steps: the terminal, metrics.jsonl, Weights & Biases."""

    console: Literal["auto", "live", "plain", "none"] = key("auto", "progress: live on a terminal, plain lines otherwise")
    every_steps: int = key(10, "steps between two plain lines and two W&B log calls", "steps", ge=1)
    wandb: Literal["auto", "online", "offline", "disabled"] = key("disabled", "auto: online with a key and a server that answers, else offline")
    project: str = key("isoflop", "W&B project")
    entity: str | None = key(None, "W&B entity")
    tags: Paths = key((), "W&B tags")


class CheckpointConfig(Section):
    """When to save, and what to keep."""

    every_steps: int | None = key(200, "steps between two checkpoints; null: only at the end", "steps", ge=1)
    keep_last: int = key(2, "newest checkpoints to keep", "checkpoints", ge=1)
    keep_every: int | None = key(None, "keep for good those whose step is a multiple of this", "steps", ge=1)
    keep_best: bool = key(True, "keep the checkpoint with the lowest held-out loss")


class EvaluationConfig(Section):
    """Held-out loss during the run."""

    every_steps: int | None = key(200, "steps between two evaluations; null: only at the end", "steps", ge=1)
    samples: int | None = key(None, "held-out samples an evaluation reads; null: all", "sequences", ge=1)


class RunConfig(Section):
    """Where the run lives."""

    root: str = key("runs", "folder of all runs and of their ledger")
    experiment: str | None = key(None, "folder under the root; null: <model>-<objective>-<data>")
    id: str | None = key(None, "folder under the experiment; null: date, time and science hash. The same id continues the run")
    cache: str | None = key(None, "folder of tokenizers and token shards; null: $ISOFLOP_CACHE or ~/.cache/isoflop")

    @field_validator("experiment", "id")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=,+-]{0,150}", value):
            raise ValueError(f"{value!r} is not a plain folder name (letters, digits and . _ = , + -)")
        return value


class Config(Section):
    """Everything that a run knows before it starts."""

    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    optim: OptimConfig = OptimConfig()
    budget: BudgetConfig = BudgetConfig(steps=600)
    seed: int = key(0, "of the weights, the data order and the noise", ge=0, lt=2**63)

    engine: EngineConfig = EngineConfig()
    kernels: KernelsConfig = KernelsConfig()
    launch: LaunchConfig = LaunchConfig()
    machine: MachineConfig = MachineConfig()
    site: SiteConfig = SiteConfig()
    meter: MeterConfig = MeterConfig()
    tracker: TrackerConfig = TrackerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _rooms_agree(self) -> Config:
        wrong = []
        if self.model.position == "learned" and self.data.sequence_length > self.max_length:
            wrong.append(f"data.sequence_length: {self.data.sequence_length} is longer than model.max_length {self.max_length}")
        if self.model.vocabulary is not None and self.tokenizer.path is None and self.model.vocabulary < self.tokenizer.vocabulary:
            wrong.append(f"model.vocabulary: {self.model.vocabulary} is smaller than tokenizer.vocabulary {self.tokenizer.vocabulary}")
        if self.data.name == "text" and not self.data.path:
            wrong.append("data.path: data=text needs files, folders or globs, e.g. data.path=notes/*.txt")
        if self.data.name == "stdlib" and self.data.path:
            wrong.append("data.path: only data=text reads it; add data=text")
        share = -(-self.optim.batch_size // self.launch.processes)
        if self.launch.processes > self.optim.batch_size:
            wrong.append(f"launch.processes: {self.launch.processes} ranks cannot share optim.batch_size {self.optim.batch_size}")
        elif self.engine.micro_batch is not None and self.engine.micro_batch > share:
            wrong.append(
                f"engine.micro_batch: {self.engine.micro_batch} is more than a rank's share of the batch, "
                f"{share} = optim.batch_size {self.optim.batch_size} / launch.processes {self.launch.processes}"
            )
        if (self.optim.warmup_steps or 0) > self.steps:
            wrong.append(f"optim.warmup_steps: {self.optim.warmup_steps} is more than the run's {self.steps} steps")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    # Derived figures that several rooms need.

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding matrix."""
        return self.model.vocabulary or -(-self.tokenizer.vocabulary // 64) * 64

    @property
    def max_length(self) -> int:
        return self.model.max_length or self.data.sequence_length

    @property
    def tokens_per_step(self) -> int:
        return self.optim.batch_size * self.data.sequence_length

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        if self.budget.steps is not None:
            return self.budget.steps
        assert self.budget.tokens is not None
        return -(-self.budget.tokens // self.tokens_per_step)

    @property
    def experiment(self) -> str:
        return self.run.experiment or f"{self.model.name}-{self.objective.name}-{self.data.name}"

    def science(self) -> dict[str, Any]:
        """The part that decides the outcome, as plain data."""
        return self.model_dump(mode="json", include=set(SCIENCE))

    def science_hash(self) -> str:
        """Identity of the experiment: 12 hex digits over the science groups."""
        text = json.dumps(self.science(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load(path: Path) -> Config:
    """Read a frozen `config.yaml` of a run folder."""
    return Config.model_validate(yaml.safe_load(path.read_text()))
