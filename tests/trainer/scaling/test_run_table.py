"""Runs of a root as a table: which are taken, which are left out and by which name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finished_runs import trained
from run_folders import write_lines

from trainer.cli.main import main
from trainer.scaling.fit import fit, read_table
from trainer.scaling.fit.table import Table
from trainer.utils.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for width in (32, 64, 128):
        for batch in (4, 8, 16):
            trained(tmp_path, width, batch, 2 + 20 / width**0.5 + 3 / batch)
    return tmp_path


def test_finished_runs_are_a_table_with_all_that_they_cost(root: Path) -> None:
    table = read_table(root)
    assert len(table.runs) == 9
    run = next(run for run in table.runs if run.name.endswith("w64-b8"))
    assert run.tokens == 20 * 8 * 64
    assert run.loss == pytest.approx(2 + 20 / 8 + 3 / 8)
    assert (run.kwh, run.gco2e, run.money) == (pytest.approx(1.0), pytest.approx(400), pytest.approx(0.5))
    assert (run.lr, run.batch, run.seed, run.optimizer, run.kind) == (3e-3, 8 * 64, 0, "adamw", "cosine")
    assert table.batch_unit == "tokens"
    assert table.currency == "EUR"
    non_embedding = read_table(root, count="non_embedding")
    smaller = next(other for other in non_embedding.runs if other.name == run.name)
    assert run.parameters - smaller.parameters >= 2048 * 64  # the embedding
    assert "Kaplan" in non_embedding.counts


def test_runs_that_cannot_be_used_are_left_out_by_name(root: Path) -> None:
    trained(root, 64, 32, 5.0, name="cut", steps=12)
    trained(root, 64, 32, float("nan"), name="diverged")
    run = trained(root, 64, 32, 5.0, name="stopped")
    write_lines(run / "events.jsonl", [{"name": "failed", "time": 2e9, "step": 20, "data": {"status": "failed"}}])
    left_out = {Path(name).name: why for name, why in read_table(root).left_out}
    assert left_out["cut"] == "interrupted"
    assert left_out["diverged"] == "its held-out loss is not finite"


def test_runs_of_other_numerics_are_not_pooled(root: Path) -> None:
    other = {"precision": "bf16"}
    trained(root, 64, 8, 2 + 20 / 8 + 3 / 8 - 0.1, name="half", engine=other)
    with pytest.raises(UserError, match=r"numerics: these runs differ in it.*bf16 \(.*half\)"):
        read_table(root)
    table = read_table(root, mixed=True)
    assert [Path(run.name).name for run in table.runs if (run.parameters, run.tokens) == _place(table, "half")] == [
        "half"
    ]
    assert any("numerics" in note and "bf16" in note for note in table.notes)


def _place(table: Table, name: str) -> tuple[float, float]:
    return next((run.parameters, run.tokens) for run in table.runs if run.name.endswith(name))


def test_of_several_settings_of_a_size_the_best_counts(root: Path) -> None:
    worse = {"batch_size": 8, "warmup_steps": 2, "lr": 1e-2}
    trained(root, 64, 8, 9.0, name="worse", optim=worse)
    for seed in (1, 2):
        trained(root, 64, 8, 4.9, name=f"seed{seed}", seed=seed)
    table = read_table(root)
    assert [Path(name).name for name, _ in table.left_out] == ["worse"]
    assert len(table.runs) == 11
    assert table.notes == ("lr: best of 2 settings a place (1 place); 8 places have one setting alone",)
    assert {run.batch for run in read_table(root, where="optim.batch_size=8|16").runs} == {8 * 64, 16 * 64}
    with pytest.raises(UserError, match=r"where: no row has optim.lr=7; there is '0.003', '0.01'"):
        read_table(root, where="optim.lr=7")
    found = fit(table, budgets=[], replicates=30, progress=lambda *_: None)
    assert found.seed_noise is not None and found.seed_noise[1] == 2


def test_other_data_or_tokenizers_are_refused_unless_asked_for(root: Path) -> None:
    trained(root, 256, 8, 3.0, name="other", tokenizer={"vocabulary": 1024})
    with pytest.raises(UserError, match=r"tokenizer: these runs differ in it.*other"):
        read_table(root)
    assert len(read_table(root, mixed=True).runs) == 10


def test_the_verb_writes_a_page_and_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(root), "replicates=20", "budget=1e12,1kWh", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["table"]["runs"] == 9
    assert facts["prices"]["kwh"]["total"] == pytest.approx(9.0)
    assert [advice["unit"] for advice in facts["advice"]] == ["FLOP", "kWh"]
    assert facts["advice"][0]["extrapolation"].endswith("x the largest run")
    assert facts == json.loads((root / "fit" / "fit.json").read_text())
    assert main(["fit", str(root), "replicates=20", "out=elsewhere", "parameters=totl"]) == 2
    assert "did you mean 'total'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "no such folder or table"),
        ([], "name one folder; got none"),
        (["."], "no run folders in it"),
        ([".", "bugdet=3"], "did you mean 'budget'"),
        ([".", "replicates=3"], "at least 20 wanted"),
    ],
)
def test_wrong_words_are_one_line(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *words]) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) == 1


def test_padding_among_the_tokens_is_said(root: Path) -> None:
    assert read_table(root).notes == ()
    for batch, share in ((4, 0.25), (8, 0.5), (16, 0.005)):
        metrics = next(root.glob(f"*/w64-b{batch}")) / "metrics.jsonl"
        records = [json.loads(line) for line in metrics.read_text().splitlines()]
        metrics.write_text("".join(json.dumps({**record, "padding": share}) + "\n" for record in records))
    (note,) = read_table(root).notes
    assert note.startswith("tokens: 25% to 50% of those of ") and "w64-b4" in note and "w64-b16" not in note
