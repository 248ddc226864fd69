"""The meter and its fold against boards whose energy is known."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from math import cos
from pathlib import Path

import pytest
from fakes import TICK, Board, Clock, FakeAmdSmi, FakeNvml, counters, zone

from trainer.books.energy import fold, read_energy
from trainer.books.records import read_lines
from trainer.config import Config
from trainer.meter import Gpu, Meter
from trainer.meter import meter as meter_module
from trainer.meter.amd import amd
from trainer.meter.busy import BusyThreads
from trainer.meter.nvml import nvidia

CONFIG = Config.model_validate({"meter": {"every_seconds": 60.0}})


def wave(t: float) -> float:
    """Joules up to t of a board that swings between 100 and 300 W every 20 s."""
    return 200 * t - 100 * cos(t * 0.314) / 0.314


@pytest.fixture
def clock() -> Clock:
    return Clock()


def metered(run: Path, clock: Clock, found, **who) -> Meter:
    meter = Meter(CONFIG, run, found=found, clock=clock, **who)
    meter.start()
    return meter


def drive(meter: Meter, clock: Clock, times, step: int = 0) -> int:
    """Move the clock and take a reading at each time, one step finished before each."""
    for now in times:
        clock.now, step = now, step + 1
        meter.read(step)
        meter.take()
    return step


def test_exact_through_restarts(tmp_path, clock):
    nvml = FakeNvml([Board("GPU-a", energy=wave)], clock)
    spent = 0.0
    for attempt, (start, stop) in enumerate([(1000, 1100.5), (1200, 1203.25), (5000, 5600)]):
        clock.now = start
        meter = metered(tmp_path, clock, [nvidia(Gpu("a"), nvml)], attempt=attempt, step=attempt)
        drive(meter, clock, [start + 1.7], attempt)
        clock.now = stop
        meter.close()
        spent += wave(stop) - wave(start)
    assert len(list(tmp_path.glob("energy-*.jsonl"))) == 1
    total = read_energy(tmp_path).total()
    assert total.value == pytest.approx(spent, abs=0.005)
    assert total.provenance == "measured"
    assert meter.read(3)["gpu"] == pytest.approx(spent, abs=0.005)


def test_killed_process_counts_up_to_its_last_reading(tmp_path):
    """A real process, a real SIGKILL, then half a line, then the next attempt."""
    code = textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from fakes import Board, Clock, FakeNvml
        from test_energy import CONFIG
        from trainer.meter import Gpu, Meter
        from trainer.meter.nvml import nvidia
        clock = Clock()
        meter = Meter(CONFIG, Path({str(tmp_path)!r}), clock=clock,
                      found=[nvidia(Gpu("a"), FakeNvml([Board("GPU-a")], clock))])
        meter.start()
        for second in range(1, 8):
            clock.now = 1000.0 + second
            meter.read(second)
            meter.take()
        print("ready", flush=True)
        time.sleep(60)
    """)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    account = read_energy(tmp_path)
    assert account.total().value == pytest.approx(7 * 200, abs=0.005)
    assert any("after their last reading" in note for note in account.notes)

    with open(next(tmp_path.glob("energy-*.jsonl")), "a") as file:
        file.write('{"kind":"reading","segm')
    clock = Clock(2000.0)
    meter = metered(tmp_path, clock, [nvidia(Gpu("a"), FakeNvml([Board("GPU-a")], clock))], attempt=1, step=7)
    clock.now = 2010.0
    meter.close()
    assert read_energy(tmp_path).total().value == pytest.approx(17 * 200, abs=0.005)


def test_folding_twice_changes_nothing(tmp_path, clock):
    meter = metered(tmp_path, clock, [nvidia(Gpu("a"), FakeNvml([Board("GPU-a", energy=wave)], clock))])
    drive(meter, clock, [1003, 1007, 1020])
    meter.close()
    lines = read_lines(next(tmp_path.glob("energy-*.jsonl")))
    once, twice = fold(lines).account(), fold(lines + lines).account()
    assert once.total() == twice.total()
    assert once.phases == twice.phases
    shutil.copy(next(tmp_path.glob("energy-*.jsonl")), tmp_path / "energy-copy.jsonl")  # a file copied within the run
    assert read_energy(tmp_path).total() == once.total()


def test_devices_are_found_by_identity_not_by_index(tmp_path, clock):
    boards = [Board("GPU-a", pci="0:1", energy=lambda t: 100 * t), Board("GPU-b", pci="0:2", energy=lambda t: 300 * t)]
    for attempt in range(2):
        meter = metered(tmp_path, clock, [nvidia(Gpu("b"), FakeNvml(boards, clock))], attempt=attempt)
        clock.now += 10
        meter.close()
        boards.reverse()
        clock.now += 10
    assert read_energy(tmp_path).total().value == pytest.approx(2 * 10 * 300)
    by_address = nvidia(Gpu(None, "0:1"), FakeNvml(boards, clock))
    assert by_address.description.key == "GPU-a"


@pytest.mark.parametrize("seed", range(5))
def test_two_ranks_on_one_gpu_count_once(tmp_path, clock, seed):
    """Readings interleave at random; the union of what both saw is the board's energy from first to last."""
    rng = random.Random(seed)
    nvml = FakeNvml([Board("GPU-a", energy=wave)], clock)
    first = metered(tmp_path, clock, [nvidia(Gpu("a"), nvml)], rank=0, world_size=2)
    clock.now = 1000 + rng.random()
    second = metered(tmp_path, clock, [nvidia(Gpu("a"), nvml)], rank=1, local_rank=1, world_size=2)
    for _ in range(20):
        clock.now += rng.random() * 3
        rng.choice([first, second]).take()
    first.close()
    clock.now += 2.5
    second.close()
    account = read_energy(tmp_path)
    assert account.total().value == pytest.approx(wave(clock.now) - wave(1000), abs=0.005)
    assert account.shared_devices == 1


def test_ranks_with_a_gpu_each_add_up(tmp_path, clock):
    nvml = FakeNvml([Board("GPU-a", energy=lambda t: 100 * t), Board("GPU-b", energy=lambda t: 250 * t)], clock)
    meters = [
        metered(tmp_path, clock, [nvidia(Gpu(name), nvml)], rank=rank, world_size=2) for rank, name in enumerate("ab")
    ]
    clock.now += 8
    for meter in meters:
        meter.close()
    assert read_energy(tmp_path).total().value == pytest.approx(8 * 350)


def test_missing_rank_makes_it_a_lower_bound(tmp_path, clock):
    meter = metered(tmp_path, clock, [nvidia(Gpu("a"), FakeNvml([Board("GPU-a")], clock))], rank=0, world_size=4)
    clock.now += 10
    meter.close()
    account = read_energy(tmp_path)
    total = account.total()
    assert account.rank_coverage == 0.25
    assert (total.value, total.low, total.high) == (pytest.approx(2000), pytest.approx(2000), None)
    assert "25% of the ranks" in total.source


BROKEN = {
    "fell": (lambda board: setattr(board, "since", 1015.0), "fell"),
    "stood still": (lambda board: setattr(board, "stuck", 200.0 * 1010), "stood still"),
    "jumped": (lambda board: setattr(board, "energy", lambda t: 200 * t + 1e6 * (t > 1012)), "jumped"),
    "vanished": (lambda board: setattr(board, "counts", False), "could not be read"),
}


@pytest.mark.parametrize(("damage", "word"), BROKEN.values(), ids=BROKEN)
def test_a_counter_that_lies_leaves_a_gap(tmp_path, clock, damage, word):
    board = Board("GPU-a")
    meter = metered(tmp_path, clock, [nvidia(Gpu("a"), FakeNvml([board], clock))])
    drive(meter, clock, [1010])
    damage(board)
    drive(meter, clock, [1020])
    board.stuck, board.counts = None, True
    drive(meter, clock, [1025])
    clock.now = 1040
    meter.close()
    account = read_energy(tmp_path)
    # Standing still is made up for when it moves again; a reading that failed loses both intervals around it.
    covered = {"fell": 10 + 20, "jumped": 10 + 20, "stood still": 40, "could not be read": 10 + 15}[word]
    assert account.total().value == pytest.approx(200 * covered, abs=0.005)
    assert account.total().high is None and any(word in gap for gap in account.gaps)


def test_before_volta_power_is_integrated(tmp_path, clock):
    board = Board("GPU-k80", counts=False, watts=lambda t: 100 + (t - 1000))  # linear: trapezoids are exact
    meter = metered(tmp_path, clock, [nvidia(Gpu("k80"), FakeNvml([board], clock))])
    drive(meter, clock, [1004, 1010])
    clock.now = 1020
    meter.close()
    total = read_energy(tmp_path).total()
    assert total.value == pytest.approx(100 * 20 + 20 * 20 / 2)
    assert "power integrated" in total.source


def test_divided_board_is_an_upper_bound(tmp_path, clock):
    meter = metered(tmp_path, clock, [nvidia(Gpu("a"), FakeNvml([Board("GPU-a", mig=True)], clock))])
    clock.now += 10
    meter.close()
    account = read_energy(tmp_path)
    assert (account.total().low, account.total().high) == (0, pytest.approx(2000))
    assert any("upper bound" in note for note in account.notes)


def test_grace_hopper_counts_the_module_and_no_processor(monkeypatch, clock):
    nvml = FakeNvml([Board("GPU-a", name="NVIDIA GH200 480GB")], clock)
    monkeypatch.setattr(meter_module, "nvidia", lambda gpu: nvidia(gpu, nvml))
    found = meter_module.instruments(CONFIG, 0, "s", Gpu("a"))
    assert [one.description.component for one in found] == ["module"]


@pytest.mark.parametrize("boards", [[], [Board("GPU-b")]], ids=["no driver", "another device"])
def test_unreadable_gpu_is_null_not_zero(tmp_path, clock, boards):
    meter = metered(tmp_path, clock, [nvidia(Gpu("a"), FakeNvml(boards, clock))])
    clock.now += 10
    meter.close()
    assert meter.read(1) == {"gpu": None}
    assert read_energy(tmp_path).total().value is None


def test_gpu_without_counter_beside_an_estimate_is_a_lower_bound(tmp_path, clock):
    found = [nvidia(Gpu("a"), FakeNvml([], clock)), BusyThreads("process-x", 2, 8, lambda: clock.now)]
    meter = metered(tmp_path, clock, found)
    clock.now += 10
    meter.close()
    total = read_energy(tmp_path).total()
    assert (total.value, total.low, total.high) == (pytest.approx(40), pytest.approx(20), None)


def test_mi250_dies_share_a_counter(tmp_path, clock):
    smi = FakeAmdSmi(clock)
    meters = [
        metered(tmp_path, clock, [amd(Gpu(None, pci), smi)], rank=rank, world_size=2)
        for rank, pci in enumerate(("00000000:c1:00.0", "0000:c6:00.0"))
    ]
    clock.now += 10
    for meter in meters:
        meter.close()
    assert read_energy(tmp_path).total().value == pytest.approx(5000, rel=1e-6)


def test_without_rocm_amd_is_not_measured(capsys):
    assert amd(Gpu(None, "0000:c1:00.0")).description.method == "not measured"
    assert capsys.readouterr().out == ""


# --- processors: what each failure of their counters comes to is in test_counters.py ---


def test_rapl_wraps_and_psys_is_not_added(tmp_path, clock):
    package = zone(tmp_path / "cap", "intel-rapl:0", "package-0", 990_000_000)
    zone(tmp_path / "cap", "intel-rapl:0:0", "dram", 5_000_000)
    zone(tmp_path / "cap", "intel-rapl:1", "psys", 7_000_000)
    found = counters(tmp_path / "cap")
    assert [one.description.component for one in found] == ["cpu", "dram"]
    run = tmp_path / "run"
    run.mkdir()
    meter = metered(run, clock, found)
    clock.now += 30
    (package / "energy_uj").write_text("20000000")  # wrapped at 1000 J
    meter.close()
    account = read_energy(run)
    assert account.components["cpu"].value == pytest.approx(30 - TICK)
    assert account.components["cpu"].provenance == "measured"


def test_rapl_left_alone_for_too_long_is_a_gap(tmp_path, clock):
    package = zone(tmp_path / "cap", "intel-rapl:0", "package-0", 0)
    meter = metered(tmp_path, clock, counters(tmp_path / "cap"))
    clock.now += 600
    (package / "energy_uj").write_text("900000000")
    meter.close()
    account = read_energy(tmp_path)
    assert "unseen" in account.gaps[0] and account.total().value is None


def test_estimate_has_an_interval_and_its_assumption(tmp_path, clock):
    meter = metered(tmp_path, clock, [BusyThreads("process-x", 1.5, 6.0, lambda: 2 * (clock.now - 1000))])
    clock.now += 10  # two busy threads
    meter.close()
    total = read_energy(tmp_path).total()
    assert (total.low, total.value, total.high) == (pytest.approx(30), pytest.approx(60), pytest.approx(120))
    assert total.provenance == "estimated" and "1.5 to 6 W" in total.source


def test_estimate_gives_way_to_the_hosts_counter(tmp_path, clock):
    package = zone(tmp_path / "cap", "intel-rapl:0", "package-0", 0)
    counter = metered(tmp_path, clock, counters(tmp_path / "cap"), rank=0, world_size=2)
    estimate = metered(tmp_path, clock, [BusyThreads("process-x", 1, 9, lambda: clock.now)], rank=1, world_size=2)
    clock.now += 10
    (package / "energy_uj").write_text("77000000")
    counter.close()
    estimate.close()
    total = read_energy(tmp_path).total()
    assert (total.value, total.provenance) == (pytest.approx(77 - TICK), "measured")


# --- books ---


def test_replayed_steps_are_wasted(tmp_path, clock):
    """Killed after step 8 (last reading), gone on from step 5: three steps of 10 s at 200 W were for nothing."""
    nvml = FakeNvml([Board("GPU-a")], clock)
    meter = metered(tmp_path, clock, [nvidia(Gpu("a"), nvml)])
    for step in (2, 4, 6, 8):
        clock.now = 1000 + 10 * step
        meter.read(step)
        meter.take()
    clock.now = 2000
    again = metered(tmp_path, clock, [nvidia(Gpu("a"), nvml)], attempt=1, step=5)
    clock.now = 2050
    again.read(10)
    again.close()
    account = read_energy(tmp_path)
    assert account.total().value == pytest.approx(200 * (80 + 50))
    assert account.wasted == pytest.approx(200 * 30)


def test_resume_on_another_gpu_and_another_number_of_ranks(tmp_path, clock):
    first = FakeNvml([Board("GPU-a", energy=lambda t: 100 * t)], clock)
    second = FakeNvml([Board("GPU-x", energy=lambda t: 50 * t), Board("GPU-y", energy=lambda t: 70 * t)], clock)
    meter = metered(tmp_path, clock, [nvidia(Gpu("a"), first)], world_size=1)
    clock.now += 10
    meter.close()
    clock.now += 100
    pair = [
        metered(tmp_path, clock, [nvidia(Gpu(name), second)], rank=rank, world_size=2, attempt=1)
        for rank, name in enumerate("xy")
    ]
    clock.now += 10
    for meter in pair:
        meter.close()
    account = read_energy(tmp_path)
    assert account.total().value == pytest.approx(1000 + 1200)
    assert account.rank_coverage == 1.0


def test_two_processes_in_one_folder_count_a_gpu_once(tmp_path, clock):
    """Both think that they are rank 0 of the first attempt."""
    nvml = FakeNvml([Board("GPU-a", energy=wave)], clock)
    meters = [metered(tmp_path, clock, [nvidia(Gpu("a"), nvml)]) for _ in range(2)]
    clock.now += 10
    for meter in meters:
        meter.close()
    assert read_energy(tmp_path).total().value == pytest.approx(wave(1010) - wave(1000), abs=0.005)


def test_phases_add_up_to_the_total(tmp_path, clock):
    meter = metered(tmp_path, clock, [nvidia(Gpu("a"), FakeNvml([Board("GPU-a", energy=wave)], clock))])
    for name, seconds in [("data", 3), ("optimizer", 4), ("evaluation", 5), ("other", 6), ("checkpoint", 7)]:
        meter.phase(name)
        clock.now += seconds
    meter.close()
    account = read_energy(tmp_path)
    assert set(account.phases) == {"start", "train", "evaluation", "checkpoint"}
    assert sum(account.phases.values()) == pytest.approx(account.total().value)
    assert account.phases["evaluation"] == pytest.approx(wave(1012) - wave(1007), abs=0.005)


def test_wall_clock_going_backwards_changes_nothing(tmp_path, clock, monkeypatch):
    wall = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(meter_module.time, "time", lambda: float(next(wall)))
    meter = metered(tmp_path, clock, [nvidia(Gpu("a"), FakeNvml([Board("GPU-a")], clock))])
    drive(meter, clock, [1010, 1020])
    meter.close()
    assert read_energy(tmp_path).total().value == pytest.approx(4000)


def test_other_hosts_are_counted_and_the_same_key_on_another_boot_is_another_device(tmp_path, clock):
    meter = metered(tmp_path, clock, [nvidia(Gpu("a"), FakeNvml([Board("GPU-a")], clock))], world_size=2)
    clock.now += 10
    meter.take()
    file = next(tmp_path.glob("energy-*.jsonl"))
    lines = [json.loads(line) | {"segment": "elsewhere"} for line in file.read_text().splitlines()]
    lines[0] |= {"boot": "another", "rank": 1}
    (tmp_path / "energy-node2.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    meter.take()
    assert meter.read(1)["gpu"] == pytest.approx(2 * 2000)
    meter.close()


def test_nonsense_lines_are_left_out():
    good = fold([]).account()
    state = fold([{}, {"kind": "open"}, {"kind": "reading", "segment": "x"}, {"kind": "open", "segment": 1, "boot": 2}])
    assert state.account() == good
    assert good.total().value is None


def test_full_disk_warns_once_and_never_stops_the_run(tmp_path, clock, capsys):
    meter = metered(tmp_path / "missing", clock, [nvidia(Gpu("a"), FakeNvml([Board("GPU-a")], clock))])
    drive(meter, clock, [1010, 1020])
    meter.close()
    meter.close()
    assert capsys.readouterr().err.count("energy readings are lost") == 1


def test_background_thread_reads_by_itself(tmp_path):
    import time

    config = Config.model_validate({"meter": {"every_seconds": 0.05}})
    meter = Meter(config, tmp_path)
    meter.start()
    deadline = time.monotonic() + 20
    while meter.read(1).get("cpu", 0) == 0 and time.monotonic() < deadline:
        sum(range(10000))
    meter.close()
    assert meter.read(1)["cpu"] > 0
    assert read_energy(tmp_path).total().low > 0
