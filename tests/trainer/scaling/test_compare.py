"""Runs beside each other: grouped by science, tested only where seeds allow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_runs import trained

from trainer.cli.main import main
from trainer.report import plots
from trainer.scaling.compare import compare, picture, read_groups

OPTIM = {"batch_size": 8, "warmup_steps": 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three seeds each of two learning rates, whose losses differ by much more than the seeds do."""
    for seed in range(3):
        trained(tmp_path, 64, 8, 3.0 + 0.01 * seed, name=f"low{seed}", seed=seed)
        trained(tmp_path, 64, 8, 2.8 + 0.01 * seed, name=f"high{seed}", seed=seed, optim={**OPTIM, "lr": 1e-2})
    return tmp_path


def test_runs_that_differ_in_the_seed_alone_are_one_group(root: Path) -> None:
    groups = read_groups([str(root)])
    assert sorted(len(group.runs) for group in groups) == [3, 3]
    assert {group.label for group in groups} == {"optim.lr=0.003", "optim.lr=0.01"}
    found = compare(groups)
    assert [line.key for line in found.differences] == ["optim.lr"]
    assert found.differences[0].kind == "science"


def test_what_a_shell_lists_beside_runs_is_passed_over(root: Path) -> None:
    for name, file in (("fit", "fit.json"), ("comparison", "compare.json")):
        (root / name).mkdir()
        (root / name / file).write_text("{}")
    (root / "sweep.csv").write_text("run\n")
    groups = read_groups([str(path) for path in sorted(root.iterdir())])
    assert sorted(len(group.runs) for group in groups) == [3, 3]


def test_runs_of_other_numerics_are_no_seeds_of_one_setting(root: Path) -> None:
    for seed in range(2):
        trained(root, 64, 8, 2.9 + 0.01 * seed, name=f"half{seed}", seed=seed, engine={"precision": "bf16"})
    low = [str(root / "llama-mini-causal-stdlib" / f"low{seed}") for seed in range(3)]
    half = [str(root / "llama-mini-causal-stdlib" / f"half{seed}") for seed in range(2)]
    found = compare(read_groups([*low, *half]))
    assert [len(group.runs) for group in found.groups] == [3, 2]
    assert ("numerics", "numerics") in [(line.key, line.kind) for line in found.differences]
    assert found.groups[1].label == "numerics=bf16"
    assert any(note.startswith("numerics differ (") and "bf16" in note for note in found.notes)


def test_a_real_difference_is_larger_than_seed_noise(root: Path) -> None:
    low = [str(root / "llama-mini-causal-stdlib" / f"low{seed}") for seed in range(3)]
    high = [str(root / "llama-mini-causal-stdlib" / f"high{seed}") for seed in range(3)]
    found = compare(read_groups([*low, *high]))
    # bits per byte are what all of them state: the hand-written ones are equal.
    assert found.metric == "bits_per_byte" and found.verdicts[0].text.endswith("within seed noise")
    for run in [*low, *high]:
        path = Path(run) / "metrics.jsonl"
        path.write_text(path.read_text().replace('"bits_per_byte"', '"unused"'))
    found = compare(read_groups([*low, *high]))
    verdict = found.verdicts[0]
    assert verdict.test is not None and verdict.test.difference == pytest.approx(-0.2)
    assert verdict.text.endswith("larger than seed noise") and verdict.p is not None and verdict.p < 1e-4
    assert found.spent[0]["tokens"] == 20 * 8 * 64 and found.spent[0]["kwh"] == pytest.approx(1)


def test_a_seed_counts_once(root: Path) -> None:
    again = [trained(root, 64, 8, 3.0, name=f"again{number}") for number in range(2)]  # of seed 0, like low0
    high = [str(root / "llama-mini-causal-stdlib" / f"high{seed}") for seed in range(3)]
    found = compare(read_groups([*map(str, again), *high]))
    assert [len(scores) for scores in found.scores] == [1, 3]
    assert found.verdicts[0].p is None
    assert any("again1 is left out of the scores: seed 0 is among them already" in note for note in found.notes)


def test_without_seeds_no_verdict_is_made_up(root: Path) -> None:
    runs = [str(root / "llama-mini-causal-stdlib" / name) for name in ("low0", "high0")]
    verdict = compare(read_groups(runs)).verdicts[0]
    assert verdict.p is None and "not known: at least 2 seeds of each are needed" in verdict.text


def test_unfinished_runs_and_other_scales_are_said(root: Path) -> None:
    run = trained(root, 64, 8, 9.0, name="cut", steps=12)
    other = trained(root, 64, 8, 1.0, name="other", objective={"name": "masked_lm"}, model={"family": "encoder"})
    for path in (run, other):
        metrics = path / "metrics.jsonl"
        metrics.write_text(metrics.read_text().replace('"bits_per_byte"', '"unused"'))
    folder = root / "llama-mini-causal-stdlib"
    found = compare(read_groups([str(folder / "low0"), str(run), str(other)]))
    assert any("cut is left out of the scores: interrupted" in note for note in found.notes)
    assert any("losses are not one scale where objective.name" in note for note in found.notes)


def fingerprinted(run: Path, digits: str) -> Path:
    """As a run that read these tokens."""
    (run / "environment.json").write_text(json.dumps([{"attempt": 0, "data": digits * 64}]))
    return run


def without_bits(run: Path) -> Path:
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"bits_per_byte"', '"unused"'))
    return run


def test_other_data_and_tokenizers_have_no_verdict(tmp_path: Path) -> None:
    """By settings, and by the tokens that were read where the settings are the same, as for `fit`."""

    def group(name: str, tokens: str, loss: float, **more: Any) -> list[str]:
        runs = [trained(tmp_path, 64, 8, loss + 0.01 * k, name=f"{name}{k}", seed=k, **more) for k in range(2)]
        return [str(without_bits(fingerprinted(run, tokens))) for run in runs]

    one, other = group("one", "a", 3.0), group("other", "b", 2.0)
    split = group("split", "c", 2.0, tokenizer={"name": "unigram"})
    found = compare(read_groups([*one, *other, *split]))
    assert [len(group.runs) for group in found.groups] == [2, 2, 2]
    assert [verdict.p for verdict in found.verdicts] == [None, None]
    assert found.verdicts[0].text == "no verdict: losses of different data are not one scale"
    assert found.verdicts[1].text == "no verdict: losses of different data and tokenizer are not one scale"
    assert found.loss_scales == [0, 1, 2]
    alone = compare(read_groups([*one, *other]))
    assert [(line.key, line.values) for line in alone.differences] == [("data.fingerprint", ("a" * 12, "b" * 12))]


def test_bits_per_byte_are_compared_over_tokenizers_of_one_text(tmp_path: Path) -> None:
    def group(name: str, tokens: str, **more: Any) -> list[str]:
        runs = [trained(tmp_path, 64, 8, 3.0, name=f"{name}{k}", seed=k, **more) for k in range(2)]
        return [str(fingerprinted(run, tokens)) for run in runs]

    one, split = group("one", "a"), group("split", "b", tokenizer={"name": "unigram"})
    other_text = group("text", "c", data={"sequence_length": 64, "held_out": 0.2})
    found = compare(read_groups([*one, *split, *other_text]))
    assert found.metric == "bits_per_byte" and found.loss_scales == [0, 1, 2]
    assert found.verdicts[0].p is not None
    assert found.verdicts[1].text == "no verdict: losses of different data are not one scale"


def test_labelled_tasks_leave_the_scale_of_the_texts_loss(tmp_path: Path) -> None:
    """The loss of such a run is its text's, but where it reads none; training losses are those of what was read."""

    def group(name: str, **data: Any) -> list[str]:
        given = {"tasks": {"flan": {"train": ["flan.jsonl"]}}, **data} if data else {}
        runs = [
            trained(tmp_path, 64, 8, 3.0, name=f"{name}{k}", seed=k, data={"sequence_length": 64, **given})
            for k in range(2)
        ]
        for run in runs if given else []:
            (run / "environment.json").write_text(json.dumps([{"data": name * 64, "text": "a" * 64}]))
        return [str(without_bits(run if given else fingerprinted(run, "a"))) for run in runs]

    groups = group("a"), group("b", mixing={"text_share": 0.5}), group("c", mixing={"text_share": 0})
    found = compare(read_groups([name for names in groups for name in names]))
    assert found.verdicts[0].p is not None and found.loss_scales == [0, 1, 2]
    assert found.verdicts[1].text == "no verdict: losses of different data are not one scale"


def drawn(monkeypatch: pytest.MonkeyPatch, names: list[str], axis: str = "tokens") -> tuple[Any, list[Any]]:
    """The comparison, and the axes of its picture."""
    panels: list[Any] = []
    original = plots.label_axes
    monkeypatch.setattr(plots, "label_axes", lambda axes, *words: (panels.append(axes), original(axes, *words)))
    found = compare(read_groups(names), axis)
    picture.curves(picture.loss_plots(found, axis))
    return found, panels


def test_every_run_is_drawn_in_the_panel_of_its_scale(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "llama-mini-causal-stdlib"
    names = [str(folder / name) for name in ("low0", "low1", "high0")]
    names.append(str(trained(root, 64, 8, 2.0, name="unigram", tokenizer={"name": "unigram"})))
    _, panels = drawn(monkeypatch, names)
    titles = [axes.get_title(loc="left") for axes in panels]
    assert [title.partition(" against")[0] for title in titles] == ["Loss", "Loss", "Held-out bits per byte"]
    held_out = [sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == "o") for axes in panels]
    assert held_out == [6, 2, 8]  # two evaluations a run


def test_what_diverged_is_drawn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A held-out loss far above and losses that are not finite are triangles at the upper edge; none is left out."""
    folder = root / "llama-mini-causal-stdlib"
    broken = trained(root, 64, 8, 1e9, name="broken", optim={**OPTIM, "lr": 0.5})
    records = [json.loads(line) for line in (broken / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        if record["kind"] == "step" and record["step"] > 16:
            record["loss"] = None  # as the records write nan
    (broken / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    found, (axes, *_) = drawn(monkeypatch, [str(folder / "low0"), str(broken)])
    told = [word for plot in picture.loss_plots(found, "tokens") for curve in plot.curves for word in curve.more]
    assert sorted(told) == ["it is 1e+09", *["it is not finite"] * 4]
    low, high = axes.get_ylim()
    assert 0 < low < 4 < high < 20
    triangles = [line for line in axes.lines if line.get_marker() == "^"]
    ends = 64 * 8 * np.array([17, 18, 19, 20, 20])
    assert sorted(x for line in triangles for x in line.get_xdata()) == ends.tolist()
    assert all(y == high for line in triangles for y in line.get_ydata())
    assert "above, or not finite" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_run_that_does_not_state_the_axis_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "llama-mini-causal-stdlib"
    records = [json.loads(line) for line in (folder / "low0" / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record.pop("flop", None)
    (folder / "low0" / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    found, _ = drawn(monkeypatch, [str(folder / "low0"), str(folder / "high0")], "flop")
    assert "llama-mini-causal-stdlib/low0 is not drawn: it states no flop" in found.notes


def test_the_verb_writes_a_page_and_says_what_is_missing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(root), "axis=flop", f"out={root / 'out'}"]) == 0
    text = capsys.readouterr().out
    assert "optim.lr" in text and "seed noise" in text
    assert {path.name for path in (root / "out").iterdir()} == {
        "compare.html",
        "compare.json",
        "curves.png",
        "curves.svg",
    }
    facts = json.loads((root / "out" / "compare.json").read_text())
    assert [len(group["scores"]) for group in facts["groups"]] == [3, 3]
    for words, says in (
        (["compare"], "name at least two runs"),
        (["compare", str(root), "axis=flops"], "did you mean 'flop'"),
        (["compare", "nowhere"], "no run folder of that name"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert says in error and len(error.splitlines()) == 1
