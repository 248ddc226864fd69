"""Everything that a run knows before it starts, and the rules between its groups."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from trainer.config.branch import Branch, BranchConfig
from trainer.config.choice import UNREAD_TAKEN, Choosing
from trainer.config.curriculum import Curriculum, StepShape
from trainer.config.curve_file import with_own_curve
from trainer.config.data import DataConfig
from trainer.config.debug import DebugConfig, debug_misfits
from trainer.config.division import data_ranks
from trainer.config.expert_ranks import expert_rank_misfits
from trainer.config.experts import group_misfits
from trainer.config.init import Init, InitConfig
from trainer.config.labelled import labelled_misfits
from trainer.config.launching import LaunchConfig
from trainer.config.linear import linear_misfits
from trainer.config.machinery import (
    CheckpointConfig,
    EngineConfig,
    EvaluationConfig,
    FaultsConfig,
    HooksConfig,
    KernelsConfig,
    RunConfig,
    TrackerConfig,
)
from trainer.config.model import ModelConfig
from trainer.config.placement import placement_misfits
from trainer.config.pricing import MachineConfig, MeterConfig, SiteConfig
from trainer.config.recomputation import recomputation_misfits, tile_misfits
from trainer.config.samples import samples_misfits
from trainer.config.science import (
    BYTES,
    AnomaliesConfig,
    BudgetConfig,
    ObjectiveConfig,
    OptimConfig,
    TokenizerConfig,
)
from trainer.config.sequence import sequence_misfits
from trainer.config.task import TaskConfig
from trainer.config.upgrade import FORMAT, upgraded
from trainer.config.wire import wire_misfits
from trainer.descriptions.optimizers import OPTIMIZERS
from trainer.descriptions.registry import Description
from trainer.plugins import require
from trainer.utils.bounded import read_yaml
from trainer.utils.errors import UserError
from trainer.utils.schema import Section, identity, key

SCIENCE = ("model", "objective", "data", "tokenizer", "optim", "budget", "anomalies", "seed", "task", "init")
MACHINERY = (
    *("engine", "kernels", "launch", "faults", "machine", "site"),
    *("meter", "tracker", "hooks", "checkpoint", "evaluation", "debug", "run", "branch"),
)


class Config(Section):
    """Everything that a run knows before it starts."""

    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    optim: OptimConfig = OptimConfig()
    budget: BudgetConfig = BudgetConfig(steps=400)
    anomalies: AnomaliesConfig = AnomaliesConfig()
    seed: int = key(0, "of the weights, the data order and the noise", ge=0, lt=2**63)
    task: TaskConfig = TaskConfig()
    init: Init = InitConfig()

    engine: EngineConfig = EngineConfig()
    kernels: KernelsConfig = KernelsConfig()
    launch: LaunchConfig = LaunchConfig()
    faults: FaultsConfig = FaultsConfig()
    machine: MachineConfig = MachineConfig()
    site: SiteConfig = SiteConfig()
    meter: MeterConfig = MeterConfig()
    tracker: TrackerConfig = TrackerConfig()
    hooks: HooksConfig = key(HooksConfig(), "what observes a training from inside", introduced={})
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    debug: DebugConfig = DebugConfig()
    run: RunConfig = RunConfig()
    branch: Branch = BranchConfig()

    @model_validator(mode="after")
    def _rooms_agree(self) -> Config:
        wrong = []
        for name, length in self._stated_lengths().items():
            if self.model.position == "learned" and length > self.max_length:
                wrong.append(f"{name}: {length} is longer than model.max_length {self.max_length}")
        wrong += self.curriculum.too_short()
        if (
            self.model.vocabulary is not None
            and self.tokenizer.path is None
            and self.model.vocabulary < self.tokenizer.vocabulary
        ):
            hint = "; take tokenizer=bytes" if self.model.vocabulary == BYTES else ""
            wrong.append(
                f"model.vocabulary: {self.model.vocabulary} is smaller than tokenizer.vocabulary "
                f"{self.tokenizer.vocabulary}{hint}"
            )
        wrong += self.objective.description.config_misfits(self)
        tuned = self.task.description
        if tuned is not None and self.model.family not in tuned.families:
            wrong.append(
                f"task.kind: {tuned.name} tunes {' and '.join(tuned.families)} models, model={self.model.name} is of "
                f"the family {self.model.family}"
            )
        wrong += [] if tuned is None else tuned.config_misfits(self)
        if self.task.kind is not None and self.data.stages:
            wrong.append(f"data.stages: only pre-training has stages; task={self.task.name} reads its own records")
        if self.data.name == "text" and not self.data.path:
            wrong.append("data.path: data=text needs files, folders or globs, e.g. data.path=notes/*.txt")
        if self.data.name == "stdlib" and self.data.path:
            wrong.append("data.path: only data=text reads it; add data=text")
        if self.task.kind is not None and self.init.given:
            wrong.append("init: begins pre-training anew; isoflop finetune <run> task=... tunes the weights of a run")
        wrong += self._ranks_and_batch()
        if self.model.attention_rate and self.kernels.attention == "sdpa":
            wrong.append(
                "kernels.attention: sdpa has no dropout that is a function of the sample, model.attention_dropout is "
                f"{self.model.attention_dropout}; choose auto, triton or reference"
            )
        if self.model.mup_base_width is not None and OPTIMIZERS[self.optim.name].mup_power is None:
            known = ", ".join(name for name, one in OPTIMIZERS.items() if one.mup_power is not None)
            wrong.append(f"optim.name: muP is not worked out for {self.optim.name}; it is for {known}")
        if self.optim.mup_weight_decay != "independent" and self.model.mup_base_width is None:
            wrong.append(f"optim.mup_weight_decay: {self.optim.mup_weight_decay} needs model.mup_base_width")
        wrong += labelled_misfits(self)
        wrong += self._budget_misfits()
        wrong += self._kernel_misfits()
        wrong += linear_misfits(self)
        wrong += recomputation_misfits(self) + tile_misfits(self)
        wrong += wire_misfits(self)
        wrong += group_misfits(self)
        wrong += expert_rank_misfits(self)
        wrong += debug_misfits(self)
        wrong += samples_misfits(self)
        wrong += placement_misfits(self)
        wrong += sequence_misfits(self)
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _ranks_and_batch(self) -> list[str]:
        """How the sequences of a step are shared out."""
        launch, batch = self.launch, self.optim.batch_size
        shared, many = self.engine.sequence_parallel, launch.nodes > 1
        if launch.ranks % shared:
            return []  # said by itself
        ranks = data_ranks(self)
        named = f"{launch.nodes} nodes x {launch.processes} = {launch.ranks}" if many else str(launch.ranks)
        named += f" / engine.sequence_parallel {shared} = {ranks}" if shared > 1 else ""
        share = -(-batch // ranks)
        if ranks > batch:
            return [f"launch.processes: {named} ranks cannot share optim.batch_size {batch}"]
        if many and batch % ranks and not launch.uneven:
            near = f"{batch // ranks * ranks} or {(batch // ranks + 1) * ranks}"
            return [
                f"optim.batch_size: {named} ranks do not divide {batch}; {near} would do, or launch.uneven=true "
                "lets some ranks wait"
            ]
        if self.engine.micro_batch is not None and self.engine.micro_batch > share:
            return [
                f"engine.micro_batch: {self.engine.micro_batch} is more than a rank's share of the batch, {share} = "
                f"optim.batch_size {batch} / {named if many or shared > 1 else f'launch.processes {launch.processes}'}"
            ]
        return []

    def _kernel_misfits(self) -> list[str]:
        """What a backend that is named cannot do."""
        asked = self.kernels.attention
        wrong = []
        if self.kernels.backward == "ordered" and asked in ("sdpa", "reference"):
            wrong.append(
                f"kernels.backward: ordered is of Triton's attention, kernels.attention is {asked}; take auto or triton"
            )
        keys = {"softcap": "score_softcap", "sink": "sinks"}
        used = [f"model.{keys[field]}" for field in self.model.attention_fields]
        if asked == "sdpa" and used:
            wrong.append(f"kernels.attention: sdpa has no {' and no '.join(used)}; take auto, triton or reference")
        return wrong

    def _stated_lengths(self) -> dict[str, int]:
        """Key -> tokens per sample."""
        stages = {
            f"data.stages[{k}].sequence_length": stage.sequence_length for k, stage in enumerate(self.data.stages)
        }
        lengths = {"data.sequence_length": self.data.sequence_length, **stages}
        return {name: length for name, length in lengths.items() if length is not None}

    def _budget_misfits(self) -> list[str]:
        """An amount whose price is not stated, caps of a run without an end."""
        wrong, site = [], self.site
        if self.budget.kgco2e is not None and site.gco2e_per_kwh is None and site.curve is None:
            wrong.append("budget.kgco2e: needs the grid's intensity: site=..., site.gco2e_per_kwh or site.curve")
        if self.budget.money is not None and site.price_per_device_hour is None and site.price_per_kwh is None:
            wrong.append("budget.money: needs site.price_per_device_hour or site.price_per_kwh")
        if not self.budget.has_length and any(source.epochs is not None for source in self.data.sources.values()):
            wrong.append("data.sources: epoch caps need a run of known length; state budget.steps too, as its end")
        return wrong

    # Derived figures that several rooms need.

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding matrix."""
        return self.model.vocabulary or -(-self.tokenizer.vocabulary // 64) * 64

    @property
    def backbone(self) -> ModelConfig:
        """The model under its head; under a new one without what only pre-training used. A pooler serves whole rows."""
        if not self.task.outputs:
            return self.model
        gone: dict[str, Any] = dict.fromkeys(("head_transform", "head_bias", "head_scale", "sentence_head"), False)
        gone |= {"tied": True, "two_stream": False, "generator_width": None}
        return self.model.model_copy(update=gone if self.task.pools else gone | {"pooler": "none"})

    @property
    def max_length(self) -> int:
        """Rows of a table of learned positions; without a stated number, as many as the longest sample has tokens."""
        return self.model.max_length or max(self._stated_lengths().values())

    @property
    def shortest_length(self) -> int:
        """Tokens of the shortest sample."""
        return min(self._stated_lengths().values())

    @property
    def rows_stand_alone(self) -> bool:
        """Whether the tokens of a training row need not be told apart by their documents: every token sees those before
        it, and a row is one text, or one document with padding behind. Experts leave the padding out by `segments`."""
        if self.task.kind is not None or self.model.family != "decoder" or self.model.experts.count:
            return False
        return self.objective.description.left_to_right and (self.data.packing == "padded" or not self.data.boundaries)

    @property
    def two_streams(self) -> bool:
        """Whether every layer computes a query stream beside the content (XLNet)."""
        return self.backbone.two_stream and self.task.kind is None and bool(self.objective.description.two_stream)

    @property
    def routes_twice(self) -> bool:
        """Whether a forward pass before the step counts the loads of the whole batch; beside a frozen reference no loss
        reads them."""
        return self.model.experts.routes_twice and not self.task.reference

    @property
    def packs_texts(self) -> bool:
        """Whether samples hold stretches of several documents to which an objective adds its special tokens."""
        pretrains = self.task.kind is None and self.model.family != "decoder" and self.data.packing == "packed"
        return pretrains and not self.objective.description.reads_pairs(self.objective)

    @property
    def curriculum(self) -> Curriculum:
        """Which samples every step reads, and of which length they are."""
        return Curriculum(self.data, self.optim.batch_size, self.task.rows, self.optim.batch_warmup)

    def at_length(self, sequence_length: int) -> Config:
        """The same model with samples of one length all along: what a step of that length is and costs."""
        if not self.data.stages and sequence_length == self.data.sequence_length:
            return self
        data = self.data.model_copy(update={"sequence_length": sequence_length, "stages": ()})
        model = self.model.model_copy(update={"max_length": self.max_length})
        return self.model_copy(update={"data": data, "model": model})

    def at_shape(self, shape: StepShape) -> Config:
        """The same model with steps of one shape all along: what such a step is and costs."""
        config = self.at_length(shape.sequence_length)
        if not self.optim.batch_warmup:
            return config
        optim = self.optim.model_copy(update={"batch_size": shape.batch_size, "batch_warmup": ()})
        return config.model_copy(update={"optim": optim})

    def ending_after(self, steps: int) -> Config:
        """The same run with so many steps as its budget."""
        return self.model_copy(update={"budget": BudgetConfig(steps=steps)})

    @property
    def experiment(self) -> str:
        learned = self.data.name if self.task.kind is None else self.task.name
        return self.run.experiment or f"{self.model.name}-{self.objective.name}-{learned}"

    def unread(self) -> dict[str, str]:
        """Dotted keys with another value than their default that nothing of this configuration reads, and a line for
        each that says so."""
        groups = {name: value for name, value in self if isinstance(value, Choosing)}
        return {
            f"{name}.{key}": f"{name}.{line}" for name, group in groups.items() for key, line in group.unread.items()
        }

    @property
    def _settled(self) -> Config:
        return self.model_copy(update={"model": self.model.settled})

    def science(self) -> dict[str, Any]:
        """The part that decides the outcome, as plain data. Pre-training does not speak of tasks, nor a run from random
        weights of others."""
        silent = {"task"} if self.task.kind is None else set()
        silent |= set() if self.init.given else {"init"}
        return self._wherever(self._settled.model_dump(mode="json", include=set(SCIENCE) - silent))

    def _wherever(self, science: dict[str, Any]) -> dict[str, Any]:
        """Of the run that this one begins from, its weights and tokenizer by their content, not by where they lie."""
        if "init" in science:
            content = {"weights": self.init.weights, "tokenizer": self.init.tokenizer}
            science["init"] = {name: value for name, value in content.items() if value is not None}
            if self.init.tokenizer is not None:
                science["tokenizer"]["path"] = f"sha256 {self.init.tokenizer}"
        return science

    def science_hash(self) -> str:
        """Identity of the experiment: 12 hex digits over the science groups, without keys that change nothing yet."""
        groups = self.science().keys()
        science = self._wherever({name: part for name, part in identity(self._settled).items() if name in groups})
        if self.packs_texts:  # true stood for texts end to end, until documents were kept apart there
            science["data"]["boundaries"] = "apart" if self.data.boundaries else True
        text = json.dumps(science, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def taking_part(self) -> list[Description]:
        """The descriptions of everything that the run uses, of all kinds."""
        return [one for _, group in self if isinstance(group, Choosing) for one in group.taking_part]

    def to_yaml(self, **beside: Any) -> str:
        """What `load` reads. beside: what else the file is to say. It does not speak of plugins that the run does not
        use, so that it is read where they are not."""
        plain = {"format": FORMAT, **beside, **self.model_dump(mode="json")}
        for name, group in self:
            if isinstance(group, Choosing):
                for key in group.unused_of_plugins:
                    plain[name].pop(key, None)
        there = {"hooks": bool(plain["hooks"]), "init": self.init.given, "branch": self.branch.given}
        if not self.model.experts.count:
            del plain["model"]["experts"]
        for name, written in there.items():
            if not written:
                del plain[name]
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


LAST = "run"  # group of a configuration file


def load(path: Path) -> Config:
    """Read a frozen `config.yaml` of a run folder, also one of an earlier version. Raises UserError, naming what it
    cannot take, and the plugins that the run uses and that are not loaded."""
    try:
        plain = read_yaml(path)
    except UserError as error:
        said = str(error).removeprefix(f"{path}: ")
        raise UserError(f"{path}: not a configuration of this version: {said}") from None
    try:
        if not isinstance(plain, dict):
            raise UserError("not a configuration of this version: keys with values wanted")
        require(path.parent)
        config = Config.model_validate(upgraded(plain, Config), context=UNREAD_TAKEN)
        if LAST not in plain and "format" in plain:
            raise UserError(f"cut off: it does not come to the group {LAST!r}, with which every run's ends")
        return config.model_copy(update={"site": with_own_curve(config.site, path.parent)})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors())
    raise UserError(f"{path}: not a configuration of this version: {wrong}")
