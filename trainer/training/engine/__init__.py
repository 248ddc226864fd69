"""DeepSpeed behind our own words: a model, an optimizer and a ZeRO stage become steps. Nothing else imports it."""

from trainer.training.engine.averages import mean
from trainer.training.engine.engine import Engine
from trainer.training.engine.fp8 import fp8_here
from trainer.training.engine.layouts import Fragment
from trainer.training.engine.library import import_deepspeed
from trainer.training.engine.raw_keys import check
from trainer.training.engine.settings import deepspeed_settings
from trainer.training.engine.whole import whole_model

__all__ = ["Engine", "Fragment", "check", "deepspeed_settings", "fp8_here", "import_deepspeed", "mean", "whole_model"]
