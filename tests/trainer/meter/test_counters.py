"""Each failure of a counter: it is said, never 0 J, never measured as a whole, never an estimate without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import TICK, Board, Clock, FakeNvml, counters, run_on, zone

from trainer.books.energy import read_energy
from trainer.books.energy_account import EnergyAccount
from trainer.config import Config
from trainer.meter import Gpu, Meter
from trainer.meter import meter as meter_module
from trainer.meter import process as process_module
from trainer.meter.busy import BusyThreads
from trainer.meter.nvml import nvidia
from trainer.meter.rapl import host_counters

CONFIG = Config.model_validate({"meter": {"every_seconds": 60.0}})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def alone(monkeypatch) -> None:
    """Nobody knows what else runs here."""
    monkeypatch.setattr(process_module, "host_busy_seconds", lambda: None)


def on_host(run: Path, clock: Clock, cap: Path, monkeypatch, config: Config = CONFIG, runs: bool = True) -> Meter:
    """The meter of a rank without a GPU on a host with these powercap files, which run or stand still."""
    found = host_counters(cap, lambda seconds: run_on(cap) if runs else None)
    monkeypatch.setattr(meter_module, "host_counters", lambda: found)
    run.mkdir(exist_ok=True)
    meter = Meter(config, run, clock=clock, found=meter_module.instruments(config, 0, "s", None))
    meter.start()
    return meter


def spend(meter: Meter, clock: Clock, joules: float = 0.0, *files: Path, seconds: float = 10.0) -> EnergyAccount:
    """The books after some seconds in which counters went on by so many joules."""
    clock.now += seconds
    for file in files:
        counter = file / "energy_uj"
        counter.write_text(str(int(counter.read_text()) + round(joules * 1e6)))
    meter.close()
    return read_energy(meter._run)


FAILURES = {
    "absent": (lambda cap: None, True, "no RAPL counter"),
    "unreadable": (lambda cap: _directory(zone(cap, "intel-rapl:0", "package-0", 1)), True, "cannot be read"),
    "still, as in a virtual machine": (lambda cap: zone(cap, "intel-rapl:0", "package-0", 7), False, "stands still"),
    "of the board alone": (lambda cap: zone(cap, "intel-rapl:0", "psys", 7), True, "no RAPL counter"),
}


def _directory(folder: Path) -> None:
    (folder / "energy_uj").unlink()
    (folder / "energy_uj").mkdir()  # reading it fails, also for root


@pytest.mark.parametrize(("damage", "runs", "word"), FAILURES.values(), ids=FAILURES)
def test_without_a_counter_processors_are_estimated_and_why_is_said(tmp_path, clock, monkeypatch, damage, runs, word):
    damage(tmp_path / "cap")
    meter = on_host(tmp_path / "run", clock, tmp_path / "cap", monkeypatch, runs=runs)
    sum(range(300_000))
    account = spend(meter, clock)
    cpu = account.components["cpu"]
    assert cpu.provenance == "estimated" and cpu.value > 0 and "marginal" in cpu.source
    assert any("estimated" in note and word in note for note in account.notes)


def test_rapl_without_memory_is_a_lower_bound_and_names_what_is_missing(tmp_path, clock, monkeypatch):
    package = zone(tmp_path / "cap", "intel-rapl:0", "package-0", 0)
    account = spend(on_host(tmp_path / "run", clock, tmp_path / "cap", monkeypatch), clock, 50, package)
    assert account.components["cpu"].value == pytest.approx(50)
    assert account.components["dram"].value is None
    assert (account.total().value, account.total().high) == (pytest.approx(50), None)
    assert "memory" in account.total().source
    assert account.covered().value == 0


def test_stated_memory_takes_the_place_of_a_missing_zone(tmp_path, clock, monkeypatch):
    package = zone(tmp_path / "cap", "intel-rapl:0", "package-0", 0)
    config = Config.model_validate({"meter": {"memory_watts": 3.0, "host_idle_watts": 20.0}})
    account = spend(on_host(tmp_path / "run", clock, tmp_path / "cap", monkeypatch, config), clock, 50, package)
    assert account.components["dram"].value == pytest.approx(30) and account.components["dram"].provenance == "stated"
    assert "idle" not in account.components  # the package's counter holds what it draws idle
    assert account.total().value == pytest.approx(80)


def test_packages_through_mmio_alone_are_read_and_named(tmp_path, clock, monkeypatch):
    package = zone(tmp_path / "cap", "intel-rapl-mmio:0", "package-0", 0)
    account = spend(on_host(tmp_path / "run", clock, tmp_path / "cap", monkeypatch), clock, 50, package)
    assert account.components["cpu"].value == pytest.approx(50)
    assert account.total().high is None and any("intel-rapl-mmio" in note for note in account.notes)


def test_mmio_beside_the_other_rapl_is_not_added(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0)
    zone(tmp_path, "intel-rapl:0:0", "dram", 0)
    assert [one.description.key for one in counters(tmp_path)] == ["intel-rapl:0", "intel-rapl:0:0"]


@pytest.mark.parametrize(
    ("break_it", "word"),
    [(lambda package: None, "stood still"), (_directory, "could not be read")],
    ids=["still", "unreadable"],
)
def test_a_counter_that_fails_on_the_way_covers_less(tmp_path, clock, monkeypatch, break_it, word):
    package = zone(tmp_path / "cap", "intel-rapl:0", "package-0", 0)
    zone(tmp_path / "cap", "intel-rapl:0:0", "dram", 0)
    meter = on_host(tmp_path / "run", clock, tmp_path / "cap", monkeypatch)
    clock.now += 30
    (package / "energy_uj").write_text(str(round(1e6 * (90 + TICK))))
    meter.take()
    break_it(package)
    account = spend(meter, clock, seconds=70)
    cpu = account.components["cpu"]
    assert (cpu.value, cpu.low, cpu.high) == (pytest.approx(90), pytest.approx(90), None)
    assert account.coverage["cpu"] == pytest.approx(0.3) and "30% of the time" in cpu.source
    assert any(word in gap for gap in account.gaps)


def test_a_still_counter_is_no_zero(tmp_path, clock):
    """Of a GPU: frozen from the first reading on."""
    meter = Meter(CONFIG, tmp_path, clock=clock, found=[nvidia(Gpu("a"), FakeNvml([Board("GPU-a", stuck=5.0)], clock))])
    meter.start()
    account = spend(meter, clock)
    assert account.components["gpu"].value is None and account.total().value is None


def test_a_host_that_others_use_too_is_an_upper_bound(tmp_path, clock, monkeypatch):
    package = zone(tmp_path / "cap", "intel-rapl:0", "package-0", 0)
    busy, ours = iter((900.0, 1000.0)), iter((5.0, 30.0))
    monkeypatch.setattr(process_module, "host_busy_seconds", lambda: next(busy))
    monkeypatch.setattr(meter_module.time, "process_time", lambda: next(ours))
    account = spend(on_host(tmp_path / "run", clock, tmp_path / "cap", monkeypatch), clock, 80, package)
    cpu = account.components["cpu"]
    assert (cpu.low, cpu.value, cpu.high) == (pytest.approx(20), pytest.approx(80), pytest.approx(80))
    assert any("75% of the processors" in note and "upper bound" in note for note in account.notes)


@pytest.mark.parametrize(("processes", "ranks", "shared"), [(1, 1, False), (3, 1, True), (2, 2, False), (3, 2, True)])
def test_a_board_that_other_processes_use_is_an_upper_bound(tmp_path, clock, processes, ranks, shared):
    board = Board("GPU-a", processes=tuple(range(processes)))
    meters = [
        Meter(CONFIG, tmp_path, rank=rank, world_size=ranks, clock=clock,
              found=[nvidia(Gpu("a"), FakeNvml([board], clock))])
        for rank in range(ranks)
    ]  # fmt: skip
    for meter in meters:
        meter.start()
    clock.now += 10
    for meter in meters:
        meter.close()
    account = read_energy(tmp_path)
    assert account.total().value == pytest.approx(2000)
    assert account.total().low == (0 if shared else None)
    assert any("other process" in note for note in account.notes) == shared


def test_sole_use_of_a_host_is_what_is_stated_beside_the_marginal_share(tmp_path, clock, monkeypatch):
    config = Config.model_validate({"meter": {"host_idle_watts": 20.0, "memory_watts": 5.0}})
    meter = on_host(tmp_path / "run", clock, tmp_path / "cap", monkeypatch, config)
    account = spend(meter, clock, seconds=100)
    assert account.components["idle"].value == pytest.approx(2000)
    assert account.components["dram"].value == pytest.approx(500)
    assert account.components["cpu"].provenance == "estimated"


def test_the_seconds_before_a_meter_opens_are_booked(tmp_path, monkeypatch):
    """A rank's: processor time is counted from the process's start, counters from the first thing it does."""
    package = zone(tmp_path / "cap", "intel-rapl:0", "package-0", 0)
    found = host_counters(tmp_path / "cap", lambda seconds: run_on(tmp_path / "cap"))
    process_module.begin(reads_host=True, counters=lambda: found)
    (package / "energy_uj").write_text(str(round(1e6 * (40 + TICK))))  # while libraries are imported
    run = tmp_path / "run"
    run.mkdir()
    meter = Meter(CONFIG, run)
    meter.start()
    meter.close()
    assert read_energy(run).phases["start"] == pytest.approx(40)

    process_module.begin(reads_host=False)
    monkeypatch.setattr(meter_module, "host_counters", lambda: host_counters(tmp_path / "none"))
    other = tmp_path / "other"
    other.mkdir()
    meter = Meter(CONFIG, other)
    meter.start()
    meter.close()
    account = read_energy(other)
    assert account.cpu_seconds == pytest.approx(meter_module.time.process_time(), abs=0.5)
    assert isinstance(meter._found[0], BusyThreads) and account.total().value > 0
