"""The typed schema: the one place where a key gets a type, a unit, a bound and a sentence of help.

A group is *science* (it decides the outcome) or *machinery* (it decides speed, memory and price). `science_hash` is the
identity of an experiment: a resume may change any machinery and no science without saying so.

This module imports neither torch nor hydra: ranks, books and reports read a frozen `config.yaml` through it.
"""

from __future__ import annotations

from trainer.config.batch_warmup import BatchStageConfig
from trainer.config.branch import BranchConfig
from trainer.config.curriculum import Curriculum, Stage, StepShape
from trainer.config.data import DataConfig, SourceConfig, StageConfig
from trainer.config.debug import DebugConfig
from trainer.config.decay import DecayConfig
from trainer.config.grid import GridConfig, GridRoot
from trainer.config.init import InitConfig
from trainer.config.labelled import LabelledTaskConfig, MixingConfig
from trainer.config.ladder import LadderConfig, LadderRoot, PowerLawConfig
from trainer.config.launching import LaunchConfig
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
from trainer.config.pricing import SPARSE_PEAKS, MachineConfig, MeterConfig, SiteConfig
from trainer.config.science import (
    AnomaliesConfig,
    BudgetConfig,
    ObjectiveConfig,
    OptimConfig,
    SpecialIdsConfig,
    TokenizerConfig,
)
from trainer.config.task import TaskConfig
from trainer.config.whole import MACHINERY, SCIENCE, Config, load
from trainer.utils.schema import CONTROL, Count, Paths, Section, key

__all__ = [
    "CONTROL",
    "MACHINERY",
    "SCIENCE",
    "SPARSE_PEAKS",
    "AnomaliesConfig",
    "BatchStageConfig",
    "BranchConfig",
    "BudgetConfig",
    "CheckpointConfig",
    "Config",
    "Count",
    "Curriculum",
    "DataConfig",
    "DebugConfig",
    "DecayConfig",
    "EngineConfig",
    "EvaluationConfig",
    "FaultsConfig",
    "GridConfig",
    "GridRoot",
    "HooksConfig",
    "InitConfig",
    "KernelsConfig",
    "LabelledTaskConfig",
    "LadderConfig",
    "LadderRoot",
    "LaunchConfig",
    "MachineConfig",
    "MeterConfig",
    "MixingConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "Paths",
    "PowerLawConfig",
    "RunConfig",
    "Section",
    "SiteConfig",
    "SourceConfig",
    "SpecialIdsConfig",
    "Stage",
    "StageConfig",
    "StepShape",
    "TaskConfig",
    "TokenizerConfig",
    "TrackerConfig",
    "key",
    "load",
]
