"""`isoflop eval` as a person uses it: a table, the run's evaluation.json and picture; one line for what is wrong."""

from __future__ import annotations

import json

import pytest

from trainer.cli.main import main
from trainer.evaluate.results import keep_results, read_results
from trainer.report.evaluations import in_context_picture, section


def answer(capsys, *words):
    code = main(["eval", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("objective", "measure"),
    [("causal", "log-likelihood"), ("masked_lm", "pseudo-log-likelihood"), ("span_corruption", "span score")],
)
def test_tasks_of_the_suite(objective, measure, untrained, capsys):
    run = untrained(objective)
    code, out, _ = answer(capsys, run, "tasks=agreement,copy", "shots=0,1", "limit=6")
    assert code == 0 and f"choices were compared by {measure}" in out and out.count(" bits_per_byte ") == 4
    assert len([line for line in out.splitlines() if line.startswith(("agreement ", "copy "))]) == 4
    known = read_results(run)
    assert [(one["task"], one["shots"]) for one in known["tasks"]] == [
        *(("agreement", 0), ("agreement", 1), ("copy", 0), ("copy", 1))
    ]
    assert all(one["measure"] == measure and one["items"] == 6 for one in known["tasks"])
    assert (run / "in_context.png").read_bytes()[:4] == b"\x89PNG"
    html, [plot] = section(run, 7)
    assert plot.title == "In-context curve" and 'data-plot="7"' in html
    assert "agreement" in html and measure in html


def test_as_json(untrained, capsys):
    code, out, _ = answer(capsys, untrained(), "tasks=recall", "shots=2", "limit=4", "--json")
    [one] = json.loads(out)["tasks"]
    assert code == 0 and one["shots"] == 2 and one["chance"] == 0.25 and set(one["values"]) == {"acc"}


def test_a_folder_that_takes_no_file_costs_no_result(untrained, capsys):
    run = untrained()
    (run / "evaluation.json").mkdir()
    code, out, err = answer(capsys, run, "tasks=recall", "shots=2", "limit=4")
    assert code == 0 and "recall" in out
    assert f"{run}: the results could not be kept (Is a directory)" in err


def test_results_are_of_one_checkpoint(tmp_path):
    one = {"task": "copy", "shots": 0, "values": {}}
    keep_results(tmp_path, 10, {"loss": 1.0}, [one])
    keep_results(tmp_path, 10, None, [one | {"shots": 4}, one | {"values": {"acc": 1}}])
    known = read_results(tmp_path)
    assert known["held_out"] == {"loss": 1.0} and [task["shots"] for task in known["tasks"]] == [0, 4]
    assert known["tasks"][0]["values"] == {"acc": 1}
    keep_results(tmp_path, 20, None, [one])
    assert read_results(tmp_path) == {"step": 20, "tasks": [one]}
    (tmp_path / "evaluation.json").write_text("{")
    assert read_results(tmp_path) == {} and section(tmp_path) == ("", [])


def test_no_curve_of_one_point():
    values = {"acc": {"value": 0.5, "standard_error": 0.1}}
    one = {"task": "copy", "shots": 0, "chance": 0.25, "values": values, "shortened": 0}
    assert in_context_picture([one]) is None
    assert in_context_picture([one, one | {"shots": 4}]) is not None
    assert in_context_picture([one, one | {"shots": 4, "shortened": 1}]) is None


def test_contexts_that_were_cut_are_told_and_not_in_the_curve(untrained, capsys):
    run = untrained()
    code, out, _ = answer(capsys, run, "tasks=copy", "shots=0,16", "limit=5")
    assert code == 0 and "not in the curve (copy with 16 examples: 5 of 5)" in out
    assert not (run / "in_context.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tasks=agrement"], "tasks: agrement: no such task or file (did you mean 'agreement'?)"),
        (["tasks="], "tasks: none named"),
        (["tasks=copy", "shots=few"], "shots: 'few' given, whole numbers wanted"),
        (["tasks=copy", "shots=500", "limit=2"], "copy: shots=500 given, it has 400 other examples to show"),
        (["tasks=copy", "limit=some"], "limit: 'some' given, a whole number wanted"),
        (["tasks=copy", "limit=0"], "limit: 0 given, 1 or more wanted"),
        (["tasks=copy", "data.path=x"], "data.path=x: with tasks there is shots, limit and seed"),
        (["shots=4"], "shots: only tasks read it; add tasks=..."),
        (["tasks=language"], "language: the corpus states fewer than two languages"),
    ],
)
def test_bad_input(words, message, untrained, capsys):
    code, out, err = answer(capsys, untrained(), *words)
    assert code == 2 and out == "" and message in err and len(err.splitlines()) == 1
