"""What this host consists of, as its system and its drivers tell: memory, and GPUs by their driver's names. No torch
and no NVML."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

from trainer.config.host import cgroup_memory

MEMINFO = Path("/proc/meminfo")
DRIVER = Path("/proc/driver/nvidia")
VISIBLE = "CUDA_VISIBLE_DEVICES"
PATIENCE = 2.0  # seconds that an external command may take
SLICE = "MIG slice"


def host_memory() -> int | None:
    """Bytes that this host has, or that control groups (of containers, of jobs) leave to this process."""
    found = [size for size in (_system_memory(), cgroup_memory()) if size]
    return min(found, default=None)


def _system_memory() -> int | None:
    try:
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    if platform.system() == "Darwin":
        said = _said("sysctl", "-n", "hw.memsize").strip()
        return int(said) if said.isdecimal() else None
    return None


def hidden() -> bool:
    """Whether the environment leaves no GPU to this process."""
    return os.environ.get(VISIBLE, "0").strip() in ("", "-1", "NoDevFiles")


def gpus() -> tuple[str, ...]:
    """The driver's names of NVIDIA GPUs that this process may use, in the driver's order; empty where there is none.

    A GPU that is divided, or of which a slice is named, is a `SLICE`: not the device that its name tells of.
    """
    visible = os.environ.get(VISIBLE)
    if hidden():
        return ()
    names = _by_files() or _by_command()
    if names and visible is not None and any("MIG-" in one for one in visible.split(",")):
        return (SLICE,)
    chosen = [one.strip() for one in visible.split(",")] if visible else []
    if chosen and all(one.isdecimal() and int(one) < len(names) for one in chosen):
        return tuple(names[int(one)] for one in chosen)
    return names


def _by_files() -> tuple[str, ...]:
    """From `/proc/driver/nvidia/gpus/<bus>/information`."""
    names = []
    for file in sorted(DRIVER.glob("gpus/*/information")):
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    divided = any(DRIVER.glob("capabilities/gpu*/mig/gi*"))
    return tuple(SLICE if divided else name for name in names if name)


def _by_command() -> tuple[str, ...]:
    """From `nvidia-smi -L`, where there is a driver that has no such files."""
    if not DRIVER.exists():
        return ()
    names: list[str] = []
    for line in _said("nvidia-smi", "-L").splitlines():
        if line.startswith("GPU ") and ": " in line:
            names.append(line.partition(": ")[2].partition(" (UUID")[0].strip())
        elif line.strip().startswith("MIG ") and names:
            names[-1] = SLICE
    return tuple(names)


@cache
def _said(*command: str) -> str:
    """What a command prints, asked once a process; empty where it is missing, fails or takes long."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout
