"""What the configuration leaves to the host: the name of its processor, its threads, the precision that suits it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Literal

from trainer.config import Config

NATIVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names it: x86 with AVX-512 or AMX, Arm


def processor() -> str:
    """The processor's name, as the system tells it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(config: Config) -> int:
    """CPU threads of one rank."""
    return config.engine.threads or max(1, cores() // config.launch.processes)


def precision(config: Config) -> Literal["fp32", "bf16"]:
    """Arithmetic of matrix products. `auto` is bf16 wherever it is native: a processor that must emulate it is several
    times faster in fp32. A plan for a stated machine is one for its accelerators.
    """
    asked, device = config.engine.precision, config.engine.device
    if asked != "auto":
        return asked
    if device == "cuda" or (device == "auto" and (config.machine.name != "unstated" or has_accelerator())):
        return "bf16"
    return "bf16" if NATIVE_BF16 & set((_cpuinfo("flags") or _cpuinfo("Features")).split()) else "fp32"


def has_accelerator() -> bool:
    """Whether this host has a driver for NVIDIA's or AMD's accelerators."""
    return Path("/proc/driver/nvidia").exists() or Path("/dev/kfd").exists()


def _cpuinfo(name: str) -> str:
    """A line of the first processor; empty where the system has no such file or line."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
