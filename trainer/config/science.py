"""The groups that decide the outcome, beside the model and the data: objective, tokenizer, optimizer, budget."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, GetJsonSchemaHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from trainer.config.averages import AverageConfig
from trainer.config.averages import misfits as misfits_of_averages
from trainer.config.batch_warmup import BatchStageConfig, batch_misfits
from trainer.config.choice import Choosing, with_keys
from trainer.config.decay import Decay, with_decay
from trainer.descriptions.objectives import OBJECTIVES, ObjectiveDescription
from trainer.descriptions.optimizers import OPTIMIZERS, Role
from trainer.descriptions.schedules import SCHEDULES
from trainer.descriptions.schedules.pieces import ValuePieceConfig, as_tuple, value_misfits
from trainer.utils.schema import Count, Id, Ids, NoTruth, Paths, Section, key


@with_keys
class ObjectiveConfig(Choosing):
    """How text becomes a training example."""

    CHOICES: ClassVar = {"name": OBJECTIVES}

    name: str = key("causal", "pre-training objective")
    z_loss: float = key(
        0.0,
        "coefficient of the squared log of the softmax denominator, added to the loss of tokens (PaLM: 1e-4); 0: off",
        ge=0,
        le=1,
        introduced=0.0,
    )

    @property
    def description(self) -> ObjectiveDescription:
        """What is known of the objective that is chosen."""
        return OBJECTIVES[self.name]


BYTES = 384  # ids of tokenizer=bytes


class SpecialIdsConfig(Section):
    """Which ids the special tokens have; null: as the tokenizer's own names say. `isoflop import` fills them."""

    bos: Id | None = key(None, "before a text", introduced=None)
    eos: Ids | None = key(None, "behind a text; any one of several ends what is generated", introduced=None)
    pad: Id | None = key(None, "padding", introduced=None)
    unk: Id | None = key(None, "what no piece covers", introduced=None)
    mask: Id | None = key(None, "a hidden token", introduced=None)
    cls: Id | None = key(None, "before what an encoder reads", introduced=None)
    sep: Id | None = key(None, "behind each text that an encoder reads", introduced=None)
    decoder_start: Id | None = key(None, "what an encoder-decoder's decoder reads first", introduced=None)
    forced_bos: Id | None = key(None, "what it writes first, whatever it predicts", introduced=None)
    forced_eos: Id | None = key(None, "what it writes last, at the greatest length", introduced=None)
    second_type: Annotated[Literal[0, 1] | None, NoTruth] = key(
        None, "the token type of a pair's second text, where the model has types; null: 1", introduced=None
    )

    @field_validator("eos")
    @classmethod
    def _some(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value == ():
            raise ValueError("an empty list given; leave it null for the tokenizer's own")
        return value


class TokenizerConfig(Section):
    """Sentencepiece, lossless, with byte fallback."""

    name: Literal["unigram", "bpe", "bytes"] = key(
        "bpe", "kind of sentencepiece model to train; bytes: UTF-8 itself, where nothing is trained (ByT5)"
    )
    vocabulary: Count = key(2048, "pieces, bytes and special tokens", "tokens", ge=300, le=1_000_000)
    sentinels: int = key(
        100, "special tokens <extra_id_0> ... for objectives that replace spans", "tokens", ge=0, le=10_000
    )
    symbols: Paths = key((), "special tokens of your own, e.g. <user>; their ids follow those that are built in")
    training_bytes: Count = key(16_000_000, "most text that the tokenizer is trained on", "bytes", ge=1)
    path: str | None = key(
        None, "an existing tokenizer instead of training one: sentencepiece model, tokenizer.json, or a folder with one"
    )
    special_ids: SpecialIdsConfig = SpecialIdsConfig()

    @model_validator(mode="after")
    def _as_many_bytes(self) -> TokenizerConfig:
        if self.name == "bytes" and self.path is None and self.vocabulary != BYTES:
            raise ValueError(f"vocabulary: bytes have {BYTES} ids, {self.vocabulary} given; take tokenizer=bytes")
        return self


ValuePieces = Annotated[tuple[ValuePieceConfig, ...], BeforeValidator(as_tuple)]


@with_keys
class OptimConfig(Choosing):
    """The optimizer, with decay on matrices only, and its schedule."""

    CHOICES: ClassVar = {"name": OPTIMIZERS, "schedule": SCHEDULES}

    name: str = key("adamw", "optimizer", introduced="adamw")
    lr: float = key(3e-3, "peak learning rate", gt=0)
    schedule: str = key("cosine", "shape after warm-up (wsd: warm-up, stable, decay); or a list of pieces")
    warmup_steps: int | None = key(None, "linear warm-up; null: a tenth of the run, 2000 at most", "steps", ge=0)
    decay: Decay | None = key(
        None,
        "the end of a rate that is held until then: {shape: linear|cosine|sqrt, steps: ...}; short: 0.2, a share of "
        "the run, or 200, steps; the schedule is then the pieces that this comes to",
        introduced=None,
    )
    weight_decay: float = key(0.1, "decoupled decay of matrices; norms and biases are not decayed", ge=0)
    mup_weight_decay: Literal["independent", "standard"] = key(
        "independent",
        "under muP what a step takes of a matrix away: lr x weight_decay, whatever its width; standard: its own rate "
        "x weight_decay, which falls with the width",
        introduced="independent",
    )
    clip: float | None = key(1.0, "largest global gradient norm; null: no clipping", gt=0)
    lr_by_role: dict[Role, float] = key(
        {}, "factors of the rate for embedding, head, matrix or vector; missing ones: 1", introduced={}
    )
    decay_by_role: dict[Role, float] = key(
        {}, "factors of the decay for embedding, head, matrix or vector; missing ones: 1", introduced={}
    )
    batch_size: int = key(32, "sequences per optimizer step, over all ranks", "sequences", ge=1, le=10**9)
    averages: dict[str, AverageConfig] = key(
        {},
        "averages of the weights, by name, e.g. {ema: {half_life: 10m}, last: {latest: 5, every_steps: 100}}",
        introduced={},
    )
    batch_warmup: Annotated[tuple[BatchStageConfig, ...], BeforeValidator(as_tuple)] = key(
        (), "smaller batches before, e.g. [{size: 8, tokens: 1m}, {size: 16, tokens: 4m}]", introduced=[]
    )
    weight_decay_schedule: ValuePieces = key(
        (), "pieces of weight_decay along the run, e.g. [{shape: linear, to: 0}]; none: it stays", introduced=[]
    )
    momentum_schedule: ValuePieces = key(
        (),
        "pieces of the optimizer's first decay (beta1, momentum, muon_momentum), e.g. [{shape: linear, steps: 300, "
        "start: 0.85}]; none: it stays",
        introduced=[],
    )

    @model_validator(mode="before")
    @classmethod
    def _as_pieces(cls, data: Any) -> Any:
        """optim.schedule=[{shape: warmup, steps: 100}, {shape: cosine}] for schedule=pieces and its pieces, of which a
        decay is the last."""
        if not isinstance(data, dict):
            return data
        if isinstance(data.get("schedule"), list | tuple):
            data = data | {"schedule": "pieces", "pieces": data["schedule"]}
        return with_decay(data)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A file may state the pieces where the name of a schedule stands."""
        schema = handler(core)
        keys = handler.resolve_ref_schema(schema)["properties"]
        told = {word: keys["schedule"].pop(word) for word in ("description", "default")}
        pieces = {word: keys["pieces"][word] for word in ("type", "items")}
        keys["schedule"] = {**told, "anyOf": [keys["schedule"], pieces]}
        return schema

    @model_validator(mode="after")
    def _schedules_fit(self) -> OptimConfig:
        wrong = batch_misfits(self.batch_warmup, self.batch_size)
        wrong += value_misfits("weight_decay_schedule", self.weight_decay_schedule)
        wrong += value_misfits("momentum_schedule", self.momentum_schedule, below=1.0)
        if self.momentum_schedule and OPTIMIZERS[self.name].momentum is None:
            others = ", ".join(name for name, one in OPTIMIZERS.items() if one.momentum is not None)
            wrong.append(f"momentum_schedule: optim.name={self.name} has no momentum; {others} have")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @model_validator(mode="after")
    def _factors_are_none_below_0(self) -> OptimConfig:
        given = {"lr_by_role": self.lr_by_role, "decay_by_role": self.decay_by_role}
        wrong = [
            f"{name}.{role}: {factor} is no factor; it must be 0 or more"
            for name, factors in given.items()
            for role, factor in factors.items()
            if not 0 <= factor < math.inf
        ]
        if "vector" in self.decay_by_role:
            wrong.append("decay_by_role.vector: vectors are not decayed")
        wrong += misfits_of_averages(self.averages)
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


class BudgetConfig(Section):
    """When the run ends: after its steps, tokens or FLOP, or earlier, as soon as a measured budget is used up."""

    steps: Count | None = key(None, "optimizer steps", "steps", ge=1, le=10**12)
    tokens: Count | None = key(None, "training tokens, rounded up to whole steps", "tokens", ge=1, le=10**18)
    flop: Count | None = key(None, "model FLOPs of training, rounded down to whole steps", "FLOP", ge=1, le=10**36)
    hours: float | None = key(None, "training time, all attempts", "h", gt=0, le=1e9)
    kwh: float | None = key(None, "energy with PUE where one is stated, all attempts", "kWh", gt=0)
    kgco2e: float | None = key(None, "emissions of that energy (needs a site)", "kg CO2e", gt=0)
    money: float | None = key(None, "rent or energy bill (needs the site's price)", "currency", gt=0)

    LENGTHS: ClassVar[tuple[str, ...]] = ("steps", "tokens", "flop")
    MEASURED: ClassVar[tuple[str, ...]] = ("hours", "kwh", "kgco2e", "money")

    @property
    def has_length(self) -> bool:
        """Whether the run ends after a number of steps that is known before it starts."""
        return any(getattr(self, name) is not None for name in self.LENGTHS)

    @property
    def measured(self) -> dict[str, float]:
        """The stated budgets that only an instrument can tell to be used up, by name."""
        return {name: value for name in self.MEASURED if (value := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _one_length(self) -> BudgetConfig:
        def names(keys: Iterable[str]) -> str:
            return ", ".join(f"budget.{name}" for name in keys)

        lengths = [name for name in self.LENGTHS if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise ValueError(f"state exactly one of {names(self.LENGTHS)}, got {names(lengths)}")
        if not lengths and not self.measured:
            raise ValueError(f"state one of {names((*self.LENGTHS, *self.MEASURED))}, got none")
        return self


class AnomaliesConfig(Section):
    """Which updates are not made: what happens when the loss or the gradients of a step are an anomaly."""

    nonfinite: Literal["stop", "skip", "rollback"] = key(
        "stop", "loss or gradients that are not finite, also when computed once more"
    )
    spike: Literal["ignore", "stop", "skip", "rollback"] = key(
        "ignore", "a loss or gradient norm far above the last steps', also when computed once more"
    )
    threshold: float = key(10.0, "robust standard deviations above the median that make a spike", gt=0)
    window: int = key(128, "good steps that a step is compared with", "steps", ge=16)
    limit: int = key(8, "times that a run may skip or roll back; one more stops it", ge=0)
