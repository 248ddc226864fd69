"""Which backend will compute what, where the plan's ranks run: `kernels/choice.py` decides, for the books as for the
run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from trainer.books.step_flops import AttentionBackward
from trainer.config import Config
from trainer.config.compilation import Compilation, compilation


def _choice() -> Any:
    """kernels/choice.py by itself: the package around it would bring torch, and a plan needs none."""
    package = importlib.util.find_spec("kernels")
    assert package is not None and package.origin is not None
    spec = importlib.util.spec_from_file_location("kernels_choice", Path(package.origin).with_name("choice.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


choice = _choice()


def compiled(config: Config) -> Compilation:
    """Whether torch compiles the model, and why."""
    return compilation(config, device(config))


def compile_line(config: Config) -> str | None:
    """What a plan says where `engine.compile=auto` leaves a model for a GPU as it is."""
    on, reason = compiled(config)
    quiet = on or config.engine.compile != "auto" or device(config) == "cpu"
    return None if quiet else f"engine.compile=auto: not compiled ({reason})"


def attention_fields(config: Config) -> tuple[str, ...]:
    """What the model asks of `kernels.attention` in training beyond what every backend has."""
    return config.model.attention_fields + (("dropout_p",) if config.model.attention_rate else ())


def device(config: Config) -> str:
    """The type of device that is planned for: an accelerator where a machine is named and the device is not the CPU."""
    on_gpu = config.engine.device == "cuda" or (config.engine.device == "auto" and config.machine.name != "unstated")
    return "cuda" if on_gpu else "cpu"


def attention(config: Config) -> str:
    """The backend of attention."""
    return str(choice.attention_backend(config.kernels.attention, device(config), attention_fields(config)).backend)


def norm(config: Config) -> str:
    """The backend of norms."""
    return str(choice.backend(config.kernels.norm, device(config)).backend)


def output_layer(config: Config) -> str | None:
    """The backend of the output layer fused with its loss, None where all logits are made."""
    return choice.output_layer_backend(config.kernels.loss, device(config))


def attention_backward(config: Config) -> AttentionBackward:
    """Whether the backward pass computes the scores again: on a GPU Triton's kernels and SDPA's do."""
    again = attention(config) == "triton" or (device(config) == "cuda" and attention(config) == "sdpa")
    return "fused" if again else "composed"
