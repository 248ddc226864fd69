"""Precision follows what the processor can do; said otherwise, what was said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.config import Config, host

WITH = "processor\t: 0\nmodel name\t: A 9654\nflags\t\t: fpu avx512f avx512_bf16\n\nprocessor\t: 1\n"
WITHOUT = "processor\t: 0\nmodel name\t: B 8370\nflags\t\t: fpu avx512f avx512vl\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\n"


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch):
    """Make /proc/cpuinfo say this, on a host without accelerators."""

    def pretend(text: str) -> None:
        monkeypatch.setattr(Path, "read_text", lambda self: text)
        monkeypatch.setattr(host, "has_accelerator", lambda: False)

    return pretend


def config(machine: str = "unstated", **engine: str) -> Config:
    return Config.model_validate({"engine": engine, "machine": {"name": machine}})


@pytest.mark.parametrize(("cpuinfo", "wanted"), [(WITH, "bf16"), (WITHOUT, "fp32"), (ARM, "bf16"), ("", "fp32")])
def test_auto_is_bf16_where_it_is_native(say, cpuinfo: str, wanted: str) -> None:
    say(cpuinfo)
    assert host.precision(config()) == host.precision(config(device="cpu")) == wanted


def test_what_is_stated_is_done(say) -> None:
    say(WITHOUT)
    assert host.precision(config(precision="bf16")) == "bf16"
    say(WITH)
    assert host.precision(config(precision="fp32")) == "fp32"


def test_accelerators_compute_in_bf16(say, monkeypatch: pytest.MonkeyPatch) -> None:
    say(WITHOUT)
    assert host.precision(config(device="cuda")) == host.precision(config("h100-sxm")) == "bf16"
    assert host.precision(config("h100-sxm", device="cpu")) == "fp32"
    monkeypatch.setattr(host, "has_accelerator", lambda: True)
    assert host.precision(config()) == "bf16" and host.precision(config(device="cpu")) == "fp32"


def test_the_processor_is_named(say) -> None:
    say(WITH)
    assert host.processor() == "A 9654"


def of_ranks(processes: int = 1, **engine: int) -> Config:
    return Config.model_validate({"engine": engine, "launch": {"processes": processes}})


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A process that may use 16 processors and stated no threads; the test writes what its control group says."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(host, "CGROUPS", tmp_path)
    monkeypatch.setattr(host, "OWN_CGROUP", tmp_path / "own")

    def write(own: str, **files: str) -> None:
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("_max", ".max").replace("cpu_cfs", "cpu.cfs")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return write


def test_threads_are_as_stated_or_a_share_of_the_cores(sixteen, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.threads(of_ranks(3)) == 5
    assert host.threads(of_ranks(3), sharing=2) == 2
    assert host.threads(of_ranks(32)) == 1
    for stated, wanted in (("7", 7), ("7,2", 7), ("0", 5), ("many", 5), ("", 5)):
        monkeypatch.setenv("OMP_NUM_THREADS", stated)
        assert host.threads(of_ranks(3)) == wanted
    assert host.threads(of_ranks(3, threads=9)) == 9


def test_control_groups_limit_the_cores(sixteen) -> None:
    sixteen("0::/job/step\n", job__cpu_max="450000 100000\n", job__step__cpu_max="max 100000\n")
    assert host.cores() == 4
    sixteen("0::/job/step\n", job__step__cpu_max="50000 100000\n")
    assert host.cores() == 1
    sixteen("0::/elsewhere\n")
    assert host.cores() == 16


def test_control_groups_of_version_1_do_too(sixteen, tmp_path: Path) -> None:
    sixteen("4:cpu,cpuacct:/docker\n0::/\n")
    group = tmp_path / "cpu" / "docker"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("300000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert host.cores() == 3
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert host.cores() == 16


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
def test_a_rank_under_taskset_computes_on_what_it_was_left(tmp_path: Path) -> None:
    """What a plan counts with and what a rank sets, both in processes that may use one processor; how long threads spin
    is bounded where the user says nothing of it."""
    program = """
import json, os, sys, torch
from trainer import worker
from trainer.config import Config
from trainer.config.host import threads

config = Config.model_validate({})
(run := worker.Path(sys.argv[1])).joinpath("config.yaml").write_text(config.to_yaml())
import trainer.training.distributed as distributed
distributed.join = lambda *_: (_ for _ in ()).throw(distributed.Unconnected("enough"))
planned = threads(config)
worker.work(run)
spins = os.environ.get("GOMP_SPINCOUNT")
print(json.dumps([planned, torch.get_num_threads(), os.environ["OMP_NUM_THREADS"], spins]))
"""
    one = str(min(os.sched_getaffinity(0)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    cases: list[tuple[dict[str, str], int, str | None]] = [
        ({}, 1, "1000"),
        ({"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "7"}, 2, "7"),
        ({"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "active"}, 2, None),
    ]
    for stated, wanted, spins in cases:
        given = environment | stated
        command = ["taskset", "-c", one, sys.executable, "-c", program, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, env=given, timeout=120)
        assert json.loads(done.stdout.splitlines()[-1]) == [wanted, wanted, str(wanted), spins], done.stderr
