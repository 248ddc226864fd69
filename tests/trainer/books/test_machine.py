"""The machine of a run, as the books take it: stated, recognised by its driver, measured, or unknown."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from trainer.books import format_price_tag, plan
from trainer.books.host import Probe, probe_file, read_probe, write_probe
from trainer.books.machine import known_machine, presets, probe_wanted
from trainer.books.second_plan import STEPS, second_plan
from trainer.config import Config, MachineConfig, hardware, host

NAMES = {  # as the drivers print them
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA H100 NVL": "h100-nvl",
    "NVIDIA H200": "h200-sxm",
    "NVIDIA A100-SXM4-40GB": "a100-sxm-40gb",
    "NVIDIA A100-SXM4-80GB": "a100-sxm-80gb",
    "Tesla V100-SXM2-32GB": "v100-sxm2-32gb",
}


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A host whose driver names these GPUs; without any it has no driver. divided: GPUs with MIG instances."""

    def pretend(*names: str, divided: tuple[int, ...] = ()) -> None:
        root = tmp_path / "nvidia"
        for number, name in enumerate(names):
            folder = root / "gpus" / f"0000:0{number}:00.0"
            folder.mkdir(parents=True)
            (folder / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 11\nGPU UUID: \t GPU-{number}\n")
        for number in divided:
            (root / "capabilities" / f"gpu{number}" / "mig" / "gi1").mkdir(parents=True)
        monkeypatch.setattr(hardware, "DRIVER", root)
        monkeypatch.setattr("trainer.books.machine.has_accelerator", root.exists)
        monkeypatch.setattr(host, "has_accelerator", root.exists)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return pretend


def config(cache: Path, **groups: dict[str, object]) -> Config:
    plain = {"run": {"cache": str(cache)}, "budget": {"steps": 10}, "data": {"sequence_length": 64}} | groups
    plain["engine"] = {"threads": 2} | groups.get("engine", {})
    return Config.model_validate(plain)


def probed(one: Config, threads: int = 2) -> Probe:
    found = Probe(host.processor(), threads, host.precision(one), 1e11, 2e10, "2026-11-30")
    write_probe(one, found)
    return found


@pytest.mark.parametrize(("name", "preset"), NAMES.items())
def test_a_gpu_is_recognised_by_its_drivers_name(driver, tmp_path: Path, name: str, preset: str) -> None:
    driver(name, name)
    known = known_machine(config(tmp_path))
    assert (known.how, known.config.machine.name) == ("recognised", preset)
    assert name in (known.note or "")
    stated = config(tmp_path, machine=known.config.machine.model_dump())
    ours, theirs = plan(config(tmp_path)), plan(stated)
    assert ours["time.wall"].planned == theirs["time.wall"].planned
    assert ours["energy.device_kwh"].planned == theirs["energy.device_kwh"].planned
    assert ours.machine is not None and (ours.machine["known"], ours.machine["name"]) == ("recognised", preset)


def test_every_driver_name_belongs_to_one_preset() -> None:
    files = (Path(__file__).parents[3] / "conf" / "machine").glob("*.yaml")
    stated = [line for file in files for line in file.read_text().splitlines() if line.startswith("driver_names")]
    assert len(presets()) == sum(line.count(",") + 1 for line in stated)


@pytest.mark.parametrize(
    ("names", "divided", "said"),
    [
        (("NVIDIA GeForce RTX 4090",), (), "RTX 4090"),
        (("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe"), (), "several kinds"),
        (("NVIDIA H100 80GB HBM3",), (0,), "MIG"),
    ],
)
def test_what_is_no_preset_is_not_one(driver, tmp_path: Path, names, divided, said: str) -> None:
    driver(*names, divided=divided)
    known = known_machine(config(tmp_path))
    assert known.how == "not stated" and said in (known.note or "")
    tag = plan(config(tmp_path))
    assert tag["time.wall"].planned.value is tag["mfu"].planned.value is None
    assert known.note in tag.notes


def test_a_slice_that_is_named_is_not_the_device(driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver("NVIDIA H100 80GB HBM3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-5c1f/1/0")
    assert hardware.gpus() == (hardware.SLICE,)


def test_only_visible_gpus_count(driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert hardware.gpus() == ("NVIDIA H100 PCIe",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert hardware.gpus() == () and hardware.hidden()


def test_a_driver_without_files_is_asked_by_its_command(
    driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver()
    said = "GPU 0: NVIDIA H200 (UUID: G)\nGPU 1: NVIDIA A100-SXM4-40GB (UUID: G)\n  MIG 1g.5gb Device 0: (UUID: M)\n"
    monkeypatch.setattr(hardware, "_said", lambda *command: said)
    assert hardware.gpus() == ()  # no driver at all: nothing is started
    (tmp_path / "nvidia").mkdir()
    assert hardware.gpus() == ("NVIDIA H200", hardware.SLICE)


@pytest.mark.parametrize("stated", [{}, {"machine": {"name": "h100-sxm", "architecture": "sm_90", "memory_bytes": 80}}])
def test_a_run_on_the_processor_takes_no_gpus_facts(driver, tmp_path: Path, stated) -> None:
    driver("NVIDIA H100 80GB HBM3")
    one = config(tmp_path, engine={"device": "cpu"}, **stated)
    probe = probed(one)
    known = known_machine(one)
    assert known.config.machine.name == host.processor()
    assert known.config.machine.peak_flops == {probe.precision: 1e11}
    assert known.config.machine.memory_bytes == hardware.host_memory()
    assert known.how == "measured on this host 2026-11-30"
    assert ("is not used" in (known.note or "")) == bool(stated)
    assert one.machine == Config.model_validate(one.model_dump()).machine  # what was stated stays what is frozen


def test_a_measured_host_prices_a_run(driver, tmp_path: Path) -> None:
    driver()
    one = config(tmp_path, site={"pue": 1.0})
    before = plan(one)
    assert before["time.wall"].planned.value is None and probe_wanted(one)
    probed(one)
    after = plan(one)
    for key in ("time.step", "time.wall", "machine.device_hours", "speed.tokens_per_second", "mfu", "energy.kwh"):
        quantity = after[key].planned
        assert quantity.value is not None and quantity.low < quantity.value < quantity.high, key
        assert quantity.provenance == "estimated" and "measured on this host 2026-11-30" in quantity.source
    share = after["flop.total"].planned.value / after["time.wall"].planned.value / 1e11
    assert after["mfu"].planned.value == pytest.approx(share) and after["mfu"].planned.high <= 1
    assert after.fit is not None and after.fit["fits"] is True
    assert after.machine is not None and after.machine["peak_flops"] == {host.precision(one): 1e11}
    assert not probe_wanted(one)
    assert one.science_hash() == config(tmp_path / "elsewhere").science_hash()


def test_ranks_of_one_host_divide_it(driver, tmp_path: Path) -> None:
    driver()
    whole = config(tmp_path, engine={"threads": 2})
    probed(whole)
    halves = config(tmp_path, engine={"threads": 1}, launch={"processes": 2})
    one, two = known_machine(whole).config.machine, known_machine(halves).config.machine
    kind = host.precision(whole)
    assert two.peak_flops[kind] == one.peak_flops[kind] / 2
    assert two.memory_bytes == one.memory_bytes // 2
    assert plan(halves)["time.step"].planned.high is None  # what they send each other is not timed


def test_a_busy_host_says_so_and_is_measured_again_on_another_day(driver, tmp_path: Path) -> None:
    driver()
    one = config(tmp_path)
    found = probed(one)
    write_probe(one, replace(found, share=0.4, date=date.today().isoformat()))
    wall = plan(one)["time.wall"].planned
    assert not probe_wanted(one) and "busy with other work" in wall.source
    assert wall.low == pytest.approx(wall.value * 0.5 * 0.4) and wall.high == pytest.approx(wall.value * 2 / 0.4)
    write_probe(one, replace(found, share=0.4, date="2020-01-01"))
    assert probe_wanted(one)


def test_of_other_threads_nothing_is_known(driver, tmp_path: Path) -> None:
    driver()
    probed(config(tmp_path))
    assert read_probe(config(tmp_path)) is not None
    assert read_probe(config(tmp_path, engine={"threads": 3})) is None
    other = "fp32" if host.precision(config(tmp_path)) == "bf16" else "bf16"
    assert read_probe(config(tmp_path, engine={"precision": other})) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: "",
        lambda data: json.dumps(data)[:-9],
        lambda data: "[]",
        lambda data: json.dumps(data | {"version": 2}),
        lambda data: json.dumps({k: v for k, v in data.items() if k != "date"}),
        lambda data: json.dumps(data | {"flop_per_second": 0}),
        lambda data: json.dumps(data | {"bytes_per_second": "fast"}),
        lambda data: json.dumps(data | {"bytes_per_second": 1e999}),
        lambda data: json.dumps(data | {"processor": "another"}),
    ],
)
def test_a_damaged_file_is_none(driver, tmp_path: Path, damage) -> None:
    driver()
    one = config(tmp_path)
    probed(one)
    file = probe_file(one)
    file.write_text(damage(json.loads(file.read_text())))
    assert read_probe(one) is None and plan(one)["time.wall"].planned.value is None and probe_wanted(one)


@pytest.mark.parametrize(
    "stated",
    [
        {"machine": {"name": "mine"}},
        {"machine": {"peak_flops": {"fp32": 1e12}}},
        {"launch": {"name": "slurm", "nodes": 2}},
    ],
)
def test_other_machines_are_not_this_host(driver, tmp_path: Path, stated) -> None:
    driver()
    one = config(tmp_path, **stated)
    assert known_machine(one).config == one and not probe_wanted(one)


def test_memory_is_what_is_left_to_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       16000000 kB\nMemFree: 1 kB\n")
    (tmp_path / "own").write_text("0::/job/step\n")
    (tmp_path / "groups/job/step").mkdir(parents=True)
    monkeypatch.setattr(hardware, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(host, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(host, "CGROUPS", tmp_path / "groups")
    assert hardware.host_memory() == 16_000_000 * 1024
    (tmp_path / "groups/job/step/memory.max").write_text("max\n")
    (tmp_path / "groups/job/memory.max").write_text("4000000000\n")
    assert hardware.host_memory() == 4_000_000_000


def test_a_mac_is_asked_by_sysctl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(host, "OWN_CGROUP", tmp_path / "none")
    monkeypatch.setattr(hardware.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(hardware, "_said", lambda *command: "17179869184\n" if command[0] == "sysctl" else "")
    assert hardware.host_memory() == 17179869184
    monkeypatch.setattr(hardware, "_said", lambda *command: "")
    assert hardware.host_memory() is None


def test_a_plan_on_a_measured_host_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom trainer.books import plan\nfrom trainer.config import Config\n"
        f"plan(Config.model_validate({{'run': {{'cache': {str(tmp_path)!r}}}, 'budget': {{'steps': 3}}}}))\n"
        "assert not {'torch', 'numpy', 'pynvml'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_second_plan_is_of_the_measured_steps(driver, tmp_path: Path) -> None:
    driver()
    one = config(tmp_path)
    shape = one.curriculum.shapes[0]
    taken = [(shape, seconds) for seconds in (9.0, 2.0, 2.2, 1.9, 2.1)]
    assert len(taken) == STEPS
    second = second_plan(one, taken)
    wall = second["time.wall"].planned
    assert wall.value == pytest.approx(10 * 2.1) and wall.low == pytest.approx(10 * 2.1 * 0.9)
    assert wall.high == pytest.approx(10 * 2.1 * 1.1) and "the first 5 steps" in wall.source
    first = plan(one)
    again = first.revised_by(second)
    assert again["time.wall"].revised == wall and again["flop.total"].revised is None
    assert "after 5 steps" in format_price_tag(again) and "after 5 steps" not in format_price_tag(first)
    read = type(again).from_json(json.loads(json.dumps(again.to_json())))
    assert read["time.wall"].revised == wall


def test_lengths_that_change_are_in_the_second_plan(driver, tmp_path: Path) -> None:
    driver()
    batches = {"batch_size": 16, "batch_warmup": [{"size": 4, "tokens": 1280}]}
    one = config(tmp_path, optim=batches)
    small, large = sorted(one.curriculum.shapes, key=lambda shape: shape.batch_size)
    second = second_plan(one, [(small, 1.0)] * STEPS)
    count = one.curriculum.steps_by_shape(0, 10)
    wanted = count[small] * 1.0 + count[large] * 4.0
    assert second["time.wall"].planned.value == pytest.approx(wanted, rel=0.01)


def test_machines_keep_their_names_apart() -> None:
    assert MachineConfig().driver_names == () and "driver_names" in MachineConfig.introduced()
