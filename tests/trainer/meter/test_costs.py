"""Records of what commands spend outside of ranks: where they lie, what they hold, and that nothing is booked twice."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from fakes import counters, run_on, zone

from trainer.books.cost_records import cost_records
from trainer.books.energy import read_energy
from trainer.books.records import read_lines
from trainer.config import Config
from trainer.meter import Meter, costs
from trainer.meter.rapl import Host
from trainer.utils.errors import UserError


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate({"run": {"root": str(tmp_path / "runs")}, "meter": {"every_seconds": 60.0}})


@pytest.fixture(autouse=True)
def no_counters(monkeypatch) -> None:
    monkeypatch.setattr(costs, "host_counters", lambda: Host([], "no RAPL counter"))


def work(seconds: float) -> None:
    """Spend processor time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        sum(range(1000))


def test_a_command_writes_one_record_by_what_it_worked_for(config):
    def prepare() -> int:
        work(0.05)
        costs.into_root(config)
        work(0.1)
        return 0

    assert costs.metered("data", ["data", "data=text"], prepare) == 0
    [one] = cost_records(Path(config.run.root))
    assert one.file.parent == Path(config.run.root) / "costs" and one.file.name.startswith("cost-data-")
    assert (one.verb, one.command, one.run, one.outcome) == ("data", ("data", "data=text"), None, "done")
    assert (one.part, one.parts) == ("data", {"data": 1.0})
    assert 0.15 <= one.cpu_seconds < 5 and one.seconds >= 0.1 and one.start <= one.end
    cpu = one.components["cpu"]
    assert cpu.provenance == "estimated"
    assert cpu.value == pytest.approx((1.5 * 7) ** 0.5 * one.cpu_seconds, rel=0.1)  # from before `into` on
    [end] = [line for line in read_lines(one.file) if line["kind"] == "end"]
    assert end["components"]["cpu"]["joules"] == pytest.approx(cpu.value) and end["outcome"] == "done"


def test_a_refused_command_leaves_nothing(config, tmp_path, monkeypatch):
    """But one that had worked for long."""

    def refuse() -> int:
        costs.into_root(config)
        raise UserError("data.path: nothing there")

    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError):
        costs.metered("data", ["data"], refuse)
    assert set(tmp_path.rglob("*")) == before
    monkeypatch.setattr(costs, "REFUSED_SECONDS", 0.0)
    with pytest.raises(UserError):
        costs.metered("data", ["data"], refuse)
    [one] = cost_records(Path(config.run.root))
    assert one.outcome == "failed"


def test_preparation_inside_of_a_start_is_data(config, tmp_path):
    run = tmp_path / "runs" / "e" / "a"

    def train() -> int:
        with costs.phase("preparation"):
            work(0.2)
        costs.into(run, config)
        with costs.phase("report"):
            work(0.1)
        return 0

    costs.metered("train", ["train"], train)
    [one] = cost_records(tmp_path / "runs")
    assert one.run == "e/a" and one.part == "set-up"
    assert one.parts["data"] == pytest.approx(one.phases["preparation"] / sum(one.phases.values()))
    assert one.phases["preparation"] > one.phases["report"] > 0 and sum(one.parts.values()) == pytest.approx(1)


def test_a_rank_in_the_same_process_books_its_own_time(config, tmp_path):
    run = tmp_path / "runs" / "e" / "a"
    run.mkdir(parents=True)

    def train() -> int:
        costs.into(run, config)
        with costs.handed_over():
            work(0.8)  # before its meter opens
            time.sleep(0.3)
            meter = Meter(config, run)
            meter.start()
            work(0.4)
            meter.close()
        work(0.4)
        return 0

    began = time.process_time()
    costs.metered("train", ["train"], train)
    spent = time.process_time() - began
    [one] = cost_records(tmp_path / "runs")
    rank = read_energy(run)
    assert one.coverage == pytest.approx(1) == rank.covered().value  # while it rests it misses nothing
    assert rank.cpu_seconds >= 1.2
    joules = one.total().value + rank.total().value
    assert joules == pytest.approx((1.5 * 7) ** 0.5 * spent, rel=0.05)


def test_without_a_word_where_it_belongs_nothing_is_written(tmp_path, config):
    assert costs.metered("eval", ["eval"], lambda: 2) == 2
    assert cost_records(tmp_path / "runs") == [] and not (tmp_path / "runs").exists()


def test_failures_and_lost_records_count(config, tmp_path):
    def fails() -> int:
        costs.into_root(config)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        costs.metered("calibrate", ["calibrate"], fails)
    [one] = cost_records(tmp_path / "runs")
    assert one.outcome == "failed"
    whole = one.file.read_text().splitlines()
    (one.file.parent / "cost-eval-20260101T000000Z-1.jsonl").write_text(
        "\n".join([whole[0].replace('"calibrate"', '"eval"'), *whole[1:-1], '{"kind": "rea'])
    )
    (one.file.parent / "cost-data-20260101T000000Z-1.jsonl").write_text('{"kind": "open", "verb": "data"}\n{}\n{}\n')
    found = {record.verb: record.outcome for record in cost_records(tmp_path / "runs")}
    assert found == {"calibrate": "failed", "eval": "lost"}


def test_a_counter_of_the_host_is_read_by_a_command_that_has_no_ranks(config, tmp_path, monkeypatch):
    package = zone(tmp_path / "cap", "intel-rapl:0", "package-0", 0)
    zone(tmp_path / "cap", "intel-rapl:0:0", "dram", 0)
    monkeypatch.setattr(costs, "host_counters", lambda: Host(counters(tmp_path / "cap"), ""))

    def evaluate() -> int:
        run_on(tmp_path / "cap")
        costs.into_root(config)
        (package / "energy_uj").write_text("12000000")
        return 0

    costs.metered("eval", ["eval"], evaluate)
    [one] = cost_records(tmp_path / "runs")
    assert one.components["cpu"].provenance == "measured"
    assert one.components["cpu"].value == pytest.approx(12, abs=0.01)


def test_secrets_of_a_command_stay_out(config, monkeypatch):
    monkeypatch.setenv("MY_API_TOKEN", "abcdefgh12345678")
    costs.metered("data", ["data", "x=abcdefgh12345678"], lambda: costs.into_root(config) or 0)
    [one] = cost_records(Path(config.run.root))
    assert "abcdefgh12345678" not in one.file.read_text() and one.command[1] == "x=$MY_API_TOKEN"


def test_a_forked_child_has_a_record_of_its_own(config, tmp_path):
    def sweep() -> int:
        costs.into_root(config)
        pid = os.fork()
        if pid == 0:
            code = costs.metered_child(lambda: costs.into(tmp_path / "runs" / "e" / "b", config) or 0)
            os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert costs.metered("sweep", ["sweep"], sweep) == 0
    assert [one.run for one in cost_records(tmp_path / "runs")] in ([None, "e/b"], ["e/b", None])
    assert json.loads(next(tmp_path.glob("runs/costs/*")).read_text().splitlines()[0])["cost"] == 1


def test_a_run_that_is_prepared_moves_its_record_when_its_folder_is_there(config, tmp_path):
    root, run = tmp_path / "runs", tmp_path / "runs" / "e" / "a"

    def train() -> int:
        costs.for_now(config)
        with costs.phase("preparation"):
            work(0.05)
            [early] = cost_records(root)  # as it is found where the process is killed
            assert (early.file.parent, early.outcome) == (root / "costs", "lost")
        costs.into(run, config)
        costs.into(tmp_path / "elsewhere", config)
        work(0.05)
        return 0

    costs.metered("train", ["train"], train)
    [one] = cost_records(root)
    assert (one.run, one.outcome) == ("e/a", "done") and one.parts["data"] > 0 and one.cpu_seconds >= 0.1
    assert not (root / "costs").exists() and not (tmp_path / "elsewhere").exists()


def test_where_no_record_can_lie_a_command_works_without(config, tmp_path, capsys):
    """It says what is wrong itself, once."""
    (tmp_path / "runs").write_text("a file")
    assert costs.metered("train", ["train"], lambda: costs.for_now(config) or 0) == 0
    assert capsys.readouterr() == ("", "")
