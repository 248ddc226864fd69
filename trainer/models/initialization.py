"""Initial weights: standard deviations by the paper's rule, values as a function of (seed, name)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from trainer.config.model import ModelConfig
from trainer.models.expert_ranks import own_part, whole_shape


@dataclass(frozen=True)
class InitialStds:
    """Standard deviations of a model's initial weights, by the part they are in."""

    embedding: float
    query: float
    key: float
    up: float  # into the feed-forward, also its gate
    attention_output: float  # the two projections into the residual stream
    down: float
    head: float
    other: float  # further matrices from the residual stream to itself
    table: float  # small tables and vectors


def initial_stds(config: ModelConfig) -> InitialStds:
    """The rule of `config.init`; under muP (Yang et al. 2022, table 8) as at the base width, but for the matrices whose
    inputs grow with the width: their variance falls as 1 / width. Under CompleteP the depth is that of its base."""
    here = _rule(config)
    if config.mup_base_width is None:
        return here
    base = _rule(config.model_copy(update={"width": config.base_width}))
    shrink = config.width_growth**-0.5 if config.init == "normal" else 1.0  # the other rules fall by themselves
    return InitialStds(
        embedding=base.embedding,
        query=here.query * shrink,
        key=here.key * shrink,
        up=here.up * shrink,
        attention_output=here.attention_output * shrink,
        down=here.down * shrink,
        head=base.head,
        other=here.other * shrink,
        table=base.table,
    )


def _rule(config: ModelConfig) -> InitialStds:
    """Standard deviations by `config.init`; depth: CompleteP's base, which without it is the model's own.

    normal: init_std, over sqrt(2 depth) for the projections into the residual stream where init_residual
        (Radford et al. 2019, section 2.3).
    small: sqrt(2 / 5 width) and, into the residual stream, 2 / (depth sqrt(width)) (Nguyen and Salazar 2019; Black et
        al. 2022, section 2.1).
    t5: by fan-in, and queries as if they were scaled already (Raffel et al. 2020, through Mesh TensorFlow).
    """
    width, depth, inner = config.width, config.base_depth, config.heads * config.head_channels
    if config.init == "t5":
        std = width**-0.5
        query = (width * config.head_channels) ** -0.5
        head = 1.0 if config.tied else std
        return InitialStds(1.0, query, std, std, inner**-0.5, config.ffn_channels**-0.5, head, std, std)
    if config.init == "small":
        std, residual = (2 / (5 * width)) ** 0.5, 2 / (depth * width**0.5)
    else:
        std = config.init_std
        residual = std / (2 * depth) ** 0.5 if config.init_residual else std
    return InitialStds(std, std, std, std, residual, residual, std, std, std)


def _stream(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/weights/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def drawn(seed: int, name: str, shape: torch.Size, std: float) -> torch.Tensor:
    """The first values of a parameter that begins normal, fp32 on the CPU: a function of (seed, name) alone."""
    return torch.empty(shape, device="cpu").normal_(0, std, generator=_stream(seed, name))


@torch.no_grad()
def initialize(
    model: nn.Module,
    seed: int,
    gathered: Callable[[nn.Parameter], AbstractContextManager[object]] = lambda parameter: nullcontext(),
    known: Callable[[str], torch.Tensor | None] = lambda name: None,
) -> None:
    """Draw every parameter on the CPU from a stream of its own, so that the weights depend on (seed, name) alone:
    not on the device, the number of ranks or the order of construction. `gathered` opens a partitioned parameter;
    `known` gives the values of those that begin where another run ended.

    A module tells by `stds` (parameter name -> standard deviation) which of its parameters begin normal, and by
    `starts` which at a number; of the others weights begin at one (norms) and biases at zero, as do buffers that
    checkpoints hold."""
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        stds: dict[str, float] = getattr(module, "stds", {})
        starts: dict[str, float] = getattr(module, "starts", {})
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                value = known(f"{module_name}.{name}".lstrip("."))
                buffer.copy_(torch.zeros_like(buffer) if value is None else value)
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:  # tied
                continue
            seen.add(id(parameter))
            with gathered(parameter):
                value = known(f"{module_name}.{name}".lstrip("."))
                if value is None and name in stds:
                    value = drawn(seed, f"{module_name}.{name}", torch.Size(whole_shape(parameter)), stds[name])
                if value is not None:
                    parameter.copy_(own_part(parameter, value))
                else:
                    parameter.fill_(starts.get(name, 1.0 if name == "weight" else 0.0))
