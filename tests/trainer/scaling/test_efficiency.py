"""Efficiency factors between generated laws whose factor is known, and what is said where there is no one factor."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from finished_runs import trained

from trainer.cli.main import main
from trainer.scaling.efficiency import efficiency, format_efficiency, sides
from trainer.scaling.efficiency.stored import StoredLaw, lowest_of_sizes, stored_factor
from trainer.scaling.fit.table import Run, Table
from trainer.scaling.statistics import fisher_tail, student_tail
from trainer.utils.errors import UserError

SIZES = np.geomspace(1e5, 4e6, 4)


def along_compute(factor: float, seed: int, *, noise: float = 0.003, seeds: int = 3, drift: float = 0.0) -> list[Table]:
    """Two tables of 20 tokens a parameter; the second needs `factor` x C^drift (about 1e14) times the FLOPs."""
    random, tables = np.random.default_rng(seed), []
    for second in (False, True):
        runs = []
        for size in SIZES:
            flop = 120 * size**2
            worth = flop / (factor * (flop / 1e14) ** drift) if second else flop
            for number in range(seeds):
                loss = (1.8 + 2 * (1e10 / worth) ** 0.17) * np.exp(noise * random.normal())
                runs.append(Run(f"{size:.0f}-{number}", size, 20 * size, flop, loss, kwh=1e-13 * flop * (1 + second)))
        tables.append(Table(tuple(runs), "N", "C"))
    return tables


def over_sizes(factor: float, seed: int, noise: float = 0.003) -> list[Table]:
    """Two tables of Chinchilla's form over sizes and tokens; the second needs `factor` times the tokens."""
    random, tables = np.random.default_rng(seed), []
    for divide in (1.0, factor):
        places = [(size, size * ratio) for size in SIZES for ratio in (5.0, 12.0, 30.0, 80.0)]
        runs = [
            Run(f"{n:.0f}-{d:.0f}", n, d, 6 * n * d, loss * np.exp(noise * random.normal()))
            for n, d in places
            for loss in [1.8 + (3e3 / n) ** 0.4 + (3e6 * divide / d) ** 0.37]
        ]
        tables.append(Table(tuple(runs), "N", "C"))
    return tables


def test_a_known_factor_is_found_along_compute_in_every_amount() -> None:
    found = efficiency(sides(("a", "b"), *along_compute(1.3, 0)), replicates=100)
    assert found.flop.low < 1.3 < found.flop.high < 1.25 * found.flop.low
    assert found.factors["kwh"].value == pytest.approx(2 * found.flop.value)  # a FLOP costs the second twice as much
    assert set(found.factors) == {"flop", "kwh"}
    assert found.one_factor and found.determined
    assert found.drift.low < 0 < found.drift.high
    assert found.sides.pairs == 12 and "12 pairs at one place" in format_efficiency(found)


def test_a_known_factor_is_found_over_sizes_and_tokens() -> None:
    found = efficiency(sides(("a", "b"), *over_sizes(1.3, 2)), replicates=60)
    assert found.flop.low < 1.3 < found.flop.high < 1.25 * found.flop.low
    assert found.one_factor and found.held_out is not None and found.held_out.joint < 0.01
    at, middle = found.separate[1]
    assert middle.low < 1.3 < middle.high and at == pytest.approx(np.sqrt(np.prod(found.sides.common)))


def test_the_same_runs_are_a_factor_of_one() -> None:
    table = over_sizes(1.0, 2)[0]
    found = efficiency(sides(("a", "b"), table, table), replicates=40)
    assert found.flop.value == pytest.approx(1, abs=1e-3) and found.flop.low > 0.995 and found.flop.high < 1.005


def test_a_factor_that_drifts_is_no_one_factor() -> None:
    found = efficiency(sides(("a", "b"), *along_compute(1.3, 2, drift=0.12)), replicates=100)
    assert not found.one_factor and 0 < found.drift.low < 0.12 < found.drift.high
    (low, first), (high, last) = found.ends
    assert first.low < 1.3 * (low / 1e14) ** 0.12 < first.high and last.low < 1.3 * (high / 1e14) ** 0.12 < last.high
    assert any("drifts with scale" in doubt for doubt in found.doubts)
    assert "not one factor" in format_efficiency(found)


def test_pairs_take_out_what_both_runs_of_a_seed_share() -> None:
    """The same luck on both sides of each pair: as far as it is shared, it is no doubt of the factor."""
    first, second = along_compute(1.3, 0, noise=0.0)
    luck = np.random.default_rng(3).normal(size=len(first.runs))

    def lucky(table: Table, stated: bool) -> Table:
        runs = zip(table.runs, luck, strict=True)
        return replace(
            table,
            runs=tuple(
                replace(run, loss=run.loss * np.exp(0.01 * one), seed=number % 3 if stated else None)
                for number, (run, one) in enumerate(runs)
            ),
        )

    paired = efficiency(sides(("a", "b"), lucky(first, True), lucky(second, True)), replicates=60)
    alone = efficiency(sides(("a", "b"), *along_compute(1.3, 0, noise=0.01)), replicates=60)
    assert np.log(paired.flop.high / paired.flop.low) < np.log(alone.flop.high / alone.flop.low) / 3
    mixed = replace(lucky(second, True), runs=lucky(second, True).runs[::-1])
    again = efficiency(sides(("a", "b"), lucky(first, True), mixed), replicates=60)
    assert again.flop.value == pytest.approx(paired.flop.value, rel=1e-3) and again.sides.pairs == 12


@pytest.mark.slow
@pytest.mark.parametrize("made", [along_compute, over_sizes])
def test_intervals_hold_the_factor_of_forty_tables(made: object) -> None:
    inside = 0
    for seed in range(40):
        found = efficiency(sides(("a", "b"), *made(1.3, 100 + seed)), replicates=120).flop  # type: ignore[operator]
        inside += found.low <= 1.3 <= found.high
    assert inside >= 36, f"{inside} of 40"


def test_two_stored_laws_have_a_factor_at_budgets() -> None:
    def law(label: str, divide: float, unit: str = "nats/token") -> StoredLaw:
        def lowest(n: np.ndarray, d: np.ndarray) -> np.ndarray:
            return (1.7 + (3e3 / n) ** 0.4 + (3e6 * divide / d) ** 0.37)[None]

        return StoredLaw(label, "chinchilla", "all", unit, (1e16, 1e19), lowest_of_sizes(lowest))

    found = stored_factor(law("a", 1.0), law("b", 1.3))
    assert [figure.value for _, figure in found.at] == pytest.approx([1.3] * 3, rel=5e-3)
    assert "no interval" in found.doubts[0] and "1.30 (no interval)" in format_efficiency(found)
    with pytest.raises(UserError, match=r"a are in nats/token, those of b in bits/byte: not one scale"):
        stored_factor(law("a", 1.0), law("b", 1.3, "bits/byte"))


@pytest.mark.parametrize(
    ("f", "first", "second", "p"), [(4.9646, 1, 10, 0.05), (4.0662, 3, 8, 0.05), (2.5, 4, 54, 0.0532), (0.0, 2, 9, 1.0)]
)
def test_fishers_tail_is_that_of_tables(f: float, first: int, second: int, p: float) -> None:
    assert fisher_tail(f, first, second) == pytest.approx(p, abs=2e-4)
    assert fisher_tail(2.3**2, 1, second) == pytest.approx(student_tail(2.3, second), abs=1e-6)


def write(path: Path, table: Table, **more: str) -> str:
    with open(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(["parameters", "tokens", "flop", "loss", "kwh", *more])
        for run in table.runs:
            writer.writerow([run.parameters, run.tokens, run.flop, run.loss, run.kwh or "", *more.values()])
    return str(path)


def test_the_verb_takes_tables_as_laws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = along_compute(1.3, 0)
    names = [write(tmp_path / "adamw.csv", first), write(tmp_path / "muon.csv", second)]
    assert main(["compare", *names, "replicates=40"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("muon against adamw\n") and "factor      FLOP" in text and "one factor?" in text
    files = {"compare.html", "compare.json", "factor.png", "factor.svg"}
    assert {path.name for path in (tmp_path / "comparison").iterdir()} == files
    assert main(["compare", *names, "replicates=40", f"out={tmp_path / 'out'}", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["laws"]
    assert facts["first"] == "adamw" and facts["factors"]["flop"]["low"] < 1.3 < facts["factors"]["flop"]["high"]
    assert facts["one_factor"]["holds"] and facts["determined"]


def test_stored_laws_are_compared_without_their_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = []
    for name, table in zip(("adamw", "muon"), over_sizes(1.3, 0, noise=0.001), strict=True):
        assert main(["fit", write(tmp_path / f"{name}.csv", table), "form=chinchilla", "replicates=20"]) == 0
        names.append(str(tmp_path / f"{name}-fit" / "law.json"))
    capsys.readouterr()
    assert main(["compare", *names, "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["laws"]
    assert (facts["first"], facts["second"]) == ("adamw", "muon")
    assert facts["separate"][1]["factor"]["low"] < 1.3 < facts["separate"][1]["factor"]["high"]
    for words, says in (
        ([names[0], str(tmp_path / "muon.csv")], "adamw is a stored law and muon has runs"),
        ([names[0], str(tmp_path / "muon-fit" / "fit.json")], "no law; isoflop fit writes one as law.json"),
    ):
        assert main(["compare", *words]) == 2
        error = capsys.readouterr().err
        assert says in error and len(error.splitlines()) == 1


def test_roots_of_runs_are_laws_where_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def law(name: str, divide: float, **more: object) -> str:
        for width in (32, 64, 128):
            for batch in (4, 8, 16):
                loss = 1 + 20 / width + 3 * (divide / batch) ** 0.4
                trained(tmp_path / name, width, batch, loss, **more)
        return str(tmp_path / name)

    one, other = law("one", 1.0), law("other", 1.3)
    assert main(["compare", one, other, "by=law", "replicates=20", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["laws"]
    assert facts["factors"]["flop"]["value"] == pytest.approx(1.3, rel=0.02)
    assert set(facts["factors"]) == {"flop", "kwh", "gco2e", "money"} and facts["factors"]["money"]["unit"] == "EUR"
    masked = law("masked", 1.0, objective={"name": "masked_lm"}, model={"width": 64, "depth": 2, "family": "encoder"})
    assert main(["compare", one, masked, "by=law"]) == 2
    error = capsys.readouterr().err
    assert "losses of different objective are not one scale: causal" in error and len(error.splitlines()) == 1


def test_what_is_no_pair_of_laws_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = along_compute(1.3, 0)
    one, other = write(tmp_path / "a.csv", first), write(tmp_path / "b.csv", second)
    far = replace(second, runs=tuple(replace(run, flop=1e6 * run.flop, tokens=1e6 * run.tokens) for run in second.runs))
    few = replace(second, runs=second.runs[:6])
    texts = write(tmp_path / "texts.csv", second, data="web")
    books = write(tmp_path / "books.csv", first, data="books")
    for words, says in (
        ([one], "name at least two laws"),
        ([one, one], "a.csv is named twice"),
        ([one, str(tmp_path / "no.csv")], "no such folder of runs, table or law"),
        ([one, write(tmp_path / "far.csv", far)], "the runs cover no compute in common"),
        ([one, write(tmp_path / "few.csv", few)], "no law can be fitted to a and few"),
        ([books, texts], "losses of different data are not one scale: books (books) against web (texts)"),
        ([one, other, "axis=kwh"], "laws are compared in every amount that is stated"),
        ([one, other, "replicates=5"], "a whole number of at least 20 wanted"),
        ([one, other, "by=laws"], "did you mean 'law'"),
        ([one, other, "column.loss=nll"], "no column 'nll'"),
        ([str(tmp_path), "mixed=true"], "mixed: only laws read it; add by=law, or name tables"),
    ):
        assert main(["compare", *words]) == 2, words
        error = capsys.readouterr().err
        assert says in error and len(error.splitlines()) == 1 and "Traceback" not in error, error
