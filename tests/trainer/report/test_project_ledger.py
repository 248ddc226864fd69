"""One ledger a project: every joule once, priced where it is asked for, and written as CSV, JSON and LaTeX."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
from run_folders import energy_lines, make_run, write_lines

from trainer.cli.main import main
from trainer.report import append_ledger

GERMANY = {"name": "de", "gco2e_per_kwh": 381.0, "intensity_year": 2023, "intensity_source": "a report", "pue": 1.5}


def record(file, segment: str, joules: float, verb: str, project: str | None, *, phase: str = "work", end: bool = True):
    """What a command other than a run spent, as its meter writes it."""
    first, last = energy_lines(segment, joules)
    first |= {"cost": 1, "verb": verb, "command": [verb], "project": project, "start": "2026-11-30T07:15:02Z"}
    lines = [first, last | {"phase": phase}]
    lines += [{"kind": "end", "segment": segment, "end": "2026-11-30T07:16:02Z", "outcome": "done"}] if end else []
    file.parent.mkdir(parents=True, exist_ok=True)
    write_lines(file, lines)


@pytest.fixture
def root(built, tmp_path):
    """A copy of it for one test."""
    return shutil.copytree(built, tmp_path / "runs")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Two experiments of the project `paper`, a run of none, and five other commands; in all 18 kWh of devices."""
    root = tmp_path_factory.mktemp("built") / "runs"
    settings = {"site": GERMANY}
    for experiment, name, kwh, status in (
        *(("small", "a", 1.0, None), ("small", "b", 2.0, None)),
        *(("large", "c", 4.0, None), ("large", "d", 8.0, "failed")),
    ):
        steps = 5 if status else 20
        run = make_run(root, settings | {"run": {"experiment": experiment, "project": "paper"}}, steps=steps, name=name)
        write_lines(run / "energy-h.jsonl", energy_lines(f"{experiment}-{name}", joules=kwh * 3.6e6))
        if status:
            write_lines(run / "events.jsonl", [{"name": status, "time": 2e9, "step": 5, "data": {"status": status}}])
        append_ledger(run)
    other = make_run(root, {"run": {"experiment": "other"}}, name="e")
    write_lines(other / "energy-h.jsonl", energy_lines("e", joules=3.6e6))
    append_ledger(other)
    record(root / "large" / "c" / "cost-eval-20261130T071502Z-1.jsonl", "v", 0.5 * 3.6e6, "eval", "paper")
    record(root / "costs" / "cost-data-20261130T071502Z-2.jsonl", "w", 0.25 * 3.6e6, "data", "paper")
    record(root / "costs" / "cost-tokenizer-20261130T071502Z-3.jsonl", "x", 0.25 * 3.6e6, "tokenizer", "paper")
    record(root / "costs" / "cost-calibrate-20261130T071502Z-4.jsonl", "y", 1 * 3.6e6, "calibrate", None)
    return root


def printed(capsys, *words: str) -> dict:
    assert main(["ledger", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def device_kwh(share: dict) -> float | None:
    """At a PUE of 1.5."""
    value = share["kwh"]["value"]
    return None if value is None else value / 1.5


def test_shares_and_the_grand_total(root, capsys):
    paper = printed(capsys, str(root), "site.pue=1.5")["projects"]["paper"]
    found = {name: device_kwh(paper[name]) for name in ("final", "tuning", "evaluation", "data", "failed", "total")}
    # The best run of each experiment is final: of equal ones the first.
    expected = {"final": 5.0, "tuning": 2.0, "evaluation": 0.5, "data": 0.5, "failed": 8.0, "total": 16.0}
    assert found == pytest.approx(expected)
    assert paper["failed"]["share_of_kwh"] == pytest.approx(0.5)
    assert paper["experiments"] == ["large", "small"]


def test_runs_that_name_no_project_are_of_the_one_called_as_the_root(root, capsys):
    projects = printed(capsys, str(root), "site.pue=1.5")["projects"]
    assert device_kwh(projects["runs"]["total"]) == pytest.approx(2.0)  # the other run, and the calibration
    assert set(printed(capsys, str(root), "project=paper")["projects"]) == {"paper"}
    assert set(printed(capsys, str(root), "project=paper")) == {"small", "large", "projects"}


def test_priced_at_another_site(root, capsys):
    words = ("site=fr-2023", "site.pue=1.2", "site.price_per_kwh=0.2", "site.currency=EUR", "site.price_date=2026-01")
    total = printed(capsys, str(root), *words)["projects"]["paper"]["total"]
    assert total["kwh"]["value"] == pytest.approx(16 * 1.2)
    assert total["kgco2e"]["value"] == pytest.approx(16 * 1.2 * 0.056)
    assert total["money"]["EUR"]["value"] == pytest.approx(16 * 1.2 * 0.2)
    as_it_was = printed(capsys, str(root))["projects"]["paper"]["final"]
    assert as_it_was["kgco2e"]["value"] == pytest.approx(5 * 1.5 * 0.381)


def test_on_another_machine_it_is_the_plan_of_the_same_steps(root, capsys):
    from trainer.books import plan
    from trainer.compose import compose
    from trainer.config import load

    total = printed(capsys, str(root), "machine=h100-sxm", "project=paper")["projects"]["paper"]
    config = load(root / "small" / "a" / "config.yaml")
    there = config.model_copy(update={"machine": compose(["machine=h100-sxm"]).machine})
    assert total["tuning"]["kwh"]["value"] == pytest.approx(plan(there).values("planned")["energy"]["kwh"])
    shorter = plan(there.ending_after(5)).values("planned")["energy"]["kwh"]
    assert total["failed"]["kwh"]["value"] == pytest.approx(shorter)
    assert total["evaluation"]["kwh"]["value"] is None  # nobody knows
    shutil.rmtree(root / "small" / "a")
    total = printed(capsys, str(root), "machine=h100-sxm", "project=paper")["projects"]["paper"]["total"]
    assert (total["kwh"]["known"], total["kwh"]["runs"]) == (3, 7)


def test_copies_count_once_and_a_killed_command_as_failed(root, capsys):
    before = printed(capsys, str(root))["projects"]["paper"]["total"]["kwh"]["value"]
    shutil.copytree(root / "large" / "c", root / "large" / "copy")
    assert printed(capsys, str(root))["projects"]["paper"]["total"]["kwh"]["value"] == pytest.approx(before)
    record(root / "costs" / "cost-fit-20261130T071502Z-9.jsonl", "z", 3.6e6, "fit", "paper", end=False)
    assert device_kwh(printed(capsys, str(root), "site.pue=1.5")["projects"]["paper"]["failed"]) == pytest.approx(9.0)


def test_data_of_a_train_command_are_data(root, capsys):
    file = root / "small" / "a" / "cost-train-20261130T071502Z-5.jsonl"
    record(file, "t", 3.6e6, "train", "paper", phase="preparation")
    assert device_kwh(printed(capsys, str(root), "site.pue=1.5")["projects"]["paper"]["data"]) == pytest.approx(1.5)


def test_csv_json_and_latex(root, tmp_path, capsys):
    for name in ("ledger.csv", "ledger.json", "ledger.tex"):
        assert main(["ledger", str(root), "project=paper", f"out={tmp_path / name}"]) == 0
    rows = {row["share"]: row for row in csv.DictReader((tmp_path / "ledger.csv").open())}
    assert float(rows["total"]["kwh"]) == pytest.approx(16.0 * 1.5 - 0.5 * 0.5)  # commands of no run: no PUE
    assert rows["evaluation"]["flop"] == ""
    assert rows["total"]["kwh_known_entries"] == "7"
    document = json.loads((tmp_path / "ledger.json").read_text())
    assert (document["version"], document["priced"]) == (1, None)
    assert document["projects"]["paper"]["total"]["kwh"]["value"] == pytest.approx(float(rows["total"]["kwh"]))
    latex = (tmp_path / "ledger.tex").read_text()
    assert latex.startswith(f"% isoflop ledger {root} project=paper")
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1
    assert all(rule in latex for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    table = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len({line.count("&") for line in table}) == 1


def test_names_are_escaped_for_latex(tmp_path):
    from trainer.report.ledger_tables import escaped

    assert escaped(r"a_b 50% \x") == r"a\_b 50\% \textbackslash{}x"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["project=papr"], "did you mean 'paper'"),
        (["out=ledger.xls"], "a file that ends in .csv, .json, .tex"),
        (["out=nowhere/ledger.csv"], "no such folder"),
        (["sites=fr-2023"], "did you mean 'site'"),
        (["site=fr-2032"], "fr-2023"),
        (["project=a", "project=b"], "given twice"),
        (["site.curve=none.csv"], "no such file"),
    ],
)
def test_bad_input_is_one_line(built, capsys, words, said):
    assert main(["ledger", str(built), *words]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and said in error


def test_a_key_without_a_site_changes_each_runs_own(root, capsys):
    """Of the grid that each run was on; what states none stays without."""
    paper = printed(capsys, str(root), "site.pue=1.1")["projects"]["paper"]
    assert paper["final"]["kgco2e"]["value"] == pytest.approx(5 * 1.1 * 0.381)
    assert paper["evaluation"]["kgco2e"]["value"] == pytest.approx(0.5 * 1.1 * 0.381)
    assert paper["data"]["kgco2e"]["value"] is None and paper["data"]["kwh"]["value"] == pytest.approx(0.5 * 1.1)
    assert main(["ledger", str(root), "site.pue=1.1"]) == 0
    assert "priced with site.pue=1.1 at its own site" in capsys.readouterr().out
