"""Position schemes that are not a learned table: rotary angles, sinusoids and ALiBi's slopes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.config.model import ModelConfig


def rotary_frequencies(config: ModelConfig, base: float, device: torch.device, scaling: str) -> Tensor:
    """Radians per position, [rotary channels / 2], stretched as `scaling` says, a value of `config.rotary_scaling`.

    linear: all by rotary_factor (Chen et al. 2023). llama3: those that turn less than once within the original length
    in full, those that turn more than four times not at all, smoothly between (Grattafiori et al. 2024). yarn: those
    that turn less than rotary_beta_slow and more than rotary_beta_fast times, with a ramp over the channels between
    (Peng et al. 2024, section 3.2).
    """
    channels = config.rotary_channels
    frequencies = base ** (-torch.arange(0, channels, 2, device=device, dtype=torch.float32) / channels)
    if scaling == "linear":
        return frequencies / config.rotary_factor
    if scaling == "llama3":
        turns = config.rotary_original_length * frequencies / (2 * math.pi)  # within the original length
        kept = ((turns - 1.0) / (4.0 - 1.0)).clamp(0.0, 1.0)
        return frequencies * (kept + (1.0 - kept) / config.rotary_factor)
    if scaling == "yarn":
        first, last = (_channel(config, base, turns) for turns in (config.rotary_beta_fast, config.rotary_beta_slow))
        low, high = max(math.floor(first), 0), min(math.ceil(last), channels - 1)
        pair = torch.arange(channels // 2, device=device, dtype=torch.float32)
        kept = 1.0 - ((pair - low) / (high - low or 0.001)).clamp(0.0, 1.0)
        return frequencies * (kept + (1.0 - kept) / config.rotary_factor)
    return frequencies


def _channel(config: ModelConfig, base: float, turns: float) -> float:
    """The pair of channels, as a fraction, that turns so often within the original length (Peng et al. 2024, equation
    14, solved for the channel)."""
    wavelength = config.rotary_original_length / turns
    return config.rotary_channels * math.log(wavelength / (2 * math.pi)) / (2 * math.log(base))


def rotary_angles(positions: Tensor, config: ModelConfig, *, local: bool = False) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each [B, S, rotary channels / 2], of positions in half-split order (Su et al. 2021).

    local: of layers that see a window alone. Under yarn both are multiplied by `config.yarn_factor`."""
    base = (config.rotary_base_local if local else None) or config.rotary_base
    scaling = "none" if local and config.rotary_scaled == "global" else config.rotary_scaling
    angles = positions[..., None].float() * rotary_frequencies(config, base, positions.device, scaling)
    size = config.yarn_factor if scaling == "yarn" else 1.0
    return angles.cos() * size, angles.sin() * size


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
