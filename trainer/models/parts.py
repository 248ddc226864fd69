"""Leaf modules. Each knows how its own parameters begin; `initialize` makes them a function of (seed, name)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.config import ModelConfig


class Linear(nn.Linear):
    """A linear layer whose weight begins normal with standard deviation `std`; its bias begins at zero."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool, std: float) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.std = std

    def reset_parameters(self) -> None:
        """Left to `initialize`, which draws every parameter from its own stream."""


class Embedding(nn.Embedding):
    """Rows that begin normal with standard deviation `std`."""

    def __init__(self, rows: int, width: int, *, std: float) -> None:
        super().__init__(rows, width)
        self.std = std

    def reset_parameters(self) -> None:
        """Left to `initialize`."""


def norm(config: ModelConfig) -> nn.Module:
    """LayerNorm or RMSNorm over the residual stream, computed in fp32; weights begin at one."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.width, eps=config.norm_epsilon)
    return nn.LayerNorm(config.width, eps=config.norm_epsilon, bias=config.bias)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class FeedForward(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) when gated (Shazeer 2020, GLU variants)."""

    def __init__(self, config: ModelConfig, residual_std: float) -> None:
        super().__init__()
        width, hidden = config.width, config.ffn_channels
        self.activation = ACTIVATIONS[config.activation]
        self.gate = Linear(width, hidden, bias=config.bias, std=config.init_std) if config.gated else None
        self.up = Linear(width, hidden, bias=config.bias, std=config.init_std)
        self.down = Linear(hidden, width, bias=config.bias, std=residual_std)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(self.activation(self.up(x)))
        return self.down(self.activation(self.gate(x)) * self.up(x))


def rotary_angles(positions: Tensor, channels: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each [B, S, 1, channels], of rotary positions in half-split order (Su et al. 2021)."""
    frequencies = base ** (-torch.arange(0, channels, 2, device=positions.device, dtype=torch.float32) / channels)
    angles = positions[..., None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)[:, :, None, :]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn x [B, S, H, channels] by its positions' angles."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine.to(x.dtype) + torch.cat((-second, first), dim=-1) * sine.to(x.dtype)


def _stream(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/weights/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@torch.no_grad()
def initialize(
    model: nn.Module,
    seed: int,
    gathered: Callable[[nn.Parameter], AbstractContextManager[object]] = lambda parameter: nullcontext(),
) -> None:
    """Draw every parameter on the CPU from a stream of its own, so that the weights depend on (seed, name) alone:
    not on the device, the number of ranks or the order of construction. `gathered` opens a partitioned parameter."""
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:  # tied
                continue
            seen.add(id(parameter))
            with gathered(parameter):
                if isinstance(module, Linear | Embedding) and name == "weight":
                    values = torch.empty(parameter.shape).normal_(0, module.std, generator=_stream(seed, f"{module_name}.{name}"))
                    parameter.copy_(values)
                else:
                    parameter.fill_(1.0 if name == "weight" else 0.0)
