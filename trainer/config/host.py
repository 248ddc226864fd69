"""What the configuration leaves to the host: where its caches are, the name of its processor, its threads, the
precision that suits it."""

from __future__ import annotations

import importlib.util
import os
import platform
from pathlib import Path
from typing import Literal

from trainer.config import Config
from trainer.utils.errors import UserError
from trainer.utils.home import expanded

NATIVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names it: x86 with AVX-512 or AMX, Arm


def cache_root(config: Config) -> Path:
    """Folder of prepared data and calibrations: run.cache, $ISOFLOP_CACHE, $XDG_CACHE_HOME/isoflop or ~/.cache/isoflop.

    A relative $XDG_CACHE_HOME counts for nothing, as its specification has it. Raises UserError where nobody says which
    folder is home."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    usual = f"{home}/isoflop" if home.startswith("/") else "~/.cache/isoflop"
    place = expanded(config.run.cache or os.environ.get("ISOFLOP_CACHE") or usual)
    if str(place).startswith("~"):
        raise UserError(f"run.cache: {place}: whose home is not known; run.cache or ISOFLOP_CACHE names another folder")
    return place


def processor() -> str:
    """The processor's name, as the system tells it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cores() -> int:
    """Processors that this process may use at a time: those of its affinity (taskset, srun), fewer where its control
    group gives it less time than they have."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, int(cgroup_limit())))


def cgroup_limit() -> float:
    """Processors' worth of time that control groups (of containers, of jobs) leave to this process; infinite if all."""
    files = _cgroup_files("cpu", "cpu.max", "cpu.cfs_quota_us")
    return min((share for file in files if (share := _quota(file)) is not None), default=float(1 << 20))


def cgroup_memory() -> int | None:
    """Bytes that control groups leave to this process; None where they leave all."""
    files = _cgroup_files("memory", "memory.max", "memory.limit_in_bytes")
    sizes = (size for file in files if (size := _limit(file)) is not None)
    return min((size for size in sizes if size < 1 << 60), default=None)  # version 1 writes 2^63 for no limit


def threads(config: Config, sharing: int = 1) -> int:
    """CPU threads of one rank: engine.threads, else the user's OMP_NUM_THREADS, else this host's cores over its ranks.

    sharing: runs that have the host together, with as many ranks each.
    """
    return config.engine.threads or stated_threads() or max(1, cores() // (config.launch.processes * sharing))


def stated_threads() -> int | None:
    """OMP_NUM_THREADS, of a list its outermost level; None where it is not set, or no number above 0."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else None


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


def fp8(config: Config) -> bool:
    """Whether the blocks' linear layers multiply in 8 bits in training. Raises UserError where products are not bf16
    otherwise."""
    if config.engine.linear != "fp8":
        return False
    if precision(config) != "bf16":
        raise UserError("engine.linear: fp8 needs bf16, engine.precision=auto is fp32 here; add engine.precision=bf16")
    return True


def half_wire(config: Config) -> bool:
    """Whether weights travel in bf16 where they can. Raises UserError where products are not bf16 on this host."""
    if config.engine.wire != "bf16":
        return False
    if precision(config) != "bf16":
        raise UserError(
            "engine.wire: bf16 needs bf16 products, engine.precision=auto is fp32 here; add engine.precision=bf16, or "
            "leave engine.wire=fp32"
        )
    return True


def no_triton() -> str | None:
    """Why compiled code for a GPU, which is Triton's, cannot run in this process."""
    if os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on"):
        return "TRITON_INTERPRET is set, and Triton's interpreter runs no compiled code"
    return None if importlib.util.find_spec("triton") else "triton is not installed"


def has_accelerator() -> bool:
    """Whether this host has a driver for NVIDIA's or AMD's accelerators."""
    return Path("/proc/driver/nvidia").exists() or Path("/dev/kfd").exists()


CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def _cgroup_files(controller: str, file: str, older: str) -> list[Path]:
    """The files that limit this process: of its group and of those around it; `older` as version 1 names the file."""
    try:
        with open(OWN_CGROUP) as own:
            lines = [line.strip().split(":", 2) for line in own]
    except OSError:
        return []
    files = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        name = older if controllers else file
        group = root / path.lstrip("/")
        files += [folder / name for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return files


def _quota(file: Path) -> float | None:
    """Processors' worth of time; None where there is no limit."""
    try:
        with open(file) as one:
            words = one.read().split()
        if file.name == "cpu.cfs_quota_us":
            with open(file.with_name("cpu.cfs_period_us")) as one:
                words += one.read().split()
        quota, period = float(words[0]), float(words[1])
    except (OSError, ValueError, IndexError):  # no such group, or `max`
        return None
    return quota / period if quota > 0 and period > 0 else None


def _limit(file: Path) -> int | None:
    """Bytes; None where there is no limit."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such group, or `max`
        return None


def _cpuinfo(name: str) -> str:
    """A line of the first processor; empty where the system has no such file or line."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
