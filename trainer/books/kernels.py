"""Which backend will compute what, where the plan's ranks run, and how a fused loss divides its work:
`kernels/choice.py` and `kernels/loss/chunks.py` decide, for the books as for the run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

from trainer.books.step_flops import AttentionBackward
from trainer.config import Config
from trainer.config.compilation import Compilation, compilation
from trainer.config.host import precision
from trainer.config.model import ModelConfig
from trainer.config.sequence import in_a_ring


def _alone(path: str) -> Any:
    """A module of `kernels` by itself: the package around it would bring torch, and a plan needs none."""
    package = importlib.util.find_spec("kernels")
    assert package is not None and package.origin is not None
    name = "kernels_" + path.removesuffix(".py").replace("/", "_")
    spec = importlib.util.spec_from_file_location(name, Path(package.origin).parent / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


choice = _alone("choice.py")
chunks = _alone("loss/chunks.py")

BIAS_OF_POSITION = {"alibi": "alibi", "buckets": "t5", "relative": "dense", "disentangled": "dense"}


class Use(NamedTuple):
    """One use of attention in training. decodes: by a token of those before it; local: within its window; across: of a
    decoder to its encoder."""

    model: ModelConfig
    decodes: bool
    local: bool = False
    across: bool = False


def uses(config: Config) -> list[Use]:
    """All of a model's, without repetition."""
    model, found = config.backbone, []
    for side in [model, *([model.generator] if model.generator else [])]:
        local = {side.local(layer) for layer in range(side.depth)}
        found += [Use(side, model.family == "decoder", window) for window in sorted(local)]
    if model.family == "encoder_decoder":
        side = model.decoder_side
        local = {side.local(layer) for layer in range(side.depth)}
        found += [Use(side, True, window) for window in sorted(local)] + [Use(side, True, across=True)]
    return found


def attention_fields(config: Config, use: Use) -> tuple[str, ...]:
    """What this use asks of `kernels.attention` in training."""
    model, within = use.model, not use.across
    used = {
        "return_lse": in_a_ring(config),
        "dropout_p": model.attention_rate > 0,
        "segments": not config.rows_stand_alone,
        "order": within and ordered(config),
        "window": within and use.local,
        "causal": within and use.decodes and not ordered(config),
    }
    bias = (BIAS_OF_POSITION[model.position],) if within and model.position in BIAS_OF_POSITION else ()
    return model.attention_fields + bias + tuple(name for name, on in used.items() if on)


def ordered(config: Config) -> bool:
    """Whether batches have an order: where one part of a document is read in both directions, or that is random."""
    pretrained = config.task.kind is None and config.model.family != "encoder_decoder"
    return pretrained and len(config.objective.description.parts) != 1


def compiled(config: Config) -> Compilation:
    """Whether torch compiles the model, and why."""
    return compilation(config, device(config))


def compile_line(config: Config) -> str | None:
    """What a plan says where `engine.compile=auto` leaves a model for a GPU as it is."""
    on, reason = compiled(config)
    quiet = on or config.engine.compile != "auto" or device(config) == "cpu"
    return None if quiet else f"engine.compile=auto: not compiled ({reason})"


def device(config: Config) -> str:
    """The type of device that is planned for: an accelerator where a machine is named and the device is not the CPU."""
    on_gpu = config.engine.device == "cuda" or (config.engine.device == "auto" and config.machine.name != "unstated")
    return "cuda" if on_gpu else "cpu"


def attention(config: Config, use: Use) -> str:
    """The backend of this use of attention."""
    return str(_attention(config, use).backend)


def attention_line(config: Config) -> str | None:
    """What computes attention on a GPU, and why; None on a CPU."""
    if device(config) != "cuda":
        return None
    said = (f"{chosen.backend} ({chosen.reason})" for chosen in (_attention(config, use) for use in uses(config)))
    return f"attention by {', '.join(dict.fromkeys(said))}"


def _attention(config: Config, use: Use) -> Any:
    setting = choice.Setting(config.machine.architecture, use.model.head_channels, precision(config) != "fp32")
    fields = attention_fields(config, use)
    return choice.attention_backend(config.kernels.attention, device(config), fields, None, setting)


def masked(config: Config, use: Use) -> bool:
    """Whether SDPA reads a tensor of queries x keys for this use."""
    return choice.attention_kind(attention_fields(config, use)) in choice.SQUARE


def norm(config: Config) -> str:
    """The backend of norms."""
    return str(choice.backend(config.kernels.norm, device(config), _no_triton(config)).backend)


def output_layer(config: Config) -> str | None:
    """The backend of the output layer fused with its loss, None where all logits are made."""
    chosen = choice.output_layer_backend(config.kernels.loss, device(config))
    return "chunked" if chosen == "triton" and config.kernels.loss == "auto" and _no_triton(config) else chosen


def _no_triton(config: Config) -> str | None:
    return choice.triton_lacks(config.machine.architecture)


def attention_backward(config: Config) -> AttentionBackward:
    """Whether the backward pass computes the scores again: on a GPU Triton's kernels and SDPA's do."""
    backends = {attention(config, use) for use in uses(config)}
    again = "reference" not in backends and (device(config) == "cuda" or backends == {"triton"})
    return "fused" if again else "composed"
