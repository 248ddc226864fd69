"""Position schemes that are not a learned table: rotary angles, sinusoids and ALiBi's slopes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.config.model import ModelConfig


def rotary_frequencies(config: ModelConfig, base: float, device: torch.device) -> Tensor:
    """Radians per position, [rotary channels / 2], stretched as `config.rotary_scaling` says.

    linear: all by rotary_factor (Chen et al. 2023). llama3: those that turn less than once within the original length
    in full, those that turn more than four times not at all, smoothly between (Grattafiori et al. 2024).
    """
    channels = config.rotary_channels
    frequencies = base ** (-torch.arange(0, channels, 2, device=device, dtype=torch.float32) / channels)
    if config.rotary_scaling == "linear":
        return frequencies / config.rotary_factor
    if config.rotary_scaling == "llama3":
        turns = config.rotary_original_length * frequencies / (2 * math.pi)  # within the original length
        kept = ((turns - 1.0) / (4.0 - 1.0)).clamp(0.0, 1.0)
        return frequencies * (kept + (1.0 - kept) / config.rotary_factor)
    return frequencies


def rotary_angles(positions: Tensor, config: ModelConfig, base: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each [B, S, rotary channels / 2], of positions in half-split order (Su et al. 2021)."""
    angles = positions[..., None].float() * rotary_frequencies(config, base, positions.device)
    return angles.cos(), angles.sin()


def sinusoids(positions: Tensor, width: int, *, steps: int | None = None) -> Tensor:
    """[..., width]: sines in the first half of the channels, cosines in the second (Vaswani et al. 2017, section 3.5).

    The wavelengths grow geometrically from 2 pi to 10000 x 2 pi in `steps` steps: width / 2 - 1 in tensor2tensor and
    fairseq (the default), width / 2 in Transformer-XL.
    """
    steps = width // 2 - 1 if steps is None else steps
    channel = torch.arange(width // 2, device=positions.device, dtype=torch.float32)
    angles = positions[..., None].float() * torch.exp(channel * -(math.log(10_000.0) / steps))
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def formula_sinusoids(positions: Tensor, width: int) -> Tensor:
    """As `sinusoids`, by the paper's formula: the wavelengths end one step short of 10000 x 2 pi (Pegasus in
    transformers). Fp32 values, each rounded once."""
    channel = torch.arange(width // 2, device=positions.device, dtype=torch.float64)
    angles = positions[..., None].double() * 10_000.0 ** (-channel / (width // 2))
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()


def alibi_slopes(heads: int) -> list[float]:
    """One slope per head: a geometric sequence from 2^(-8/n) for n a power of two; other numbers take the sequence of
    the next smaller power and every second member of that of the next larger (Press et al. 2022, and its code)."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return slopes + [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)]
