"""The typed schema: the one place where a key gets a type, a unit, a bound and a sentence of help.

A group is *science* (it decides the outcome) or *machinery* (it decides speed, memory and price). `science_hash` is the
identity of an experiment: a resume may change any machinery and no science without saying so.

This module imports neither torch nor hydra: ranks, books and reports read a frozen `config.yaml` through it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import field_validator, model_validator

from trainer.errors import nearest
from trainer.model_config import ModelConfig
from trainer.schema import Count, Paths, Section, key

SCIENCE = ("model", "objective", "data", "tokenizer", "optim", "budget", "seed")
MACHINERY = ("engine", "kernels", "launch", "machine", "site", "meter", "tracker", "checkpoint", "evaluation", "run")


# --- science ---------------------------------------------------------------------------------------------------------


class ObjectiveConfig(Section):
    """How text becomes a training example."""

    name: Literal[
        "causal",
        "prefix_lm",
        "fim",
        "masked_lm",
        "replaced_token",
        "permuted_lm",
        "unilm",
        "mass",
        "bart",
        "mbart",
        "span_corruption",
        "ul2",
    ] = key("causal", "pre-training objective")
    rate: float = key(0.15, "share of the text that is noised; of the documents for fim", gt=0, lt=1)
    unit: Literal["token", "word", "ngram"] = key("token", "what is hidden as a whole: tokens, words, or runs of words")
    longest: int = key(3, "longest run of words", "words", ge=1, le=64)
    mask_share: float = key(0.8, "share of the hidden tokens that become <mask>", ge=0, le=1)
    random_share: float = key(0.1, "share of the hidden tokens that become a random token", ge=0, le=1)
    masks: Literal["dynamic", "static"] = key("dynamic", "new masks every epoch, or fixed ones that take turns")
    copies: int = key(10, "fixed masks for each text", "copies", ge=1)
    question: Literal["nsp", "sop"] | None = key(
        None, "about two halves: does one follow the other (nsp), are they in order (sop)"
    )
    short_rate: float = key(0.1, "share of the pairs that are shorter than a sample", ge=0, le=1)
    mean_span: float = key(3.0, "mean length of a hidden span", "tokens or words", ge=1)
    noises: Paths = key(
        (), "noises of bart: sentence_permutation token_masking token_deletion text_infilling document_rotation"
    )
    spm_rate: float = key(0.5, "share of the rearranged documents whose suffix stands first", ge=0, le=1)

    READS: ClassVar[dict[str, str]] = {
        "causal": "",
        "prefix_lm": "",
        "fim": "rate spm_rate",
        "masked_lm": "rate unit longest mask_share random_share masks copies question short_rate",
        "replaced_token": "rate unit longest mask_share random_share masks copies",
        "permuted_lm": "rate longest",
        "unilm": "rate longest mask_share random_share",
        "mass": "rate mask_share random_share",
        "bart": "rate unit random_share mean_span noises",
        "mbart": "rate unit random_share mean_span noises",
        "span_corruption": "rate mean_span",
        "ul2": "",
    }
    NOISES: ClassVar[str] = "sentence_permutation token_masking token_deletion text_infilling document_rotation"

    @model_validator(mode="after")
    def _keys_fit(self) -> ObjectiveConfig:
        wrong = []
        for name, field in type(self).model_fields.items():
            if name != "name" and getattr(self, name) != field.default and name not in self.READS[self.name].split():
                readers = ", ".join(other for other, keys in self.READS.items() if name in keys.split())
                wrong.append(f"{name}: objective={self.name} does not read it; {readers} do")
        if self.mask_share + self.random_share > 1:
            wrong.append(f"random_share: {self.random_share} and mask_share {self.mask_share} are more than 1 together")
        if self.name in ("bart", "mbart"):
            allowed = self.NOISES.split()
            if not self.noises:
                wrong.append(f"noises: {self.name} needs at least one of {', '.join(allowed)}")
            wrong += [
                f"noises: {noise!r} is none of {', '.join(allowed)}{nearest(noise, allowed)}"
                for noise in self.noises
                if noise not in allowed
            ]
            if self.unit == "ngram":
                wrong.append(f"unit: {self.name} hides spans of tokens or of words, not ngram; choose token or word")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


class SourceConfig(Section):
    """One of the texts that a mixture is made of."""

    path: Paths = key((), "files, folders or globs of text, JSONL and Parquet, plain, .gz or .zst")
    weight: float | None = key(None, "share of the tokens, relative to the others; null: by size and data.alpha", ge=0)
    epochs: float | None = key(None, "most often that it is read, then the others take its share", "epochs", gt=0)
    language: str | None = key(None, "language, e.g. de; reported, never guessed")
    licence: str | None = key(None, "licence as its owner states it; reported, never guessed")

    @model_validator(mode="after")
    def _given(self) -> SourceConfig:
        if not self.path:
            raise ValueError("path: a source needs files, folders or globs")
        return self


class StageConfig(Section):
    """A stretch of the run with weights of its own."""

    tokens: Count = key(1, "length of the stage", "tokens", ge=1)
    weights: dict[str, float] = key({}, "share of the tokens of each source, relative to the others; missing ones: 0")


class DataConfig(Section):
    """Which text, and how much of it a sample holds."""

    name: Literal["stdlib", "text", "mixture"] = key(
        "stdlib", "corpus: Python's own standard library, text files of yours, or a mixture of such"
    )
    path: Paths = key((), "files, folders or globs of text, JSONL and Parquet, plain, .gz or .zst; for data=text")
    field: str = key("text", "JSONL field or Parquet column that holds a document's text")
    document: Literal["file", "paragraph", "line"] = key("file", "what one document is in a plain text file")
    sequence_length: int = key(256, "tokens per sample", "tokens", ge=8)
    packing: Literal["packed", "padded"] = key(
        "packed", "samples without gaps, or one stretch of one document each, padded"
    )
    boundaries: bool = key(True, "documents of one window do not see each other; false: read it as one text (decoders)")
    normalize: Literal["none", "nfc", "nfkc"] = key("none", "Unicode form that all text is brought into")
    deduplicate: bool = key(False, "keep only the first of documents of the same text")
    shortest: int = key(0, "shorter documents are left out", "characters", ge=0)
    longest: int | None = key(None, "longer documents are left out", "characters", ge=1)
    held_out: float = key(0.05, "share of the documents (chosen by hash) that is never trained on", gt=0, lt=0.5)
    sources: dict[str, SourceConfig] = key(
        {}, "for data=mixture: name of a source -> path, weight, epochs, language, licence"
    )
    alpha: float = key(1.0, "sources without weights: their share is their size to this power (XLM-R 0.3)", ge=0, le=1)
    stages: tuple[StageConfig, ...] = key((), "weights that change along the run; the last stage holds to the end")

    @field_validator("stages", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _mixture_fits(self) -> DataConfig:
        wrong = []
        if self.name == "mixture" and not self.sources:
            wrong.append("sources: data=mixture needs at least one, e.g. +data.sources.news.path=news/")
        if not self.boundaries and self.packing == "padded":
            wrong.append("boundaries: data.packing=padded has one document in a window; leave data.boundaries=true")
        if self.name == "mixture" and self.path:
            wrong.append("path: the texts of a mixture stand in data.sources")
        if self.name != "mixture" and (self.sources or self.stages or self.alpha != 1):
            wrong.append("sources: only data=mixture reads sources, alpha and stages; add data=mixture")
        weights = [source.weight for source in self.sources.values()]
        if None in weights and any(weight is not None for weight in weights):
            unstated = ", ".join(name for name, source in self.sources.items() if source.weight is None)
            wrong.append(f"sources: state the weight of every source or of none; {unstated} lack one")
        elif weights and None not in weights and not sum(weight or 0 for weight in weights):
            wrong.append("sources: all weights are 0; at least one must be more")
        for number, stage in enumerate(self.stages):
            for name, weight in stage.weights.items():
                if name not in self.sources:
                    wrong.append(f"stages[{number}].weights: no source {name!r}{nearest(name, self.sources)}")
                elif not 0 <= weight < math.inf:
                    wrong.append(f"stages[{number}].weights.{name}: {weight} is no share; it must be 0 or more")
            if not sum(stage.weights.values()) > 0:
                wrong.append(f"stages[{number}].weights: they sum to 0; at least one must be more")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


class TokenizerConfig(Section):
    """Sentencepiece, lossless, with byte fallback."""

    name: Literal["unigram", "bpe"] = key("bpe", "kind of sentencepiece model to train")
    vocabulary: Count = key(2048, "pieces, bytes and special tokens", "tokens", ge=300, le=1_000_000)
    sentinels: int = key(
        100, "special tokens <extra_id_0> ... for objectives that replace spans", "tokens", ge=0, le=10_000
    )
    symbols: Paths = key((), "special tokens of your own, e.g. <user>; their ids follow those that are built in")
    training_bytes: Count = key(16_000_000, "most text that the tokenizer is trained on", "bytes", ge=1)
    path: str | None = key(None, "an existing sentencepiece .model file instead of training one")


class OptimConfig(Section):
    """AdamW with decay on matrices only, and its schedule."""

    lr: float = key(3e-3, "peak learning rate", gt=0)
    schedule: Literal["cosine", "linear", "wsd", "constant"] = key(
        "cosine", "shape after warm-up (wsd: warm-up, stable, decay)"
    )
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
            raise ValueError(
                f"state exactly one of budget.steps and budget.tokens, got {' and '.join(stated) or 'none'}"
            )
        return self


# --- machinery -------------------------------------------------------------------------------------------------------


class EngineConfig(Section):
    """DeepSpeed: how the work is divided and in which precision it is done."""

    zero_stage: Literal[0, 1, 2, 3] | None = key(None, "ZeRO stage; null: 0 on one rank, 1 on several")
    micro_batch: int | None = key(
        None, "sequences per rank and forward pass; null: all of the rank's share, 16 at most", "sequences", ge=1
    )
    precision: Literal["fp32", "bf16"] = key("bf16", "arithmetic of matrix products; weights and optimizer stay fp32")
    offload_optimizer: bool = key(False, "keep optimizer states in host memory (ZeRO 1-3)")
    offload_parameters: bool = key(False, "keep parameters in host memory (ZeRO 3)")
    activation_checkpointing: bool = key(False, "recompute each block in the backward pass")
    compile: bool = key(False, "torch.compile the model (needs a C++ compiler on CPU)")
    device: Literal["auto", "cpu", "cuda"] = key("auto", "where to compute; auto: cuda if there is one")
    threads: int | None = key(None, "CPU threads per rank; null: this host's cores / ranks", "threads", ge=1)
    deepspeed: dict[str, Any] = key(
        {}, "any raw DeepSpeed key, e.g. engine.deepspeed.zero_optimization.reduce_bucket_size=5e7"
    )

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


class MachineConfig(Section):
    """What the datasheet says about one device; null where nobody stated it."""

    name: str = key("unstated", "name of the device")
    peak_flops: dict[str, float] = key({}, "dense peak by dtype (bf16, fp16, tf32, fp32), never a sparse one", "FLOP/s")
    memory_bytes: Count | None = key(None, "memory of one device", "bytes", gt=0)
    memory_bandwidth: float | None = key(None, "between a device and its memory", "B/s", gt=0, allow_inf_nan=False)
    link_bandwidth: float | None = key(
        None, "of one device to the others of its host, one direction", "B/s", gt=0, allow_inf_nan=False
    )
    network_bandwidth: float | None = key(
        None, "of one device to other hosts, one direction", "B/s", gt=0, allow_inf_nan=False
    )
    devices_per_host: int | None = key(None, "devices that share the links of one host", "devices", ge=1)
    power_watts: float | None = key(None, "board power of one device", "W", gt=0, allow_inf_nan=False)
    embodied_kgco2e: float | None = key(None, "emissions of making one device", "kg CO2e", gt=0, allow_inf_nan=False)
    lifetime_hours: float | None = key(None, "hours over which they are spread", "h", gt=0, allow_inf_nan=False)
    source: str | None = key(None, "the datasheet's name")

    @field_validator("peak_flops")
    @classmethod
    def _dense(cls, peaks: dict[str, float]) -> dict[str, float]:
        known = ("bf16", "fp16", "tf32", "fp32", "fp8")
        for dtype, peak in peaks.items():
            if dtype not in known:
                raise ValueError(f"{dtype!r} is no dtype; there is {', '.join(known)}{nearest(dtype, known)}")
            if not (math.isfinite(peak) and peak > 0):
                raise ValueError(f"{dtype}: {peak} is not a positive number of FLOP/s")
            if dtype in ("bf16", "fp16") and peak in SPARSE_PEAKS:
                whose = SPARSE_PEAKS[peak]
                raise ValueError(f"{dtype}: {peak:g} is the sparse (or FP8) peak of {whose}; dense is {peak / 2:g}")
        return peaks


class SiteConfig(Section):
    """Where the energy comes from and what things cost there; null where nobody stated it."""

    name: str = key("unstated", "name of the site")
    pue: float | None = key(
        None, "power usage effectiveness: facility over IT energy", ge=1, le=10, allow_inf_nan=False
    )
    gco2e_per_kwh: float | None = key(None, "grid intensity", "g/kWh", ge=2, le=2000, allow_inf_nan=False)
    market_gco2e_per_kwh: float | None = key(
        None, "the same after contracts (market-based)", "g/kWh", ge=0, le=2000, allow_inf_nan=False
    )
    intensity_year: int | None = key(None, "year of the intensity", ge=1990, le=2100)
    intensity_source: str | None = key(None, "who published the intensity")
    price_per_device_hour: float | None = key(None, "rent of one device", "currency/h", ge=0, allow_inf_nan=False)
    price_per_kwh: float | None = key(None, "price of energy", "currency/kWh", ge=0, allow_inf_nan=False)
    currency: str | None = key(None, "currency of the prices, e.g. USD")
    price_date: str | None = key(None, "date of the prices, e.g. 2026-11")

    @field_validator("gco2e_per_kwh", mode="before")
    @classmethod
    def _in_grams(cls, value: Any) -> Any:
        if isinstance(value, float | int) and not isinstance(value, bool) and not 2 <= value <= 2000:
            hint = f"; {value:g} kg would be {value * 1000:g}" if 0 < value < 2 else ""
            raise ValueError(f"{value:g} g/kWh is no grid's intensity (2 to 2000 grams per kWh){hint}")
        return value

    @model_validator(mode="after")
    def _complete(self) -> SiteConfig:
        priced = self.price_per_device_hour is not None or self.price_per_kwh is not None
        if self.price_per_device_hour is not None and self.price_per_kwh is not None:
            raise ValueError("price_per_kwh: a device's rent already pays for its energy; state one of the two prices")
        if priced and not (self.currency and self.price_date):
            raise ValueError("a price needs site.currency and site.price_date")
        if self.gco2e_per_kwh is not None and not (self.intensity_source and self.intensity_year):
            raise ValueError("gco2e_per_kwh: an intensity needs site.intensity_source and site.intensity_year")
        return self


class MeterConfig(Section):
    """The instruments."""

    every_seconds: float = key(5.0, "time between two readings of the energy counters", "s", gt=0, le=60)
    thread_watts_low: float = key(
        1.5, "where no counter is: a busy CPU thread draws at least", "W", gt=0, allow_inf_nan=False
    )
    thread_watts_high: float = key(
        7.0, "where no counter is: a busy CPU thread draws at most", "W", gt=0, allow_inf_nan=False
    )

    @model_validator(mode="after")
    def _interval(self) -> MeterConfig:
        if self.thread_watts_low > self.thread_watts_high:
            raise ValueError(
                f"thread_watts_low: {self.thread_watts_low} is more than thread_watts_high {self.thread_watts_high}"
            )
        return self


class TrackerConfig(Section):
    """Who hears of the steps: the terminal, metrics.jsonl, Weights & Biases."""

    console: Literal["auto", "live", "plain", "none"] = key(
        "auto", "progress: live on a terminal, plain lines otherwise"
    )
    every_steps: int = key(10, "steps between two plain lines and two W&B log calls", "steps", ge=1)
    wandb: Literal["auto", "online", "offline", "disabled"] = key(
        "disabled", "auto: online with a key and a server that answers, else offline"
    )
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
    id: str | None = key(
        None, "folder under the experiment; null: date, time and science hash. The same id continues the run"
    )
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
    budget: BudgetConfig = BudgetConfig(steps=400)
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
    def _size_dial(self) -> Config:
        if self.model.size is not None:
            from trainer.size_dial import turned  # the books below need this module

            self.__dict__["model"] = turned(self.model, self.vocabulary, self.max_length)
        return self

    @model_validator(mode="after")
    def _rooms_agree(self) -> Config:
        wrong = []
        if self.model.position == "learned" and self.data.sequence_length > self.max_length:
            wrong.append(
                f"data.sequence_length: {self.data.sequence_length} is longer than model.max_length {self.max_length}"
            )
        if (
            self.model.vocabulary is not None
            and self.tokenizer.path is None
            and self.model.vocabulary < self.tokenizer.vocabulary
        ):
            wrong.append(
                f"model.vocabulary: {self.model.vocabulary} is smaller than tokenizer.vocabulary "
                f"{self.tokenizer.vocabulary}"
            )
        wrong += self._objective_misfits()
        if self.data.name == "text" and not self.data.path:
            wrong.append("data.path: data=text needs files, folders or globs, e.g. data.path=notes/*.txt")
        if self.data.name == "stdlib" and self.data.path:
            wrong.append("data.path: only data=text reads it; add data=text")
        share = -(-self.optim.batch_size // self.launch.processes)
        if self.launch.processes > self.optim.batch_size:
            wrong.append(
                f"launch.processes: {self.launch.processes} ranks cannot share optim.batch_size {self.optim.batch_size}"
            )
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

    def _objective_misfits(self) -> list[str]:
        """What the objective feeds and the model has no place for; families are the objective's own business."""
        model, name = self.model, self.objective.name
        given, wrong = f"objective={name}", []
        if model.family != "encoder":
            return []
        if name == "permuted_lm" and not model.two_stream:
            wrong.append(
                f"{given} needs model.two_stream=true, as in model=xlnet-base; model={model.name} has one stream"
            )
        if name == "unilm" and model.two_stream:
            wrong.append(
                f"{given} needs model.two_stream=false, as in model=bert-base; model={model.name} has two streams"
            )
        if name == "replaced_token" and model.generator_width is None:
            wrong.append(f"{given} needs a generator, as in model=electra-small; model={model.name} has none")
        if name in ("masked_lm", "unilm", "permuted_lm") and model.generator_width is not None:
            wrong.append(f"{given}: model={model.name} is a discriminator; take objective=replaced_token")
        if self.objective.question and not model.sentence_head:
            wrong.append(
                f"objective.question: {self.objective.question} needs model.sentence_head=true, as in model=bert-base"
            )
        if (self.objective.question or name == "unilm") and model.token_types == 1:
            wrong.append(f"model.token_types: {given} marks two sentences; take 2, or 0 for none")
        return wrong

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
