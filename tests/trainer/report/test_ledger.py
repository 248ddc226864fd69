"""The ledger: totals by experiment that forget no run and count no reading twice."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
from run_folders import energy_lines, make_run, step_line, write_lines

from trainer.cli.main import main
from trainer.config import SiteConfig, load
from trainer.report import (
    append_ledger,
    format_ledger,
    ledger,
    ledger_json,
    read_run,
    report_attempt,
    reserve_ledger,
    write_report,
)
from trainer.report.ledger_file import read_ledger
from trainer.run_folder import RunFolder
from trainer.utils.errors import UserError

FRANCE = SiteConfig(name="fr", pue=1.2, gco2e_per_kwh=56.0, intensity_year=2023, intensity_source="a grid report")


def evaluated(run, bits: float) -> None:
    """The same run with another held-out result."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["kind"] == "evaluation":
            line.update(bits_per_byte=bits, loss=bits)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_final_tuning_failed_and_wasted(tmp_path):
    runs = {name: make_run(tmp_path, name=name) for name in ("a", "b", "c")}
    killed = make_run(tmp_path, name="killed", steps=5)
    for (name, run), bits in zip(runs.items(), (2.0, 1.5, 3.0), strict=True):
        evaluated(run, bits)
        write_lines(run / "energy-h.jsonl", energy_lines(name, joules=3.6e6))
    write_lines(killed / "energy-h.jsonl", energy_lines("k", joules=7.2e6))
    config = load(runs["c"] / "config.yaml")
    again = [step_line(config, step, attempt=1) for step in range(15, 21)]
    write_lines(runs["c"] / "metrics.jsonl", again)
    evaluated(runs["c"], 3.0)
    for run in runs.values():  # the killed one could not
        append_ledger(run)
    account = next(iter(ledger(tmp_path).values()))
    kwh = {kind: account.sums[kind]["kwh"] for kind in ("final", "tuning", "lost")}
    assert {kind: (part.value, part.runs) for kind, part in kwh.items()} == {
        "final": (pytest.approx(1), 1),
        "tuning": (pytest.approx(2), 2),
        "lost": (pytest.approx(2), 1),
    }
    assert account.total("kwh").value == pytest.approx(5)
    assert account.scores[0] == 1.5
    assert account.sums["wasted"]["kwh"].runs == 1
    # By hand, of 2.0, 1.5 and 3.0: the best of two of them is 1.5, 1.5 or 2.0 (without replacement).
    one, two, three = account.expected_best()
    assert (one["unbiased"], two["unbiased"], three["unbiased"]) == pytest.approx((6.5 / 3, 5 / 3, 1.5))
    assert (one["biased"], two["biased"]) == pytest.approx((6.5 / 3, (5 * 1.5 + 3 * 2.0 + 3.0) / 9))
    assert (one["kwh"], three["kwh"]) == pytest.approx((1, 3))
    text = format_ledger(ledger(tmp_path))
    assert "expected best bits per byte against budget" in text
    assert text.splitlines()[-1].split() == ["3", "0.01444", "3", "1.6852", "1.5000"]


def test_what_became_of_runs_that_have_not_finished(tmp_path):
    runs = {name: make_run(tmp_path, name=name, steps=5) for name in ("held", "stopped", "halted", "failed", "killed")}
    for name in ("stopped", "halted", "failed"):
        with (runs[name] / "events.jsonl").open("a") as events:
            events.write(json.dumps({"name": name, "time": 2e9, "step": 5, "data": {"status": name}}) + "\n")
        append_ledger(runs[name])
    (make_run(tmp_path, name="queued", steps=0) / "events.jsonl").unlink()
    # Resumed after it had stopped, and killed then: its line in the ledger is old.
    again = make_run(tmp_path, name="again", steps=5)
    with (again / "events.jsonl").open("a") as events:
        events.write(json.dumps({"name": "stopped", "time": 2e9, "step": 5, "data": {"status": "stopped"}}) + "\n")
        append_ledger(again)
        events.write(json.dumps({"name": "resume", "time": 3e9, "step": 5, "data": {}}) + "\n")
    held = RunFolder(runs["held"]).lock()
    account = next(iter(ledger(tmp_path).values()))
    held.close()
    counts = {kind: max((part.runs for part in sums.values()), default=0) for kind, sums in account.sums.items()}
    expected = {"running": 1, "stopped": 1, "failed": 2, "lost": 2, "not started": 1}
    assert {kind: count for kind, count in counts.items() if count} == expected
    assert next(iter(ledger(tmp_path).values())).sums["lost"]["kwh"].runs == 3
    shutil.rmtree(runs["stopped"])  # what its line says stays
    assert next(iter(ledger(tmp_path).values())).sums["stopped"]["kwh"].runs == 1


def test_nobody_measured_is_null_and_some_measured_says_how_many(tmp_path):
    first, second = make_run(tmp_path, name="a"), make_run(tmp_path, name="b")
    data = next(iter(ledger_json(ledger(tmp_path)).values()))
    assert data["total"]["kwh"] == {"value": None, "known": 0, "runs": 2}
    write_lines(first / "energy-h.jsonl", energy_lines("a", joules=3.6e6))
    assert "(1 of 2 runs)" in format_ledger(ledger(tmp_path))
    append_ledger(second)
    assert json.dumps(ledger_json(ledger(tmp_path)))


def test_copied_run_folder_counts_once(tmp_path):
    run = make_run(tmp_path, name="a")
    write_lines(run / "energy-h.jsonl", energy_lines("a", joules=3.6e6))
    copy = run.parent / "b"
    shutil.copytree(run, copy)
    write_lines(copy / "energy-h.jsonl", energy_lines("more", joules=1.8e6))
    account = next(iter(ledger(tmp_path).values()))
    assert account.total("kwh").value == pytest.approx(1.5)
    assert account.copies == 1
    assert "copies" in format_ledger(ledger(tmp_path))


def test_damaged_run_folders_do_not_hide_the_others(tmp_path):
    make_run(tmp_path, name="good")
    bad = tmp_path / "e" / "bad"
    bad.mkdir(parents=True)
    (bad / "config.yaml").write_text("model: 7\n")
    assert len(ledger(tmp_path)) == 1
    assert ledger(tmp_path / "nothing") == {}
    assert format_ledger({}) == "no runs"


def test_the_root_is_found_where_only_killed_runs_lie(tmp_path, capsys):
    run = make_run(tmp_path, steps=3)
    assert main(["ledger", str(tmp_path)]) == 0
    assert "lost" in capsys.readouterr().out
    for wrong, hint in ((run.parent, f"did you mean {tmp_path}?"), (tmp_path / "none", f"did you mean {tmp_path}?")):
        assert main(["ledger", str(wrong)]) == 2
        assert hint in capsys.readouterr().err


def test_another_site_changes_the_price_and_nothing_else(tmp_path):
    run = make_run(tmp_path, {"machine": {"name": "card", "peak_flops": {"bf16": 1e12}, "power_watts": 100.0}})
    write_lines(run / "energy-h.jsonl", energy_lines("a", joules=3.6e6))
    before = {file: file.read_bytes() for file in run.iterdir()}
    write_report(run, FRANCE)
    tag = read_run(run, FRANCE).tag
    assert tag["energy.device_kwh"].measured.value == pytest.approx(1)
    assert tag["energy.kwh"].measured.value == pytest.approx(1.2)
    assert tag["carbon.kgco2e"].measured.value == pytest.approx(1.2 * 0.056)
    planned = tag["energy.device_kwh"].planned.value
    assert tag["carbon.kgco2e"].planned.value == pytest.approx(planned * 1.2 * 0.056)
    assert "a grid report 2023" in (run / "card.md").read_text()
    assert all(file.read_bytes() == content for file, content in before.items())
    plain = read_run(run).tag
    assert plain["carbon.kgco2e"].measured.value is None


def test_market_and_location_stand_side_by_side(tmp_path):
    site = FRANCE.model_copy(update={"market_gco2e_per_kwh": 0.0})
    run = make_run(tmp_path)
    write_lines(run / "energy-h.jsonl", energy_lines("a", joules=3.6e6))
    tag = read_run(run, site).tag
    assert tag["carbon.market_kgco2e"].measured.value == 0
    assert tag["carbon.kgco2e"].measured.value > 0


def test_software_carbon_intensity(tmp_path):
    """ISO/IEC 21031: (E x I + M) per functional unit; here a million tokens."""
    machine = {"embodied_kgco2e": 150.0, "lifetime_hours": 30_000.0}
    run = make_run(tmp_path, {"machine": machine})
    write_lines(run / "energy-h.jsonl", energy_lines("a", joules=3.6e6))
    tag = read_run(run, FRANCE).tag
    hours = tag["machine.device_hours"].measured.value
    expected = (1.2 * 56 + 1000 * 150 * hours / 30_000) / (20 * 4 * 64 / 1e6)
    assert tag["carbon.sci_g_per_mtoken"].measured.value == pytest.approx(expected)


def test_emissions_in_the_card_are_grams(tmp_path):
    import yaml

    run = make_run(tmp_path)
    write_lines(run / "energy-h.jsonl", energy_lines("a", joules=3.6e6))
    write_report(run, FRANCE)
    head = yaml.safe_load((run / "card.md").read_text().split("---")[1])
    emissions = head["co2_eq_emissions"]
    assert emissions["emissions"] == pytest.approx(67.2)
    assert emissions["geographical_location"] == "fr"
    assert emissions["training_type"] == "pre-training"


def lines_of(root):
    return (root / "ledger.jsonl").read_bytes().splitlines()


def test_the_line_of_an_attempt_is_reserved_at_its_start_and_overwritten_at_its_end(tmp_path):
    run, other = make_run(tmp_path), make_run(tmp_path, name="other")
    reserve_ledger(run)
    before = (tmp_path / "ledger.jsonl").stat().st_size
    append_ledger(other)  # ends meanwhile
    with_other = (tmp_path / "ledger.jsonl").stat().st_size
    append_ledger(run)
    assert (tmp_path / "ledger.jsonl").stat().st_size == with_other > before
    first, second = map(json.loads, lines_of(tmp_path))
    assert (first["run"], first["status"]) == (f"{run.parent.name}/r1", "finished")
    assert second["run"] == f"{run.parent.name}/other"
    append_ledger(run)  # as `isoflop report` does: there is no reserved line any more
    assert len(lines_of(tmp_path)) == 3
    assert read_ledger(tmp_path)[first["run"]] == json.loads(lines_of(tmp_path)[2])


def test_a_line_that_needs_more_than_its_room_is_a_new_one(tmp_path):
    run = make_run(tmp_path)
    reserve_ledger(run)
    write_lines(run / "energy-h.jsonl", [line for n in range(200) for line in energy_lines(f"segment-{n}", joules=1.0)])
    append_ledger(run)
    assert [json.loads(line)["status"] for line in lines_of(tmp_path)] == ["running", "finished"]
    assert read_ledger(tmp_path)[f"{run.parent.name}/r1"]["status"] == "finished"


def test_a_run_whose_folder_is_gone_before_it_ended_is_lost_and_counts_what_it_had_cost(tmp_path):
    run = make_run(tmp_path, steps=5)
    write_lines(run / "energy-h.jsonl", energy_lines("a", joules=3.6e6))
    with (run / "events.jsonl").open("a") as events:
        events.write(json.dumps({"name": "stopped", "time": 2e9, "step": 5, "data": {"status": "stopped"}}) + "\n")
    append_ledger(run)
    reserve_ledger(run)
    shutil.rmtree(run)
    lost = next(iter(ledger(tmp_path).values())).sums["lost"]["kwh"]
    assert (lost.runs, lost.value) == (1, pytest.approx(1.0))


def test_a_full_disk_at_the_end_leaves_the_ledger_right(tmp_path, monkeypatch):
    """Neither the logbook's last line nor the report could be written; what was reserved can be."""
    run = make_run(tmp_path, steps=5)
    reserve_ledger(run)
    size = (tmp_path / "ledger.jsonl").stat().st_size

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("trainer.report.write_atomic", full)
    monkeypatch.setattr(os, "write", full)
    report_attempt(run, 1)
    assert (tmp_path / "ledger.jsonl").stat().st_size == size
    assert [json.loads(line)["status"] for line in lines_of(tmp_path)] == ["failed"]
    account = next(iter(ledger(tmp_path).values()))
    assert account.sums["failed"]["hours"].runs == 1
    assert account.sums["lost"]["hours"].runs == 0


def test_a_disk_without_room_for_the_line_is_told_before_the_run(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UserError, match=r"run\.root: the disk of .*ledger\.jsonl is full"):
        reserve_ledger(make_run(tmp_path))
