"""What the books take for the machine of a run: what is stated; else what this host is recognised as by its driver, or
what was measured on its processor. The configuration keeps what was stated: these are facts of a host, not of a run."""

from __future__ import annotations

import importlib.util
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from trainer.books.calibration import Pace, read_calibration
from trainer.books.host import HostPace, read_probe
from trainer.config import Config, MachineConfig
from trainer.config.hardware import SLICE, gpus, hidden, host_memory
from trainer.config.host import cores, has_accelerator, precision, processor, threads

STATED, RECOGNISED, UNKNOWN = "stated", "recognised", "not stated"
OF_PRICE = {"power_watts", "embodied_kgco2e", "lifetime_hours", "source"}  # that a person may add to what is measured


class Known(NamedTuple):
    """A configuration with the facts of its machine filled in, and how they are known."""

    config: Config
    how: str  # STATED, RECOGNISED, UNKNOWN, or "measured on this host <date>"
    pace: Pace | None = None  # what gives times to work in place of the machine's datasheet
    note: str | None = None  # a line for a person

    def to_json(self) -> dict[str, Any]:
        """The facts that estimates were made of."""
        facts = self.config.machine.model_dump(mode="json", exclude={"driver_names"})
        own = {"processor": processor(), "cores": cores()} if self.config.engine.device == "cpu" else {}
        return {**facts, "known": self.how, **own}


def known_machine(config: Config) -> Known:
    """The machine of a run, as the books take it. Reads a few files of the system where nothing is stated."""
    machine, here = config.machine, config.launch.is_here and config.launch.nodes == 1
    for_gpu = bool(machine.driver_names or machine.architecture)
    on_cpu = config.engine.device == "cpu"
    if on_cpu and for_gpu:
        known = known_machine(config.model_copy(update={"machine": MachineConfig()}))
        return known._replace(note=f"machine={machine.name} is not used: engine.device=cpu")
    if machine.name != MachineConfig().name or _stated(machine):
        return Known(config, STATED, read_calibration(config))
    if not here:
        return Known(config, UNKNOWN, read_calibration(config))
    if on_cpu or (config.engine.device == "auto" and (hidden() or not has_accelerator())):
        return _of_processor(config)
    return _of_driver(config)


def probe_wanted(config: Config) -> bool:
    """Whether a run computes on this host's processor, nobody states what that is, and it was not measured yet, or only
    while other work ran, on another day."""
    known = known_machine(config)
    if known.how == STATED or known.config.machine.name != processor():
        return False
    probe = read_probe(config)
    return probe is None or (probe.busy and probe.date != date.today().isoformat())


def _stated(machine: MachineConfig) -> bool:
    """Whether anything but what only prices need is stated."""
    return bool(machine.model_dump(exclude_defaults=True).keys() - OF_PRICE)


def _of_processor(config: Config) -> Known:
    """The host's own: its ranks divide its memory, and what was measured of it."""
    ranks, memory, probe = config.launch.processes, host_memory(), read_probe(config)
    facts: dict[str, Any] = {"name": processor(), "memory_bytes": memory // ranks if memory else None}
    if probe is not None:
        facts["peak_flops"] = {probe.precision: probe.flop_per_second / ranks}
        facts["memory_bandwidth"] = probe.bytes_per_second / ranks
    # What `auto` comes to is settled before the machine has a name, which would be taken for an accelerator's.
    settled = {"device": "cpu", "precision": precision(config)}
    filled = config.model_copy(
        update={
            "machine": config.machine.model_copy(update=facts),
            "engine": config.engine.model_copy(update=settled),
        }
    )
    pace = read_calibration(config) or (HostPace(probe, ranks) if probe is not None else None)
    return Known(filled, UNKNOWN if probe is None else probe.label, pace, _processor_line(config, memory, pace))


def _processor_line(config: Config, memory: int | None, pace: Pace | None) -> str:
    size = f", {memory / 1e9:.3g} GB" if memory else ""
    used = threads(config) * config.launch.processes
    unknown = "" if pace else "; its speed is not known yet: isoflop train measures it, in seconds"
    return f"on this host's processor: {processor()}, {used} of {cores()} cores{size}{unknown}"


def _of_driver(config: Config) -> Known:
    """A GPU that a preset of the package names as its driver does."""
    found = dict.fromkeys(gpus())
    if len(found) != 1:
        said = f"GPUs of several kinds ({', '.join(found)})" if found else "a GPU whose driver gives no name"
        return Known(config, UNKNOWN, None, f"{said}: state machine=...")
    (name,) = found
    if name == SLICE:
        return Known(config, UNKNOWN, None, "a MIG slice is not the whole device: state machine.peak_flops, ...")
    preset = presets().get(_plain(name))
    if preset is None:
        return Known(config, UNKNOWN, None, f"{name}: no preset has that driver's name; state machine=...")
    facts = preset.model_dump(exclude_defaults=True) | config.machine.model_dump(exclude_defaults=True)
    machine = MachineConfig.model_validate(facts)
    line = f"machine={machine.name}, recognised by its driver's name: {name}"
    return Known(config.model_copy(update={"machine": machine}), RECOGNISED, None, line)


@cache
def presets() -> dict[str, MachineConfig]:
    """The package's machines by their drivers' names, plain."""
    package = importlib.util.find_spec("conf")
    assert package is not None and package.origin is not None
    files = sorted((Path(package.origin).parent / "machine").glob("*.yaml"))
    machines = [MachineConfig.model_validate(yaml.safe_load(file.read_text())) for file in files]
    return {_plain(name): machine for machine in machines for name in machine.driver_names}


def _plain(name: str) -> str:
    return " ".join(name.split()).lower()
