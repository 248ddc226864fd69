"""Preflight names the node that is not what it should be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from launch.node_report import RankReport, evaluate, evaluate_together
from launch.plan import HOME
from launch.preflight import code_hash, format_problems, matmul
from tests.ports import free_port
from trainer.books.cost_records import cost_records
from trainer.compose import compose
from trainer.config import Config

GOOD = RankReport(
    rank=0,
    node="n1",
    devices=2,
    device="H100",
    versions={"torch": "2.13.0", "deepspeed": "0.19.8"},
    code="c0de" * 8,
    config="c0ff" * 8,
    free_bytes=10**13,
    matmul_flop_per_second=5e14,
    clock=1000.0,
)


@pytest.fixture(scope="module")
def config() -> Config:
    return compose(
        ["launch=slurm", "launch.nodes=4", "launch.processes=2", "machine=h100-sxm", "machine.network_bandwidth=5e10"]
    )


def four_nodes(**odd: Any) -> list[RankReport]:
    """Eight ranks on four nodes; the third node is odd."""
    reports = [replace(GOOD, rank=rank, node=f"n{rank // 2 + 1}") for rank in range(8)]
    return [replace(report, **odd) if report.node == "n3" else report for report in reports]


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        ({"arrived": False}, "did not arrive within 600 s"),
        ({"devices": 1}, "1 devices, 2 wanted"),
        ({"device": "A100"}, "the device: A100, other nodes have H100"),
        ({"versions": {"torch": "2.12.0", "deepspeed": "0.19.8"}}, "torch: 2.12.0, other nodes have 2.13.0"),
        ({"versions": {"torch": "2.13.0", "deepspeed": None}}, "deepspeed: None, other nodes have 0.19.8"),
        ({"code": "beef" * 8}, "the code of the project: beefbeefbeef, other nodes have c0dec0dec0de"),
        ({"config": "beef" * 8}, "config.yaml: beefbeefbeef, other nodes have c0ffc0ffc0ff"),
        ({"free_bytes": 10**6}, "1 MB free where the run lies, its checkpoints take"),
        ({"folder": "Read-only file system"}, "cannot write to the run folder (Read-only file system)"),
        ({"shared": False}, "its run folder is not the one of the first node"),
        ({"matmul_right": False}, "a matrix product comes out wrong"),
        ({"matmul_flop_per_second": 1e14}, "a matrix product is slow: 100 TFLOP/s, the median rank 500 TFLOP/s"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_one_odd_node_is_named_once(odd: dict[str, Any], expected: str, config: Config) -> None:
    (problem,) = evaluate(four_nodes(**odd), config)
    assert problem.node == "n3"
    assert problem.text.startswith(expected)


def test_good_nodes_pass(config: Config) -> None:
    assert evaluate(four_nodes(), config) == []
    assert evaluate_together(four_nodes(), config, 0.001, 1 << 28) == []


@pytest.mark.parametrize(
    ("odd", "seconds", "expected"),
    [
        ({"sum_right": False}, 0.001, ("n3", "an all-reduce comes out wrong")),
        ({"clock": 1500.0}, 0.001, ("n3", "its clock is 8 min 20 s ahead of the others'")),
        ({"clock": 0.0}, 0.001, ("n3", "its clock is 16 min 40 s behind the others'")),
        ({}, 10.0, ("all nodes", "an all-reduce is slow: 47 MB/s of 50 GB/s stated")),
    ],
)
def test_what_only_shows_together(
    odd: dict[str, Any], seconds: float, expected: tuple[str, str], config: Config
) -> None:
    (problem,) = evaluate_together(four_nodes(**odd), config, seconds, 1 << 28)
    assert (problem.node, problem.text) == expected


def test_two_nodes_and_two_opinions_name_the_one_that_is_not_the_first(config: Config) -> None:
    reports = [GOOD, replace(GOOD, rank=1, node="n2", code="beef" * 8)]
    (problem,) = evaluate(reports, config)
    assert problem.node == "n2"


def test_the_way_on_is_an_override(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    text = format_problems(evaluate(four_nodes(devices=0), config))
    assert text.splitlines()[-1] == "to leave them out: launch.exclude=[n3]"


def test_a_wrong_product_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right, speed = matmul(torch.device("cpu"), "fp32")
    assert right
    assert speed > 1e8
    product = torch.Tensor.__matmul__

    def flipped(left: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        result = product(left, other)
        if result.dtype == torch.float32 and result.dim() == 2:
            result[3, 5] += 1
        return result

    monkeypatch.setattr(torch.Tensor, "__matmul__", flipped)
    assert not matmul(torch.device("cpu"), "fp32")[0]


def test_code_hash_sees_one_changed_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("trainer", "kernels", "launch", "conf"):
        shutil.copytree(HOME / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("launch.preflight.HOME", tmp_path)
    assert code_hash() == code_hash()
    before = code_hash()
    with open(tmp_path / "trainer" / "loop.py", "a") as file:
        file.write(" ")
    assert code_hash() != before


def test_two_ranks_of_which_one_never_comes_and_two_whose_configuration_differs(
    tmp_path: Path, tiny: list[str]
) -> None:
    """Real processes, as srun would start them. The one with another config.yaml reads another folder."""
    words = [*tiny, "launch.nodes=1", "launch.processes=2"]
    for name, extra in (("one", []), ("two", ["seed=1"]), ("alone", ["launch.rendezvous_seconds=5"])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(compose([*words, *extra]).to_yaml())

    def start(rank: int, folder: str, port: int) -> subprocess.Popen[str]:
        place = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NTASKS": "2", "SLURM_NODEID": str(rank)}
        rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "SLURMD_NODENAME": f"n{rank + 1}"}
        arguments = [sys.executable, "-m", "launch.preflight", str(tmp_path / folder)]
        environment = {**os.environ, **place, **rendezvous}
        return subprocess.Popen(arguments, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True)

    first, second = start(0, "one", port := free_port()), start(1, "two", port)
    assert (first.wait(300), second.wait(300)) == (2, 2)
    told = first.communicate()[0]
    assert "isoflop: preflight: n2: config.yaml: " in told
    assert "preflight: n2: its run folder is not the one of the first node" in told
    assert "isoflop:" not in second.communicate()[0]  # told once

    alone = start(0, "alone", free_port())
    assert alone.wait(300) == 2
    assert "isoflop: preflight: node 0: did not arrive within 5 s" in alone.communicate()[0]
    kept = json.loads((tmp_path / "alone" / "preflight.json").read_text())
    assert [one["arrived"] for one in kept["ranks"]] == [True, False]


def test_this_host_is_fit(isoflop: Any) -> None:
    done = isoflop("preflight", "launch.processes=2", "engine.threads=1", "--json")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert len(seen["ranks"]) == 2
    assert seen["complaints"] == []
    assert sorted((one["source"], one["target"]) for one in seen["links"]) == [(0, 1), (1, 0)]
    assert all(one["bytes_per_second"] > 0 and one["seconds"] > 0 for one in seen["links"])
    booked = cost_records(isoflop.folder / "runs")  # of the command and of its ranks
    assert [one.verb for one in booked] == ["preflight"] * 3 and min(one.cpu_seconds for one in booked) > 0.1
    assert [one.name for one in (isoflop.folder / "runs").iterdir()] == ["costs"]
