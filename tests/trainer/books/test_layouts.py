"""`isoflop plan layouts=...`: what is found fits, nothing that was left out is better, and its words are right."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest

from trainer.books import plan
from trainer.books.fitting import RECOMPUTATIONS, RESERVE
from trainer.books.layouts import layouts
from trainer.cli.main import main
from trainer.compose import compose

RUN = ["model=llama-7b", "machine=h100-sxm", "optim.batch_size=64", "data.sequence_length=2048"]
NETWORK = "machine.network_bandwidth=5e10"
FEW = ["engine.sequence_parallel=1", "engine.sequence_kind=ulysses"]  # of the search, to save time


def printed(capsys: Any, *words: str) -> Any:
    assert main(["plan", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_words_of_each_are_the_run_that_was_laid_out(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, *RUN, NETWORK, *FEW, "layouts=2x8")
    assert (found["nodes"], found["devices"], len(found["layouts"])) == (2, 8, 10)
    for one in (found["layouts"][0], found["layouts"][-1]):
        config = compose([*found["words"], *one["overrides"]])
        tag = plan(config)
        assert config.launch.ranks == 16
        assert tag["memory.rank"].planned.value == one["memory_bytes"] <= 80e9 * (1 - RESERVE)
        assert tag["time.step"].planned.value == pytest.approx(one["seconds_per_step"]["value"])
        assert tag["mfu"].planned.value == pytest.approx(one["utilisation"])
        assert tag["wire.between_hosts"].planned.value == pytest.approx(one["between_hosts_bytes"])
    times = [one["seconds_per_step"]["value"] for one in found["layouts"]]
    assert times == sorted(times)
    assert compose([*found["words"]]).science_hash() == compose(RUN).science_hash()


def test_no_other_layout_is_quicker() -> None:
    """Every stage, micro-batch and recomputation by itself, as the plan has it, on one node."""
    config = compose([*RUN, *FEW, "launch.processes=8", "engine.wire=bf16"])
    kept = frozenset({"sequence_parallel", "sequence_kind", "wire", "keep_gathered", "partition"})
    found, best = layouts(config, 1, 8, kept), []
    for stage, rows, again in product((1, 2, 3), (8, 4, 2, 1), RECOMPUTATIONS):
        update = {"zero_stage": stage, "micro_batch": rows, "activation_checkpointing": again}
        tag = plan(config.model_copy(update={"engine": config.engine.model_copy(update=update)}))
        if tag["memory.rank"].planned.value <= found.available:
            best.append(tag["time.step"].planned.value)
    assert found.cheapest[0].seconds.value == pytest.approx(min(best))


def test_what_is_given_stays(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, *RUN, *FEW, "engine.zero_stage=2", "engine.micro_batch=1", "layouts=8")
    for one in found["layouts"]:
        assert not [word for word in one["overrides"] if word.startswith(("engine.zero_stage", "engine.micro_batch"))]


@pytest.mark.parametrize("mark", ["+", "++"])
def test_what_is_given_stays_however_it_is_given(mark: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, *RUN, *FEW, f"{mark}engine.zero_stage=2", "engine.micro_batch=1", "layouts=8")
    assert not [word for one in found["layouts"] for word in one["overrides"] if "zero_stage" in word]


def test_weights_travel_in_fp32_where_a_processor_has_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.config.host._cpuinfo", lambda name: "")
    rates = ["machine.peak_flops={fp32: 1e12}", "machine.memory_bytes=8e10", "machine.memory_bandwidth=1e11"]
    small = ["model=llama-mini", *FEW, "engine.device=cpu", "machine.link_bandwidth=1e9", *rates]
    found = layouts(compose(small), 1, 2, frozenset({"sequence_parallel"}))
    assert not [word for one in found.cheapest for word in one.words if word == "engine.wire=bf16"]


def test_more_devices_than_sequences_need_shared_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """8 sequences for 16 devices: only layouts whose ranks share sequences are left."""
    few = ["model=llama-7b", "machine=h100-sxm", "optim.batch_size=8", "data.sequence_length=8192", NETWORK]
    found = printed(capsys, *few, "layouts=2x8")
    assert found["layouts"]
    for one in found["layouts"]:
        shared = [word.partition("=")[2] for word in one["overrides"] if word.startswith("engine.sequence_parallel=")]
        assert len(shared) == 1
        assert int(shared[0]) >= 2


def test_a_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *RUN, *FEW, "layouts=8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("8 devices: ")
    assert lines[1].split() == ["time/step", "tokens/s", "of", "peak", "memory", "wire", "sent", "between", "hosts"]
    commands = [line for line in lines if "isoflop train model=llama-7b" in line]
    assert len(commands) == 10
    assert commands[0].split()[0] == "1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["layouts=8x"], "layouts: '8x' given; nodes x devices of each wanted, e.g. 8x8, or devices of one, e.g. 8"),
        (["layouts=0x8"], "layouts: '0x8' given; nodes x devices of each wanted, e.g. 8x8, or devices of one, e.g. 8"),
        (
            ["layouts=8xx8"],
            "layouts: '8xx8' given; nodes x devices of each wanted, e.g. 8x8, or devices of one, e.g. 8",
        ),
        (["layouts=abc"], "layouts: 'abc' given; nodes x devices of each wanted, e.g. 8x8, or devices of one, e.g. 8"),
        (["layouts=2", "layouts=4"], "layouts: given 2 times (layouts=2, layouts=4); one cluster is tried at a time"),
        (["layouts=8", "launch.nodes=2"], "layouts: 8 says how many there are; leave launch.nodes out"),
        (["layouts=8", "--largest"], "layouts: one run is laid out; leave --largest out"),
        (["layouts=8", "machine=unstated"], "layouts=1x8: state machine.memory_bytes and machine.peak_flops"),
        (["layouts=8x8"], "layouts=8x8: state machine.network_bandwidth, by which layouts differ"),
        (["layouts=65", "optim.batch_size=64", *FEW], "launch.processes: 65 ranks cannot share optim.batch_size 64"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *RUN, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_nearest_of_what_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *RUN, *FEW, "machine.memory_bytes=2e9", "layouts=2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "fits 1.9 GB a device; the nearest needs " in line
    assert "engine.zero_stage=3" in line


def test_no_torch(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    words = ["plan", *RUN, *FEW, "layouts=8"]
    code = f"import sys; from trainer.cli.main import main; main({words!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=pytestconfig.rootpath)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_every_layout_of_a_cluster_is_one_of_its_configurations() -> None:
    """Those that are printed differ, in words and in figures."""
    found = layouts(compose([*RUN, NETWORK, "launch=slurm"]), 2, 8, frozenset({"sequence_parallel"}))
    assert len({one.words for one in found.cheapest}) == len(found.cheapest) == 10
    figures = [(one.seconds.value, one.memory, one.sent) for one in found.cheapest]
    assert all(a != b for a, b in pairwise(figures))
    assert found.fitting <= found.tried


@pytest.mark.parametrize(("tokens", "batch", "cluster", "ranks"), [(131_072, 8, (1, 8), 2), (1_048_576, 2, (8, 8), 32)])
def test_long_contexts_fit_where_ranks_share_sequences(
    tokens: int, batch: int, cluster: tuple[int, int], ranks: int, capsys: pytest.CaptureFixture[str]
) -> None:
    long = ["model=llama3.2-1b", "machine=h100-sxm", f"data.sequence_length={tokens}", f"optim.batch_size={batch}"]
    found = printed(capsys, *long, NETWORK, f"layouts={cluster[0]}x{cluster[1]}")
    assert len(found["layouts"]) == 10
    for one in found["layouts"]:
        assert printed(capsys, *found["words"], *one["overrides"])["fit"]["fits"] is True
    one = compose([*found["words"], *found["layouts"][0]["overrides"]])
    assert one.engine.sequence_parallel >= ranks


def test_experts_are_shared_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=mixtral-8x7b", "machine=h100-sxm", "optim.batch_size=64", "data.sequence_length=4096", NETWORK]
    found = printed(capsys, *words, *FEW, "layouts=4x8")
    shared = [one for one in found["layouts"] if any("expert_parallel=" in word for word in one["overrides"])]
    assert shared
    for one in shared[:2]:
        assert compose([*found["words"], *one["overrides"]]).engine.expert_parallel > 1
