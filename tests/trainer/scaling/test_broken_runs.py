"""One damaged run folder is named by every verb about its root, and the other runs are shown."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_runs import trained

from trainer.cli.main import main
from trainer.scaling.compare.groups import read_groups
from trainer.scaling.fit.run_table import read_runs

EXPERIMENT = "exp"
SETTINGS = {"run": {"experiment": EXPERIMENT}}
GOOD = [(16, 2), (32, 2)]
Damage = Callable[[Path], object]


def _record(**changed: object) -> Damage:
    """The last step or evaluation of metrics.jsonl says something else."""

    def change(run: Path) -> None:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) | changed for line in lines]
        (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    return change


def _file(name: str, content: bytes) -> Damage:
    return lambda run: (run / name).write_bytes(content)


def _instead(name: str, make: Damage) -> Damage:
    """Something else than a file at this name."""

    def change(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        make(run / name)

    return change


def _without_folder(make: Damage) -> Damage:
    def change(run: Path) -> None:
        shutil.rmtree(run)
        make(run)

    return change


MULTIPLIED = b"a: &a [x,x]\n" + b"".join(b"%c: &%c [*%c,*%c]\n" % (n, n, n - 1, n - 1) for n in range(98, 123))
BINARY = bytes(range(256)) * 8
# What is wrong -> the damage, and what the line about it names.
DAMAGED: dict[str, tuple[Damage, str]] = {
    "no configuration": (lambda run: (run / "config.yaml").unlink(), "config.yaml"),
    "half a configuration": (lambda run: os.truncate(run / "config.yaml", 300), "config.yaml"),
    "an empty configuration": (_file("config.yaml", b""), "config.yaml"),
    "a newer configuration": (_file("config.yaml", b"format: 99\nseed: 0\n"), "newer isoflop"),
    "a binary configuration": (_file("config.yaml", BINARY), "config.yaml"),
    "a list as configuration": (_file("config.yaml", b"- 1\n"), "config.yaml"),
    "wrong kinds in a configuration": (_file("config.yaml", b"model: 3\ndata: []\nobjective: x\n"), "config.yaml"),
    "aliases that multiply": (_file("config.yaml", MULTIPLIED), "config.yaml"),
    "a folder as configuration": (_instead("config.yaml", Path.mkdir), "config.yaml"),
    "a link to itself as configuration": (_instead("config.yaml", lambda file: file.symlink_to(file)), "config.yaml"),
    "a link to nowhere as configuration": (_instead("config.yaml", lambda file: file.symlink_to("no")), "config.yaml"),
    "a pipe as configuration": (_instead("config.yaml", os.mkfifo), "config.yaml"),
    "a folder as metrics": (_instead("metrics.jsonl", Path.mkdir), "metrics.jsonl"),
    "a pipe as metrics": (_instead("metrics.jsonl", os.mkfifo), "metrics.jsonl"),
    "binary metrics": (_file("metrics.jsonl", BINARY), "metrics.jsonl"),
    "text as a figure": (_record(tokens="many"), "tokens: 'many' given"),
    "no number as a figure": (_record(flop=float("nan")), "flop: nan given"),
    "a list of seconds": (_record(seconds=[1]), "seconds: [1] given"),
    "text as a loss": (_record(loss="low"), "loss: 'low' given"),
    "a folder as logbook": (_instead("events.jsonl", Path.mkdir), "events.jsonl"),
    "a folder of readings": (_instead("energy-host.jsonl", Path.mkdir), "energy-host.jsonl"),
    "a link to nowhere": (_without_folder(lambda run: run.symlink_to("nowhere")), "broken"),
    "a link to itself": (_without_folder(lambda run: run.symlink_to(run)), "broken"),
}
# Files that only add to what the others tell: the run is shown without them.
BESIDE: dict[str, tuple[Damage, str]] = {
    "an empty environment": (_file("environment.json", b""), "environment.json"),
    "another environment": (_file("environment.json", b"3"), "environment.json"),
    "a folder as environment": (_instead("environment.json", Path.mkdir), "environment.json"),
    "a plan of other rows": (_file("plan.json", b'{"rows": [3]}'), "plan.json"),
    "a plan nested deeply": (_file("plan.json", b"[" * 200_000), "plan.json"),
}


LINKS = ("a link to nowhere", "a link to itself")  # no folders below a root, but runs by their place


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two finished runs, and one more that the test damages."""
    for width, batch in GOOD:
        trained(tmp_path, width, batch, 3.0 - width / 100 - batch / 100, **SETTINGS)
    trained(tmp_path, 64, 8, 2.0, name="broken", **SETTINGS)
    return tmp_path


def _answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, list[str]]:
    code = main(list(words))
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("isoflop: ")]
    assert "Traceback" not in said.err and "internal error" not in said.err, said.err
    return code, said.out, lines


@pytest.mark.parametrize("name", [*DAMAGED, *BESIDE])
def test_the_others_are_shown(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, word = (DAMAGED | BESIDE)[name]
    damage(root / EXPERIMENT / "broken")
    for verb in ("status", "ledger"):
        code, out, lines = _answer(capsys, verb, str(root), "--json")
        assert code == 0 and json.loads(out)
        assert len(lines) == 1 and word in lines[0] and "broken" in lines[0], lines
    assert {one["run"].split("/")[1] for one in json.loads(_answer(capsys, "status", str(root), "--json")[1])} >= {
        f"w{width}-b{batch}" for width, batch in GOOD
    }
    found = read_groups([str(root)])
    lines = capsys.readouterr().err.splitlines()
    assert sum(len(group.runs) for group in found) == len(GOOD) + (name in BESIDE)
    if name not in LINKS:
        assert len(lines) == 1 and "broken" in lines[0] and word in lines[0]


@pytest.mark.parametrize("name", DAMAGED)
def test_the_run_itself_is_one_line(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, _ = DAMAGED[name]
    run = root / EXPERIMENT / "broken"
    damage(run)
    code, out, lines = _answer(capsys, "report", str(run))
    assert code == 2 and not out and len(lines) == 1


@pytest.mark.parametrize("name", DAMAGED)
def test_a_fit_leaves_it_out(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, _ = DAMAGED[name]
    damage(root / EXPERIMENT / "broken")
    table = read_runs(root)
    assert len(table.runs) == len(GOOD)
    if name not in LINKS:
        assert [left for left, _ in table.left_out] == [f"{EXPERIMENT}/broken"]


@pytest.mark.parametrize(
    "line",
    [
        {"measured": [1]},
        {"measured": {"energy": {"kwh": "3"}}},
        {"segments": {"a": None, "b": []}},
        {"held_out_bits_per_byte": "low"},
    ],
)
def test_a_wrong_line_of_a_ledger_is_left_out(line: dict, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = {"run": "gone/r1", "experiment": "gone", "status": "finished", **line}
    (root / "ledger.jsonl").write_text(json.dumps(whole) + "\n")
    code, out, lines = _answer(capsys, "ledger", str(root), "--json")
    assert code == 0 and "gone" not in json.loads(out) and EXPERIMENT in json.loads(out)
    assert len(lines) == 1 and "ledger.jsonl" in lines[0] and "gone/r1" in lines[0]
