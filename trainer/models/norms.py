"""The norms of `trainer.descriptions.norms`: each token by itself, weights that begin at one and biases at zero.

Where matrix products alone read what a norm gives (`low`), it gives it in their dtype, which spares each of them a cast
under autocast; elsewhere in the precision of its parameters. The sum with what is `added` stays as PyTorch makes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels import choice, layer_norm, rms_norm
from trainer.config.model import ModelConfig
from trainer.descriptions.norms import NORMS
from trainer.models.products import computing_dtype
from trainer.utils.errors import UserError


class Norm(nn.Module, ABC):
    """A norm of one's own has `normalized`; the name and the shape of its parameters are its own.

    Parameters called weight begin at one and others at zero; `starts` (name -> number) says where one does not.
    """

    starts: dict[str, float]
    low = False

    @abstractmethod
    def normalized(self, x: Tensor) -> Tensor:
        """x [..., width], normalised along its last dimension alone; fp32 of an fp32 x."""

    def forward(self, x: Tensor, added: Tensor | None = None) -> Any:
        """norm(x) or (norm(x + added), x + added)."""
        total = x if added is None else x + added
        parameter = next(self.parameters(), None)
        wide = total if parameter is None else total.to(parameter.dtype)
        normal = self.normalized(wide)
        normal = normal.to(computing_dtype(x)) if self.low else normal
        return normal if added is None else (normal, total)


class RMSNorm(nn.RMSNorm):
    """norm(x) or, in one kernel, (norm(x + added), x + added)."""

    backend, low = "auto", False

    def forward(self, x: Tensor, added: Tensor | None = None) -> Any:
        return self._by(self.weight, x, added)

    def _by(self, weight: Tensor, x: Tensor, added: Tensor | None) -> Any:
        dtype = computing_dtype(x) if self.low else weight.dtype
        x = x if added is None else x.to(weight.dtype)
        return rms_norm(x, weight, eps=self.eps or 0.0, residual=added, dtype=dtype, backend=self.backend)


class OffsetRMSNorm(RMSNorm):
    """As `RMSNorm`, with the factor 1 + weight (Gemma, Mesnard et al. 2024, in the released code)."""

    starts: ClassVar = {"weight": 0.0}

    def forward(self, x: Tensor, added: Tensor | None = None) -> Any:
        return self._by(1.0 + self.weight, x, added)


class LayerNorm(nn.LayerNorm):
    """As `RMSNorm`; in fp32 or better, which PyTorch's own sees to under autocast."""

    backend, low = "auto", False

    def forward(self, x: Tensor, added: Tensor | None = None) -> Any:
        if choice.backend(self.backend, x.device.type).backend == "torch":
            total = x if added is None else x + added
            normal = super().forward(total)
            normal = normal.to(computing_dtype(x)) if self.low else normal
            return normal if added is None else (normal, total)
        dtype = computing_dtype(x) if self.low else self.weight.dtype
        x = x if added is None else x.to(self.weight.dtype)
        return layer_norm(x, self.weight, self.bias, eps=self.eps, residual=added, dtype=dtype, backend=self.backend)


class BareLayerNorm(nn.Module):
    """As `LayerNorm`, without parameters, and so without a kernel of its own; fp32 of an fp32 x, and under autocast."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.width, self.eps = width, eps

    low = False

    def forward(self, x: Tensor, added: Tensor | None = None) -> Any:
        total = x if added is None else x + added
        normal = functional.layer_norm(total, (self.width,), eps=self.eps)
        normal = normal.to(computing_dtype(x)) if self.low else normal
        return normal if added is None else (normal, total)


class HeadsLayerNorm(nn.Module):
    """LayerNorm of heads [..., heads, channels], with weights of each head's own and without biases (Command R+)."""

    def __init__(self, heads: int, channels: int, eps: float) -> None:
        super().__init__()
        self.heads, self.channels, self.eps = heads, channels, eps
        self.weight = nn.Parameter(torch.empty(heads * channels))

    def forward(self, x: Tensor) -> Tensor:
        """In the precision of its weight, also under autocast."""
        normal = functional.layer_norm(x.to(self.weight.dtype), (self.channels,), eps=self.eps)
        return normal * self.weight.unflatten(0, (self.heads, self.channels))


def qk_norm(config: ModelConfig, heads: int) -> nn.Module:
    """Of queries or keys of so many heads, as `config.qk_norm` says: RMSNorm, with the factor of the model's norms."""
    channels, eps = config.head_channels, config.norm_epsilon
    if config.qk_norm == "heads":
        return HeadsLayerNorm(heads, channels, eps)
    kind = OffsetRMSNorm if config.norm == "offset_rmsnorm" else RMSNorm
    made = kind(heads * channels if config.qk_norm == "projection" else channels, eps=eps)
    made.low = True
    return made


def norm(config: ModelConfig, width: int | None = None, *, low: bool = False) -> nn.Module:
    """The norm that the model chooses, over `width` channels (default: the residual stream). low: for products alone.

    Raises UserError where it is no module, or its parameters are not as many as its description says."""
    width = width or config.width
    try:
        made: nn.Module = NORMS.implementation(config.norm)(config, width)
    except TypeError as error:  # a class that lacks `normalized`, or is called otherwise
        raise UserError(f"norm {config.norm}: {NORMS[config.norm].implementation}: {error}") from None
    if not isinstance(made, nn.Module):
        raise UserError(f"norm {config.norm}: {NORMS[config.norm].implementation} makes no torch.nn.Module")
    told = NORMS[config.norm].parameters(config, width)
    count = sum(getattr(one, "ds_numel", one.numel()) for one in made.parameters())  # ZeRO 3 has cut it by now
    if count != told:
        raise UserError(f"norm {config.norm}: {count} parameters over {width} channels, its description says {told}")
    if low:
        setattr(made, "low", True)  # noqa: B010 - a norm of one's own that does not know it gives what it gives
    return made


def make_rms_norm(config: ModelConfig, width: int) -> nn.Module:
    return RMSNorm(width, eps=config.norm_epsilon)


def make_offset_rms_norm(config: ModelConfig, width: int) -> nn.Module:
    return OffsetRMSNorm(width, eps=config.norm_epsilon)


def make_layer_norm(config: ModelConfig, width: int) -> nn.Module:
    return LayerNorm(width, eps=config.norm_epsilon, bias=config.bias)


def make_bare_layer_norm(config: ModelConfig, width: int) -> nn.Module:
    return BareLayerNorm(width, config.norm_epsilon)
