"""Which rows of a table are fitted: the best setting of each place, each run once, whole, on one scale."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from trainer.cli.main import main
from trainer.scaling.fit import fit, read_table
from trainer.scaling.fit.rows import choose
from trainer.scaling.fit.table import Run, Table
from trainer.utils.errors import UserError


def read(folder: Path, text: str, **more: str) -> Table:
    (folder / "runs.csv").write_text(text)
    return read_table(folder / "runs.csv", where=more.get("where", ""), mixed=bool(more.get("mixed")))


def test_at_each_place_the_setting_with_the_lowest_mean_over_its_seeds_is_kept(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "run,parameters,tokens,learning rate,seed,loss\n"
        "a,1e6,1e8,1e-3,0,3.0\nb,1e6,1e8,1e-3,1,3.4\nc,1e6,1e8,2e-3,0,3.1\nd,1e6,1e8,2e-3,1,3.2\ne,1e6,1e8,4e-3,0,3.3\n"
        "f,2e6,1e8,2e-3,0,2.9\n",
    )
    assert [run.name for run in table.runs] == ["c", "d", "f"]  # 3.15 against 3.2 of the setting with the lowest run
    assert [run.tried for run in table.runs] == [3, 3, 1]
    assert len(table.every) == 6
    assert table.notes == ("lr: best of 3 settings a place (1 place); 1 place has one setting alone",)
    assert {name for name, _ in table.left_out} == {"a", "b", "e"}


def test_tokens_that_differ_by_a_step_are_one_place_and_an_edge_is_known(tmp_path: Path) -> None:
    rows = "".join(f"1e6,{tokens},{batch},{loss}\n" for tokens, batch, loss in ((1e8, 8, 3.2), (100.3e6, 16, 3.1)))
    table = read(tmp_path, "parameters,tokens,batch_sequences,loss\n" + rows + "1e6,0.998e8,32,3.0\n")
    (run,) = table.runs
    assert (run.batch, run.at_edge, table.batch_unit) == (32, ("batch",), "sequences")


def test_a_copy_of_a_row_is_no_seed(tmp_path: Path) -> None:
    text = "run,parameters,tokens,loss\na,1e6,1e8,3\nb,1e6,1e8,3.0\nc,1e6,1e8,3.1\n"
    table = read(tmp_path, text)
    assert [run.name for run in table.runs] == ["a", "c"]
    assert table.left_out == (("b", "the same in all columns as a"),)
    assert "no column says their seed" in table.notes[0]


def test_what_is_not_finite_diverged_or_marked_is_left_out_by_name(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "run,parameters,tokens,loss,outlier,reason\na,1e6,1e8,3,False,\nb,2e6,1e8,inf,False,\nc,2e6,1e8,1e999,False,\n"
        "d,2e6,1e8,diverged,False,\ne,2e6,2e8,4.6,False,\nf,2e6,2e8,2.8,True,off_center\n",
    )
    assert [run.name for run in table.runs] == ["a"]
    assert dict(table.left_out) == {
        **dict.fromkeys("bcd", "it has no finite loss"),
        "e": "diverged: its loss is 4.6, and a, which is no larger, reached 3",
        "f": "the table marks it as an outlier (off center)",
    }
    both = read(tmp_path, (tmp_path / "runs.csv").read_text(), where="outlier=True|False")
    assert "f" in [run.name for run in both.runs]


def test_rows_along_a_run_are_its_curve_and_tasks_are_read(tmp_path: Path) -> None:
    rows = "".join(
        f"{run},{n},{d},{5 - d / 4e8},{0.3 + d / 1e9},\n" for run, n in (("x", 1e6), ("y", 2e6)) for d in (2e8, 1e8)
    )
    table = read(tmp_path, "run,parameters,tokens,loss,arc_bpb,arc_accuracy\n" + rows)
    assert [(run.name, run.tokens, run.tasks[0].bits_per_byte) for run in table.runs] == [
        ("x", 2e8, 0.5),
        ("y", 2e8, 0.5),
    ]
    assert [run.earlier[0].tasks[0].bits_per_byte for run in table.runs] == [0.4, 0.4]
    np.testing.assert_allclose(table.runs[0].curve.loss, [4.75, 4.5])
    assert table.runs[0].tasks[0].accuracy is None
    assert table.notes[0].startswith("rows: 2 lie on the way of 2 runs (x, y)")


def test_tables_without_tokens_or_with_normalised_losses_are_read(tmp_path: Path) -> None:
    moe = read(tmp_path, "experts,parameters,loss\n1,1e6,3\n8,1e6,2.8\n1,8e6,2.7\n")
    assert np.isnan(moe.column("tokens")).all() and list(moe.budgets) == [0, 0, 1]
    assert moe.flop_rule == "not stated, nor are tokens"
    words = read(tmp_path, "parameters,vocabulary,characters,loss\n1e6,4096,1e8,-1.3\n1e6,4096,1e9,-2\n")
    assert list(words.column("loss")) == [-1.3, -2.0] and list(words.budgets) == [0, 1]
    active = read(tmp_path, "active_parameters,experts,tokens,loss\n1e6,8,1e8,3\n")
    assert active.runs[0].flop == pytest.approx(6e14) and active.counts == "column 'active_parameters'"
    for table in (moe, words):
        with pytest.raises(UserError, match=r"nothing can be fitted .*: it needs at least 3 sizes.*a column of tokens"):
            fit(table, budgets=[], progress=lambda *_: None)


def test_tokens_of_runs_that_repeat_nothing_are_all_unique(tmp_path: Path) -> None:
    table = read(tmp_path, "parameters,tokens,unique_tokens,loss\n1e6,1e8,5e7,3\n2e6,1e8,,3\n")
    assert [run.unique_tokens for run in table.runs] == [5e7, 1e8]


WRONG = [
    (
        "kind\n1e6,1e8,3,annealed\n2e6,1e8,3,stopped\n",
        "",
        r"loss kind: .*annealed .row 2. .*add where=loss_kind=annealed",
    ),
    ("unit\n1e6,1e8,3,nats\n2e6,1e8,3,nats\n2e6,2e8,3,bits\n", "", r"add where=loss_unit=nats; .*mixed=true"),
    ("source,dataset\n1e6,1e8,3,a,b\n2e6,1e8,3,c,d\n", "", r"differ in data, too; .* where=source=a;"),
    ("source\n1e6,1e8,3,a\n", "source=b", r"where: no row has source=b; there is 'a'"),
    ("source\n1e6,1e8,3,a\n", "sorce=a", r"no column 'sorce' .did you mean 'source'"),
    ("source\n1e6,1e8,3,a\n", "source", r"'source' given, <column>=<value> wanted"),
    ("arc_accuracy\n1e6,1e8,3,71\n", "", r"arc_accuracy: 71 given, 0 to 1 wanted"),
    ("arc_bpb\n1e6,1e8,3,x\n", "", r"arc_bpb: 'x' given, a number wanted"),
    ("lr\n1e6,1e8,3,fast\n", "", r"row 2, lr: 'fast' given, a number wanted"),
    ("experts\n1e6,1e8,3,-8\n", "", r"experts: -8 given, a positive number wanted"),
    (
        "seed\n1e6,1e8,3,0\n1e6,1e8,3,1\n",
        "",
        r"chinchilla: it needs at least 3 sizes.*kaplan needs 2 sizes",
    ),
]


@pytest.mark.parametrize(("text", "where", "says"), WRONG)
def test_wrong_tables_and_filters_are_one_line(
    text: str, where: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs.csv").write_text("parameters,tokens,loss," + text)
    assert main(["fit", str(tmp_path / "runs.csv"), *([f"where={where}"] if where else [])]) == 2
    error = capsys.readouterr().err
    with pytest.raises(UserError, match=says):
        fit(read_table(tmp_path / "runs.csv", where=where), budgets=[], progress=lambda *_: None)
    assert len(error.splitlines()) == 1


def test_mixed_losses_are_read_together_when_asked_for(tmp_path: Path) -> None:
    text = "parameters,tokens,loss,kind\n1e6,1e8,3,annealed\n2e6,1e8,3,stopped\n"
    assert len(read(tmp_path, text, mixed="yes").runs) == 2
    assert [run.kind for run in read(tmp_path, text, where="kind=stopped").runs] == ["stopped"]


def test_a_seed_that_diverged_does_not_decide_between_settings() -> None:
    runs = [
        Run(f"r{k}", 1e6, 1e8, 6e14, loss, lr=lr, seed=k)
        for k, (loss, lr) in enumerate([(3.0, 1e-3), (9.0, 1e-3), (3.2, 2e-3), (3.3, 2e-3)])
    ]
    found = choose(runs)
    assert [run.name for run in found.runs] == ["r0"]
    assert found.left_out[0] == ("r1", "diverged: its loss is 9, and r0, which is no larger, reached 3")
    assert math.isclose(found.runs[0].loss, 3.0)
