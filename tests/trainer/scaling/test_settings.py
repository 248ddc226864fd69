"""A law of settings finds the powers that a sweep was made from, is written, and is read as a ladder's rule."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from finished_runs import trained
from run_folders import write_lines

from trainer.books import parameters
from trainer.cli.main import main
from trainer.scaling.fit import read_table
from trainer.scaling.fit.csv_table import read_csv
from trainer.scaling.ladder import planned_runs
from trainer.scaling.settings.findings import find_settings, settings_json, settings_of
from trainer.scaling.settings.law import possible_terms, settings_at
from trainer.scaling.settings.law_file import read_law, write_law
from trainer.scaling.settings.points import points_of, varied
from trainer.scaling.settings.surface import surface
from trainer.scaling.settings.text import format_settings
from trainer.utils.errors import UserError

SIZES, TOKENS = (1e6, 4e6, 16e6), (5e7, 2e8, 8e8)
SEVEN = [*product(SIZES[:2], TOKENS), (16e6, 5e7)]
RATES = np.exp(np.arange(-8.4, -2.9, 0.6))
BATCHES = 2.0 ** np.arange(14, 20)  # tokens


def best_rate(size, tokens):
    return 0.5 * size**-0.6 * tokens**0.25


def best_batch(size, tokens):
    return 3.0 * tokens**0.55


def rows(places, rates=RATES, batches=BATCHES, noise=1e-3):
    """Runs at every setting; the loss rises with the squared distance from the best, faster above the best rate."""
    random = np.random.default_rng(1)
    found = []
    for (size, tokens), rate, batch in product(places, rates, batches):
        u = np.log(rate / best_rate(size, tokens))
        v = np.log(batch / best_batch(size, tokens))
        excess = 0.008 * ((u - 0.3 * v) ** 2 + 0.1 * (u - 0.3 * v) ** 3 * (u > 0)) + 0.006 * v**2
        loss = (1.5 + 20 * size**-0.3 + 60 * tokens**-0.3) * np.exp(excess + noise * random.standard_normal())
        found.append({"parameters": size, "tokens": tokens, "lr": rate, "batch_tokens": batch, "loss": loss})
    return found


def write(path, rows):
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    return path


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sweep") / "sweep.csv", rows(product(SIZES, TOKENS)))


@pytest.fixture(scope="module")
def found(sweep):
    return find_settings(read_csv(sweep), ("lr", "batch"))


def test_derivatives_of_the_surface(sweep):
    points = points_of(read_csv(sweep), ("lr", "batch"))
    for terms in possible_terms(points):
        theta = np.concatenate([np.linspace(-0.2, 0.3, terms.count), [-4.0, 0.8, 0.1, -0.1, -5.0, 0.2, 0.4, -0.1]])
        theta[0] -= 6
        theta[len(terms.columns[0])] += 11
        value, slopes = surface(theta, terms, points.logs, points.settings)
        for column in range(len(theta)):
            moved = theta.copy()
            moved[column] += 1e-6
            by = (surface(moved, terms, points.logs, points.settings)[0] - value) / 1e-6
            np.testing.assert_allclose(slopes[:, column], by, rtol=1e-3, atol=1e-4)


def test_the_powers_that_the_sweep_was_made_from(found):
    powers = found.law.powers()
    assert powers["lr"].a.value == pytest.approx(-0.6, abs=0.05) and powers["lr"].b.value == pytest.approx(
        0.25, abs=0.05
    )
    assert powers["batch"].b.value == pytest.approx(0.55, abs=0.05)
    assert powers["batch"].a.value == pytest.approx(0, abs=0.05)
    assert powers["lr"].a.low < -0.6 < powers["lr"].a.high
    assert all(miss.within_one for miss in [*found.held_out, *found.from_cheaper])
    assert found.doubts == []


def test_the_best_settings_of_a_run_that_was_not_made(found):
    said = settings_at(found.law, 64e6, 3.2e9)
    assert said["lr"]["value"] == pytest.approx(best_rate(64e6, 3.2e9), rel=0.15)
    assert said["batch"]["value"] == pytest.approx(best_batch(64e6, 3.2e9), rel=0.15)
    assert said["batch"]["unit"] == "tokens"
    for name, true in (("lr", best_rate(64e6, 3.2e9)), ("batch", best_batch(64e6, 3.2e9))):
        assert said[name]["low"] < true < said[name]["high"]


def test_where_the_rate_alone_was_tried(tmp_path):
    table = read_csv(write(tmp_path / "t.csv", rows(product(SIZES, TOKENS), batches=[65536.0])))
    assert varied(table) == ("lr",)
    found = settings_of(table)
    power = found.law.powers()["lr"]
    # Off the best batch the best rate moves with it: 0.3 of the distance.
    assert power.a.value == pytest.approx(-0.6, abs=0.08)
    assert power.b.value == pytest.approx(0.25 - 0.3 * 0.55, abs=0.08)
    assert "batch" not in settings_json(found)
    with pytest.raises(UserError, match="settings: batch: 0 places"):
        settings_of(table, "batch")


def test_where_rates_and_batches_were_tried_in_rows_of_their_own(tmp_path):
    places = [*product(SIZES, TOKENS[:1])]
    apart = [{**row, "batch_tokens": ""} for row in rows(places, batches=BATCHES[:1])]
    apart += [{**row, "lr": ""} for row in rows(places, rates=RATES[:1])]
    table = read_csv(write(tmp_path / "apart.csv", apart))
    assert varied(table) == ("lr",)
    with pytest.raises(UserError, match=r"lr: 0 places .* in rows that state both"):
        points_of(table, ("lr", "batch"))


def test_a_ladder_whose_tokens_follow_its_sizes(tmp_path):
    table = read_csv(write(tmp_path / "t.csv", rows([(size, 20 * size) for size in (1e6, 3e6, 9e6, 27e6)])))
    found = settings_of(table)
    powers = found.law.powers()
    assert powers["lr"].a.value == pytest.approx(-0.6 + 0.25, abs=0.06) and powers["lr"].b.value == 0
    assert powers["batch"].b.value == pytest.approx(0.55, abs=0.06) and powers["batch"].a.value == 0
    assert found.doubts[0].kind == "one_axis"


def test_a_best_at_the_edge_of_what_was_tried_is_a_doubt(tmp_path):
    table = read_csv(write(tmp_path / "t.csv", rows(product(SIZES, TOKENS), rates=np.exp([-9.0, -8.5, -8.0]))))
    kinds = {(doubt.kind, doubt.numbers.get("setting")) for doubt in settings_of(table, "lr,batch").doubts}
    assert ("edge", "lr") in kinds


def test_a_rate_that_bends_is_a_doubt(tmp_path):
    made = rows(product((1e6, 4e6, 16e6, 64e6), TOKENS))
    bent = [row | {"lr": row["lr"] * np.exp(-0.05 * np.log(row["parameters"] / 4e6) ** 2)} for row in made]
    found = settings_of(read_csv(write(tmp_path / "t.csv", bent)))
    assert any("learning rate: it bends at scale: along parameters" in doubt.text for doubt in found.doubts)


def test_the_critical_batch(tmp_path):
    """Where every batch B wastes tokens as 1 + B / critical, 20% more are needed at a fifth of the critical batch."""
    made = []
    for (size, tokens), batch, rate in product(product(SIZES, TOKENS), 2.0 ** np.arange(10, 20), (1, 2, 4)):
        useful = tokens / (1 + batch / (50 * tokens**0.5))
        loss = (1.5 + 20 * size**-0.3 + 60 * useful**-0.3) * (1 + 0.01 * (rate - 2) ** 2)
        made.append({"parameters": size, "tokens": tokens, "lr": rate * 1e-3, "batch_tokens": batch, "loss": loss})
    found = settings_of(read_csv(write(tmp_path / "t.csv", made)))
    critical = found.critical
    assert critical.b.value == pytest.approx(0.5, abs=0.08) and critical.a.value == pytest.approx(0, abs=0.05)
    for _, tokens, batch in critical.places:
        assert batch == pytest.approx(0.2 * 50 * tokens**0.5, rel=0.3)


def test_what_is_printed(found, sweep):
    text = "\n".join(format_settings(found))
    assert "learning rate = " in text and "batch of tokens = " in text and "critical batch" in text
    assert "5 within one step of the grid of their best" in text
    json.dumps(settings_json(found), allow_nan=False)


# --- the file, and a ladder that reads it ---

BASE = ["ladder=chinchilla", "ladder.base=['model=llama-mini','data.sequence_length=64']", "tokenizer.vocabulary=512"]
BASE += ["ladder.sizes=[100k,1m]", "ladder.tokens_per_parameter=100"]


@pytest.fixture
def law(found, tmp_path):
    path = tmp_path / "settings.json"
    write_law(found, path, "sweep.csv")
    return path


def test_the_file_says_what_the_law_says(found, law):
    read, count = read_law(law)
    assert count is None  # a column `parameters` does not say
    assert settings_at(read, 5e6, 3e8) == settings_at(found.law, 5e6, 3e8)


def test_a_ladders_rates_and_batches_by_a_law(found, law):
    rule = f"{{law: {law}, parameters: total}}"
    runs = planned_runs([*BASE, f"ladder.lr={rule}", f"ladder.batch_size={rule}"])
    assert len(runs) == 2
    for run in runs:
        size = parameters(run.config).total
        said = settings_at(found.law, size, 100 * size)
        assert run.config.optim.lr == pytest.approx(said["lr"]["value"], rel=1e-3)
        assert run.config.optim.batch_size == max(1, round(said["batch"]["value"] / 64))
    said = "\n".join(runs[0].notes)
    assert f"learning rate by {law}: " in said and "outside of what the law was fitted to" in said
    assert "x below the fewest parameters" in said


@pytest.mark.parametrize(
    ("change", "rule", "line"),
    [
        (None, "{law: nowhere.json}", "there is no such file"),
        (None, "{law: LAW}", "does not state what N counts"),
        (lambda law: law["settings"]["lr"]["k"].update(value=9.0), "{law: LAW, parameters: total}", "its hash is of"),
        (lambda law: law.update(kind="x"), "{law: LAW, parameters: total}", "no law of settings"),
        (lambda law: law.update(version=99), "{law: LAW, parameters: total}", "version 99"),
        (None, "{parameters: total}", "only a law reads it"),
        (None, "{law: LAW, parameters: all}", "total"),
    ],
)
def test_laws_that_no_ladder_can_read(law, change, rule, line):
    if change is not None:
        content = json.loads(law.read_text())
        change(content)
        law.write_text(json.dumps(content))
    with pytest.raises(UserError, match=line) as error:
        planned_runs([*BASE, f"ladder.lr={rule.replace('LAW', str(law))}"])
    assert len(str(error.value).splitlines()) == 1


def test_a_law_that_counts_another_n(found, tmp_path):
    found = replace(found, law=replace(found.law, counts="column 'total_parameters'"))
    write_law(found, path := tmp_path / "law.json", "t.csv")
    assert read_law(path)[1] == "total"
    planned_runs([*BASE, f"ladder.lr={{law: {path}}}"])
    with pytest.raises(UserError, match="parameters: active is another N"):
        planned_runs([*BASE, f"ladder.lr={{law: {path}, parameters: active}}"])


@pytest.mark.parametrize("name", ["mup", "completep"])
def test_a_parametrization_scales_the_rate_itself(law, name):
    with pytest.raises(UserError, match=rf"ladder.lr.law: with parametrization={name}"):
        planned_runs([*BASE, f"ladder.lr={{law: {law}, parameters: total}}", f"ladder.parametrization={name}"])


# --- run folders ---


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Four widths at five rates; the best falls as 1 / sqrt(parameters), and the gradient noise scale is measured."""
    root = tmp_path_factory.mktemp("runs")
    for width, rate in product((32, 64, 128, 256), 2.0 ** np.arange(-11, -6)):
        optim = {"batch_size": 4, "warmup_steps": 2, "lr": float(rate)}
        run = trained(root, width, 4, 3.0, name=f"w{width}-lr{rate}", optim=optim)
        size = next(iter(read_table(run).runs)).parameters
        loss = (1 + size**-0.1) * np.exp(0.02 * np.log(rate / (1.5 * size**-0.5)) ** 2)
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for record in records:
            if record["kind"] == "evaluation":
                record["loss"] = loss
            if record["kind"] == "step":
                record["gradient_noise"] = {"critical_batch_tokens": 4 * size**0.5} if record["step"] == 20 else {}
        (run / "metrics.jsonl").unlink()
        write_lines(run / "metrics.jsonl", records)
    return root


def test_run_folders_of_every_setting_count(runs):
    table = read_table(runs)
    assert len(table.runs) == 4 and len(table.every) == 20
    found = settings_of(table)
    assert found.law.names == ("lr",) and found.law.powers()["lr"].a.value == pytest.approx(-0.5, abs=0.05)
    assert found.noise.a.value == pytest.approx(0.5, abs=0.02)


def test_whole_steps_of_other_batches_are_one_number_of_tokens(tmp_path):
    made = [row | {"tokens": round(row["tokens"] / row["batch_tokens"]) * row["batch_tokens"]} for row in rows(SEVEN)]
    points = points_of(read_csv(write(tmp_path / "t.csv", made)), ("lr", "batch"))
    assert len(points.best) == len(SEVEN)


# --- the command ---


def test_fit_prints_the_law_and_writes_it(tmp_path, capsys):
    table = write(tmp_path / "t.csv", rows(product(SIZES, TOKENS), RATES[1::2], BATCHES[::2], noise=1e-4))
    assert main(["fit", str(table), "replicates=20", f"out={tmp_path}", "predict=64m@3b", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["settings"]["lr"]["a"]["value"] == pytest.approx(-0.6, abs=0.05)
    assert facts["settings"]["batch"]["unit"] == "tokens"
    said = facts["predictions"][0]["settings"]
    assert said["lr"]["low"] < said["lr"]["value"] < said["lr"]["high"] and said["batch"]["unit"] == "tokens"
    assert read_law(tmp_path / "settings.json")[0].names == ("lr", "batch")


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("settings=lr,bath", "settings: 'bath' given; lr, batch, none wanted (did you mean 'batch'?)"),
        ("sequence_length=0", "sequence_length: '0' given"),
        ("sequence_length=2048", "the table states its batch in tokens"),
    ],
)
def test_wrong_words(sweep, capsys, word, line):
    assert main(["fit", str(sweep), word]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert line in said[-1]
