"""What a run of these words would use on this host, and what is missing: `isoflop doctor`.

Preflight's checks of one host (launch/preflight.py), with what is chosen by itself: device, kernels, precision,
threads, instruments, trackers.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kernels import choice
from launch.node_report import evaluate
from launch.preflight import inspect_rank
from trainer.books import kernels
from trainer.books.formatting import format_amount
from trainer.books.layout import checkpoint_bytes
from trainer.config import Config
from trainer.config.hardware import host_memory
from trainer.config.host import cache_root, cgroup_limit, cores, no_triton, precision, processor, threads
from trainer.descriptions.trackers import TRACKERS
from trainer.meter import gpu_of
from trainer.meter.meter import instruments
from trainer.utils.files import write_atomic
from trainer.utils.home import expanded
from trainer.utils.outcomes import ExitCode

if TYPE_CHECKING:
    import torch

TESTS = ("test",)  # extras of those who work on isoflop itself


class Finding(NamedTuple):
    """One thing about this host. state: `wrong` is what a run would fail on, `missing` what only some need."""

    area: str
    says: str
    state: Literal["ok", "missing", "wrong"] = "ok"
    do: str = ""  # what mends it

    def to_json(self) -> dict[str, str]:
        return {name: value for name, value in self._asdict().items() if value}


def examine(config: Config) -> list[Finding]:
    """Everything about this host, in the order in which a person wants to know it. Loads torch where it is there."""
    found = [*_packages()]
    if any(one.state == "wrong" for one in found):  # nothing below could be asked
        return [*found, *_extras()]
    import torch

    device = _device(config)
    found += [_said_device(config, device), *_checked(config), *_chosen(config, device), *_instruments(config, device)]
    found += [*_trackers(config), *_tokenizer(config), *_places(config), *_programs(torch.cuda.is_available())]
    return [*found, *_extras()]


def exit_code(found: list[Finding]) -> int:
    return ExitCode.FAILED if any(one.state == "wrong" for one in found) else ExitCode.DONE


def _packages() -> Iterator[Finding]:
    needed = [_needed(line) for line in metadata.requires("isoflop") or () if "extra ==" not in line]
    versions = {name: _version(name) for name in ["isoflop", "torch", "deepspeed", "triton"]}
    yield Finding("packages", ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items()))
    for name, marker in needed:
        if _version(name) is None and ("Linux" not in marker or platform.system() == "Linux"):
            yield Finding("packages", f"{name} is not installed", "wrong", "install isoflop again")


def _needed(line: str) -> tuple[str, str]:
    """The distribution that a requirement names, and its marker."""
    requirement, _, marker = line.partition(";")
    return re.split(r"[\s\[<>=!~(]", requirement.strip())[0], marker


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device(config: Config) -> torch.device:
    """That of the first rank."""
    import torch

    asked = config.engine.device
    return torch.device("cuda" if asked == "cuda" or (asked == "auto" and torch.cuda.is_available()) else "cpu", 0)


def _said_device(config: Config, device: torch.device) -> Finding:
    import torch

    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count < config.launch.processes:
            return Finding(
                "device", f"{count} CUDA devices, {config.launch.processes} wanted", "wrong", "engine.device=cpu"
            )
        whole = torch.cuda.get_device_properties(0)
        size = format_amount(whole.total_memory, "bytes")
        return Finding("device", f"{count} x {whole.name}, {size} each; {config.launch.processes} used")
    memory = host_memory()
    said = f"{cores()} of {os.cpu_count()} cores"
    if cgroup_limit() < (os.cpu_count() or 1):
        said += " (limited by a control group)"
    size = format_amount(memory, "bytes") if memory else "memory not stated"
    return Finding("device", f"CPU: {processor()}, {said}, {size}")


def _checked(config: Config) -> Iterator[Finding]:
    """Preflight of one rank here: a product, the folder of runs, the disk. Leaves nothing behind."""
    root = Path(config.run.root).absolute()
    place = next(one for one in (root, *root.parents) if one.is_dir())
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".doctor-") as name:
            run = Path(name)
            write_atomic(run / "config.yaml", config.to_yaml())
            report = inspect_rank(config, run, 0)
            problems = evaluate([report], config)
    except OSError as error:
        yield Finding("runs", f"{root}: cannot write ({error.strerror})", "wrong", "run.root=<another folder>")
        return
    right = "right" if report.matmul_right else "WRONG"
    speed = format_amount(report.matmul_flop_per_second, "FLOP/s")
    yield Finding("arithmetic", f"a matrix product is {right}, {speed}", "ok" if report.matmul_right else "wrong")
    free, need = format_amount(report.free_bytes, "bytes"), format_amount(checkpoint_bytes(config), "bytes")
    yield Finding("runs", f"{root}: {free} free, a checkpoint takes {need}")
    for problem in problems:
        yield Finding("preflight", problem.text, "wrong")


def _chosen(config: Config, device: torch.device) -> Iterator[Finding]:
    """What `auto` comes to."""
    import torch

    missing = no_triton() if device.type == "cuda" else None
    chip = None
    if device.type == "cuda" and torch.cuda.is_available() and torch.version.hip is None:
        chip = "sm_{}{}".format(*torch.cuda.get_device_capability(0))
    said: dict[str, None] = {}
    for use in kernels.uses(config):
        setting = choice.Setting(chip, use.model.head_channels, precision(config) != "fp32")
        fields = kernels.attention_fields(config, use)
        chosen = choice.attention_backend(config.kernels.attention, device.type, fields, missing, setting)
        said[f"attention by {chosen.backend} ({chosen.reason})"] = None
    rest = choice.backend(config.kernels.norm, device.type, missing or choice.triton_lacks(chip))
    yield Finding("kernels", f"{', '.join(said)}; norms by {rest.backend} ({rest.reason})")
    arithmetic = precision(config)
    why = "native here" if arithmetic == "bf16" else "bf16 is not native here"
    yield Finding("precision", f"{arithmetic} ({why if config.engine.precision == 'auto' else 'asked for'})")
    ranks = config.launch.processes
    yield Finding("threads", f"{threads(config)} a rank, {ranks} rank{'s' if ranks > 1 else ''}, {cores()} cores")


def _instruments(config: Config, device: torch.device) -> Iterator[Finding]:
    """Who would measure energy, and what keeps others from it."""
    import torch

    gpu = gpu_of(device) if device.type == "cuda" and torch.cuda.is_available() else None
    for one in instruments(config, 0, "doctor", gpu):
        about = one.description
        said = f"{about.component}: {about.method}" + (f" ({about.note})" if about.note else "")
        closed = "cannot be read" in about.note
        way = "ask for read permission of /sys/class/powercap/*/energy_uj" if closed else ""
        yield Finding("energy", said, "missing" if closed or about.provenance == "not stated" else "ok", way)


def _trackers(config: Config) -> Iterator[Finding]:
    on = [one.name for one in TRACKERS.values() if one.takes_part(config.tracker)]
    off = [one.name for one in TRACKERS.values() if not one.takes_part(config.tracker)]
    yield Finding("trackers", f"on: {', '.join(on)}" + (f"; off: {', '.join(off)}" if off else ""))


def _tokenizer(config: Config) -> Iterator[Finding]:
    path = config.tokenizer.path
    there = path is None or "://" in path or expanded(path).exists()
    said = f"{path}" if path else f"trained on the corpus, {config.tokenizer.vocabulary} pieces"
    yield Finding("tokenizer", said if there else f"{path}: not there", "ok" if there else "wrong")


def _places(config: Config) -> Iterator[Finding]:
    cache = cache_root(config)
    place = next(one for one in (cache, *cache.parents) if one.is_dir())
    try:
        tempfile.TemporaryDirectory(dir=place, prefix=".doctor-").cleanup()  # permissions alone do not tell
    except OSError:
        yield Finding("cache", f"{cache}: cannot write", "wrong", "run.cache=<another folder>, or ISOFLOP_CACHE")
        return
    free = format_amount(shutil.disk_usage(place).free, "bytes")
    yield Finding("cache", f"{cache}: {free} free" + ("" if cache.is_dir() else ", not made yet"))


def _programs(gpu: bool) -> Iterator[Finding]:
    compiler = next(filter(None, map(shutil.which, ("g++", "clang++"))), None)
    way = "" if compiler else "install g++ for engine.compile=true on a CPU"
    yield Finding("compiler", compiler or "none", "ok" if compiler or gpu else "missing", way)
    sbatch = shutil.which("sbatch")
    yield Finding("SLURM", sbatch or "no sbatch here: launch=slurm is for a cluster's login node")


def _extras() -> Iterator[Finding]:
    """The extras of the distribution that are installed, and each that is not."""
    lines = [line for line in metadata.requires("isoflop") or () if "extra ==" in line]
    extras: dict[str, list[str]] = {}
    for line in lines:
        name, marker = _needed(line)
        extra = re.findall(r"extra == ['\"]([^'\"]+)", marker)[0]
        if extra not in TESTS and name != "isoflop":
            extras.setdefault(extra, []).append(name)
    absent = {extra: [name for name in names if _version(name) is None] for extra, names in extras.items()}
    if there := [extra for extra, names in absent.items() if not names]:
        yield Finding("extras", f"installed: {', '.join(there)}")
    for extra, names in absent.items():
        if names:
            yield Finding("extras", f"{extra}: no {', '.join(names)}", "missing", f"pip install 'isoflop[{extra}]'")


def format_findings(found: list[Finding]) -> str:
    marks = {"ok": " ", "missing": "-", "wrong": "!"}
    wide = max(len(one.area) for one in found)
    lines = [f"{marks[one.state]} {one.area:<{wide}}  {one.says}" + (f": {one.do}" if one.do else "") for one in found]
    wrong = sum(one.state == "wrong" for one in found)
    end = f"{wrong} thing{'s' if wrong > 1 else ''} (!) to mend" if wrong else "a run can start here"
    return "\n".join([*lines, "", f"{end}; - is what only some need"])


def to_json(found: list[Finding]) -> dict[str, Any]:
    """What `--json` prints."""
    return {"fit": exit_code(found) == ExitCode.DONE, "findings": [one.to_json() for one in found]}
