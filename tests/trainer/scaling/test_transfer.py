"""Where the best setting stood: generated sizes whose best is known, tables, run folders, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.trainer.scaling.finished_runs import trained
from trainer.cli.main import main
from trainer.scaling.transfer import read_points, transfer

SIZES = (1e6, 2e6, 4e6, 8e6)
RATES = tuple(1e-3 * 2.0**power for power in range(-4, 5))
BEND = 0.05


def table(path, best, *, sizes=SIZES, rates=RATES, noise=0.0, chance=0):
    """Losses of a parabola over ln lr whose bottom at size N is at best(N)."""
    drawn = np.random.default_rng(chance)
    lines = ["n,tokens,lr,loss"]
    for size in sizes:
        for rate in rates:
            loss = 3 + BEND * np.log(rate / best(size)) ** 2 + noise * drawn.normal()
            lines.append(f"{size:.0f},1e8,{rate!r},{float(loss)!r}")
    path.write_text("\n".join(lines) + "\n")
    return path


def found_in(path, setting="optim.lr"):
    return transfer(read_points(path, setting, {})).series


def test_a_best_that_stays(tmp_path):
    [series] = found_in(table(tmp_path / "t.csv", lambda size: 1.3e-3))
    assert [one.value for one in series.optima] == pytest.approx([1.3e-3] * 4)
    assert series.step == pytest.approx(1) and series.moved == pytest.approx(0, abs=1e-9)
    [drift] = series.drifts
    assert drift.axis == "parameters" and drift.exponent == pytest.approx(0, abs=1e-9)
    assert series.lost[-1].value == pytest.approx(0, abs=1e-9)


def test_a_best_that_drifts_and_what_taking_it_over_costs(tmp_path):
    """best ~ N^-1/2: half a step of a factor of two a doubling."""
    [series] = found_in(table(tmp_path / "t.csv", lambda size: 2e-3 * (size / 1e6) ** -0.5))
    [drift] = series.drifts
    assert drift.exponent == pytest.approx(-0.5)
    assert series.moved == pytest.approx(1.5)
    assert series.lost[-1].value == pytest.approx(BEND * np.log(8**0.5) ** 2, rel=0.02)


def test_intervals_hold_the_best(tmp_path):
    best = lambda size: 1.5e-3 * (size / 1e6) ** -0.3  # noqa: E731
    held = drifts = 0
    for number in range(20):
        [series] = found_in(table(tmp_path / "t.csv", best, noise=0.004, chance=number))
        for one in series.optima:
            low, high = one.interval
            assert low <= one.value <= high
            held += low <= best(one.profile.parameters) <= high
        low, high = series.drifts[0].interval
        drifts += low <= -0.3 <= high
    assert held >= 70 and drifts >= 18  # of 80 and of 20


def test_the_best_at_an_end_is_said_and_takes_no_part(tmp_path):
    [series] = found_in(table(tmp_path / "t.csv", lambda size: 2e-3 if size < 8e6 else 1.0))
    assert [one.profile.edge for one in series.optima] == ["", "", "", "highest"]
    assert series.optima[-1].value == RATES[-1] and series.optima[-1].interval is None
    assert series.drifts[0].places == 3
    assert any("1 of 4 sizes" in note and "end of what was tried" in note for note in series.notes)


def test_what_was_not_tried_is_not_guessed(tmp_path):
    narrow = table(tmp_path / "a.csv", lambda size: 4e-3, sizes=(1e6,)).read_text()
    other = table(tmp_path / "b.csv", lambda size: 1e-3, sizes=(2e6,), rates=RATES[2:6]).read_text()
    (tmp_path / "t.csv").write_text(narrow + other.partition("\n")[2])
    [series] = found_in(tmp_path / "t.csv")
    assert series.lost[-1].value is None
    assert series.drifts[0].places == 2


def test_all_else_is_at_its_best_and_series_stand_apart(tmp_path):
    lines = ["parameters,tokens,lr,batch,optimizer,parametrization,loss"]
    for name, shift in (("standard", 0.5), ("completep", 0.0)):
        for size in (1e6, 4e6):
            for rate in RATES:
                for batch, worse in ((8, 0.2), (16, 0.0)):
                    loss = 3 + worse + BEND * np.log(rate / (1e-3 * (size / 1e6) ** -shift)) ** 2
                    lines.append(f"{size},1e8,{rate},{batch},lion,{name},{loss}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    series = {one.name: one for one in found_in(tmp_path / "t.csv")}
    assert {name: one.moved for name, one in series.items()} == {
        "lion, completep": pytest.approx(0, abs=1e-6),
        "lion, standard": pytest.approx(1),
    }
    assert all(one.optima[0].profile.losses.min() == pytest.approx(3) for one in series.values())


def test_a_run_counts_once(tmp_path):
    """Twice the same row is no seed, and tells nothing of noise."""
    path = table(tmp_path / "t.csv", lambda size: 1e-3, rates=RATES[2:5])
    path.write_text(path.read_text() + path.read_text().partition("\n")[2])
    points = read_points(path, "optim.lr", {})
    assert len(points.points) == len(points.left_out) == 12
    assert points.left_out[0] == ("row 14", "the same setting and loss as row 2")
    assert all(one.interval is None for one in transfer(points).series[0].optima)


def test_what_diverged_was_tried(tmp_path):
    """The best stands below a value that diverged, and so not at the end of what was tried."""
    path = table(tmp_path / "t.csv", lambda size: 1e-3, rates=RATES[:6], noise=1e-4)
    more = "".join(
        f"{size:.0f},1e8,{rate!r},{loss}\n" for size in SIZES for rate, loss in ((4e-3, "nan"), (8e-3, "inf"))
    )
    path.write_text(path.read_text() + more)
    [series] = found_in(path)
    assert all(not one.profile.edge and one.value == pytest.approx(1e-3, rel=0.02) for one in series.optima)
    assert "8 runs diverged; their values count as tried" in series.notes
    path = table(tmp_path / "t.csv", lambda size: 1e-2, rates=RATES[:6], noise=1e-4)
    path.write_text(path.read_text() + more)
    [series] = found_in(path)
    assert [one.profile.edge for one in series.optima] == [""] * 4
    assert [one.value for one in series.optima] == [RATES[5]] * 4
    assert series.lost[-1].value == 0


def test_width_and_depth_apart_and_together(tmp_path):
    lines = ["parameters,width,depth,lr,loss"]
    for width in (64, 128, 256):
        for depth in (2, 4, 8):
            for rate in RATES:
                best = 2e-3 * (width / 64) ** -0.5 * (depth / 2) ** -0.2
                lines.append(f"{width**2 * depth},{width},{depth},{rate},{3 + BEND * np.log(rate / best) ** 2}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    [series] = found_in(tmp_path / "t.csv")
    exponents = {one.axis: one.exponent for one in series.drifts}
    assert exponents["width"] == pytest.approx(-0.5) and exponents["depth"] == pytest.approx(-0.2)
    kept = [lines[0], *(line for line in lines[1:] if int(line.split(",")[1]) == 32 * int(line.split(",")[2]))]
    (tmp_path / "t.csv").write_text("\n".join(kept))
    [series] = found_in(tmp_path / "t.csv")
    assert "width and depth grow together: drift along width is along both" in series.notes


def test_the_command_on_run_folders(tmp_path, capsys):
    """Its series are told by the keys of muP and CompleteP; runs of other seeds are means."""
    for depth in (2, 4):
        for rate in (1e-3, 2e-3, 4e-3, 8e-3):
            for seed in (0, 1):
                model = {"width": 32, "depth": depth, "heads": 2, "mup_base_depth": 2}
                loss = 3 + BEND * np.log(rate / 3e-3) ** 2 + 0.001 * (-1) ** seed
                optim = {"batch_size": 4, "warmup_steps": 2, "lr": rate}
                name = f"d{depth}-{rate}-s{seed}"
                trained(tmp_path / "runs", 32, 4, loss, name=name, model=model, optim=optim, seed=seed)
    assert main(["transfer", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    assert "adamw, completep: 2 sizes, 16 runs" in printed and "along depth" in printed
    assert (tmp_path / "runs/transfer/transfer.png").is_file()
    assert main(["transfer", str(tmp_path / "runs"), "--json", f"out={tmp_path / 'out'}"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads((tmp_path / "out/transfer.json").read_text())
    [series] = facts["series"]
    assert [place["best"]["value"] for place in series["places"]] == pytest.approx([3e-3] * 2, rel=1e-6)
    assert series["grid_step"] == pytest.approx(2)


@pytest.mark.parametrize(
    "text, words, said",
    [
        ("n,lr,loss\n1e6,1e-3,3\n1e6,2e-3,3", [], "1 size in 2 runs; two or more"),
        ("n,lr,loss\n1e6,1e-3,3\n2e6,1e-3,3", [], "has one value at every size; sweep it"),
        ("n,loss\n1e6,3", [], "no column for lr (it may be named lr, learning_rate"),
        ("lr,loss\n1e-3,3", [], "no column for parameters"),
        ("n,lr,loss\n1e6,abc,3", [], "row 2, lr: 'abc' given, a positive number wanted"),
        ("n,lr,loss\n1e6,1e999,3", [], "row 2, lr: '1e999' given, a positive number wanted"),
        ("n,lr,loss\n1e6,-1,3", [], "row 2, lr: '-1' given, a positive number wanted"),
        ("n,lr,loss\n1e6,0,3", [], "with a positive optim.lr and a finite loss (1 left out: row 2: optim.lr=0"),
        ("n,lr,loss\n1e6,1e-3,nan", [], "no finished run with a positive optim.lr and a finite loss"),
        ("n,lr,loss\n1e6,1e-3,", [], "row 2, loss: 'nothing' given, a positive number wanted"),
        ("n,lr,loss\n", [], "no table of runs"),
        ("n,lr,loss\n1e6,1e-3,3", ["setting=optim.beta2"], "a table can state optim.lr"),
        ("n,lr,loss\n1e6,1e-3,3", ["column.lr=rate"], "column.lr=rate: no such column; there is n, lr, loss"),
        ("n,lr,loss\n1e6,1e-3,3", ["column.rate=lr"], "column.rate: no such quantity"),
        ("n,lr,loss\n1e6,1e-3,3", ["axis=lr"], "transfer: axis: no such option"),
        ("n,lr,loss\n1e6,1e-3,3", ["mixed=maybe"], "transfer: mixed: 'maybe' given, false or true wanted"),
        ("n,lr,loss\n1e6,1e-3,3", ["seed=x"], "transfer: seed: 'x' given"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, text, words, said):
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert main(["transfer", str(path), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_runs_that_do_not_state_the_setting(tmp_path, capsys):
    trained(tmp_path, 32, 4, 3.0)
    assert main(["transfer", str(tmp_path), "setting=optim.lrr"]) == 2
    assert "setting: optim.lrr: no key of the runs' configuration (did you mean 'optim.lr'?)" in capsys.readouterr().err
    assert main(["transfer", str(tmp_path), "setting=optim.name"]) == 2
    assert "a key with numbers wanted, e.g. optim.lr" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["transfer", str(tmp_path / "empty")]) == 2
    assert "no run folders in it" in capsys.readouterr().err
