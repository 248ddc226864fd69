"""`isoflop lab`: three families at equal compute, the budgets that minutes stand for, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.books import flops
from trainer.books.quantity import Quantity
from trainer.cli.main import main
from trainer.compose import compose_grid
from trainer.scaling.grid import planned_grid
from trainer.scaling.grid.lab import lab_words
from trainer.scaling.grid.lab_table import Lab, Model, format_lab, lab_json, lab_markdown
from trainer.scaling.grid.results import Row, Score


@pytest.mark.parametrize("minutes", [None, 1.0, 2.5])
def test_all_have_the_flop_that_the_minutes_stand_for(minutes: float | None) -> None:
    grid, cells = planned_grid(lab_words([], minutes))
    preset = compose_grid(["grid=lab"])
    assert preset.flop is not None and grid.flop == round((minutes or 10) / 10 * preset.flop)  # type: ignore[operator]
    assert {cell.run.config.model.family for cell in cells} == {"decoder", "encoder", "encoder_decoder"}
    for cell in cells:
        account = flops(cell.run.config)
        assert account.total <= grid.flop < account.total + account.per_step
        assert cell.run.config.data == cells[0].run.config.data
        assert cell.run.config.tokenizer == cells[0].run.config.tokenizer
    assert cells[0].run.folder.path.parent.name == f"lab-{minutes or 10:g}min"


def test_other_words_are_of_the_grid_or_of_its_runs() -> None:
    words = ["grid.seeds=[4]", "grid.flop=1e11", "grid.name=mine", "site=de-2023"]
    grid, cells = planned_grid(lab_words(words, None))
    assert (grid.flop, grid.name, grid.seeds) == (100_000_000_000, "mine", (4,))
    assert {cell.run.config.site.name for cell in cells} == {"de-2023"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["minutes=0"], "minutes: '0' given, a number above 0 wanted"),
        (["minutes=soon"], "minutes: 'soon' given, a number above 0 wanted"),
        (["minutes=1e-9"], "minutes: 1e-09 given, too few for one step of each model; e.g. minutes=1"),
        (["minuts=1"], "lab: minuts: no such option (did you mean 'minutes'?)"),
        (["minutes"], "lab: minutes: key=value wanted"),
        (["minutes=1", "grid.flop=1e11"], "minutes: grid.flop states the budget too; give one of them"),
        (["grid=cpu"], "grid=cpu: the lab is grid=lab; another grid is trained by isoflop grid grid=cpu"),
        (["jobs=0"], "jobs: 0 given, 1 or more wanted"),
        (["jobs=x"], "lab: jobs: 'x' given, a whole number wanted"),
        (["seed=3"], "seed=3: the grid states it; set grid.seeds"),
        (["optim.lrr=1"], "optim.lrr: no such key (did you mean 'optim.lr'?)"),
        (["--palan"], "--palan: no such option (did you mean '--plan'?)"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan = [] if words == ["--palan"] else ["--plan"]
    assert main(["lab", *words, *plan]) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) == 1


def test_a_plan_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "minutes=1", "--plan", f"run.root={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("GPT", "BERT", "BART", "pre-training on this host with jobs="))
    assert not list(tmp_path.iterdir())


def model(name: str, money: float | None = 0.01) -> Model:
    known, none = Quantity(60.0, "measured"), Quantity(None, "not stated")
    bound = Quantity(2e-3, "estimated", "", 1e-3, None)
    row = Row(name, "decoder", 1000, 4, 100, 15.0, {"swapped": Score((0.5, 0.7))}, {}, {}, ())
    price = {"time.wall": (known, known), "energy.kwh": (known, bound), "carbon.kgco2e": (none, none)}
    price["cost.amount"] = (none, none if money is None else Quantity(money, "estimated"))
    return Model(row, "mini", "causal", 400.0, 2e6, 3.0, 4.0, 2.5, price)


def test_the_table_has_baselines_and_prices_and_says_what_nobody_stated() -> None:
    counted = {"uniform": 6.9, "unigram": 5.8, "bigram": 4.0}
    lab = Lab("title", 2, [model("GPT"), model("BERT", None)], counted, {"swapped": {"bag": 0.55}}, "EUR", ["x-s1"])
    text = format_lab(lab)
    for row in (
        r"tokens that bear loss 15% 15%",
        r"below counting 25.0% 25.0%",
        r"counting pairs 4.000 4.000",
        r"swapped, tuned, % 60.0",
        r"bag 55.0 55.0",
        r"energy, measured at least 1 Wh at least 1 Wh",
        r"carbon, measured not stated not stated",
        r"money, measured 0.01 EUR not stated",
    ):
        assert row in " ".join(text.split()), row
    assert "site=de-2023" in text and "not finished: x-s1" in text
    page = lab_markdown(lab, "isoflop lab")
    assert len({line.count("|") for line in page.splitlines() if line.startswith("|")}) == 1
    plain = lab_json(lab)
    assert plain["models"][1]["price"]["cost.amount"]["measured"]["value"] is None
    assert plain["models"][0]["scores"]["swapped"]["values"] == (0.5, 0.7)
