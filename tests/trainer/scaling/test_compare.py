"""Runs beside each other: grouped by science, tested only where seeds allow it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finished_runs import trained

from trainer.cli.main import main
from trainer.scaling.compare import compare, read_groups

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
