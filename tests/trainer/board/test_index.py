"""What the index says of runs: as the verbs that read everything say it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.trainer.board.conftest import Written, append_steps, step_record
from trainer.board.board import Asked, Board, opened
from trainer.board.head import labels
from trainer.config import SCIENCE, Config
from trainer.report.ledger_file import read_ledger
from trainer.report.run_data import read_run, state_of
from trainer.utils.errors import UserError

GOLDEN = Path(__file__).parents[2] / "golden" / "run_folders"


def read(root: Path) -> Board:
    board = Board(root)
    while not board.runs or board.unread:
        board.refresh(10)
    return board


def flat(tree: Any, above: str = "") -> dict[str, Any]:
    if isinstance(tree, dict) and tree:
        return {key: value for name, part in tree.items() for key, value in flat(part, f"{above}{name}.").items()}
    return {above[:-1]: tree}


def test_labels_are_those_of_a_yaml_reader() -> None:
    config = Config()
    text = config.model_copy(update={"model": config.model.model_copy(update={"name": "it's: odd"})}).to_yaml()
    found = labels(text)
    expected = {key: value for key, value in flat(yaml.safe_load(text)).items() if key.partition(".")[0] in SCIENCE}
    for key, value in expected.items():
        if isinstance(value, str | int | float | bool):
            assert yaml.safe_load(found[key]) == value or found[key] == value, key
    assert set(expected) - set(found) == set()


def test_of_text_that_is_no_configuration_nothing_is_said() -> None:
    assert labels("\x00\x01: [\n  - - -\n\t:::\nmodel") == {}
    assert labels("model: {name: flow}\n")["model"] == "{name: flow}"


@pytest.mark.parametrize("run", sorted(path.name for path in (GOLDEN / "golden").iterdir()))
def test_state_and_price_are_those_of_status_and_ledger(run: str, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "runs", ignore=shutil.ignore_patterns("*.safetensors"))
    board = read(tmp_path / "runs")
    one = next(found for found in board.runs if found.name == f"golden/{run}")
    assert one.state == state_of(read_run(tmp_path / "runs" / "golden" / run))
    line = read_ledger(tmp_path / "runs")[one.name]
    for key in ("data.tokens", "flop.total", "cost.amount"):
        group, name = key.split(".")
        assert one.spent.get(key) == line["measured"][group].get(name)


def test_what_is_spent_so_far_is_what_the_newest_record_says(written: Written, tmp_path: Path) -> None:
    run = written("exp/a", [3.0, 2.5])
    board = read(tmp_path)
    assert board.runs[0].spent["energy.kwh"] == pytest.approx(0.004)
    assert board.runs[0].spent["carbon.kgco2e"] == pytest.approx(0.0014)
    before = board.version
    append_steps(run, [2.0], begin=3)
    board.refresh(1)
    changed = board.index(before)["runs"]
    assert [one.name for one in changed] == ["exp/a"] and changed[0].loss == 2.0
    assert board.index(board.version)["runs"] == []


def test_a_run_that_waits_is_paused_and_one_whose_folder_is_gone_stays(written: Written, tmp_path: Path) -> None:
    waiting = written("exp/a", [3.0], events=[("start", 0, ""), ("pause", 1, "waits for the night")])
    written("exp/b", [3.0, 2.0], events=[("start", 0, ""), ("finished", 2, "finished")])
    line = {"run": "exp/gone", "status": "failed", "steps": 7, "measured": {"energy": {"kwh": 1.5}}, "currency": None}
    (tmp_path / "ledger.jsonl").write_text('{"torn\n' + json.dumps(line) + "\n")
    from trainer.run_folder import RunFolder

    with RunFolder(waiting).lock():
        states = {run.name: run.state for run in read(tmp_path).runs}
    # Another process's lock is what counts; this one's own is seen as well.
    assert states == {"exp/a": "paused", "exp/b": "finished", "exp/gone": "failed"}
    gone = next(run for run in read(tmp_path).runs if run.name == "exp/gone")
    assert gone.spent == {"energy.kwh": 1.5} and gone.step == 7


def test_filters_are_the_keys_by_which_runs_differ(written: Written, tmp_path: Path) -> None:
    for number, (model, lr) in enumerate([("gpt-mini", 0.001), ("bert-mini", 0.001), ("bert-mini", 0.01)]):
        written(f"exp/{number}", [3.0], model=model, lr=lr)
    filters = read(tmp_path).index(0)["filters"]
    assert filters == {"model.name": ["bert-mini", "gpt-mini"], "optim.lr": ["0.001", "0.01"]}


def test_an_index_that_is_read_in_parts_comes_to_an_end_with_every_run(written: Written, tmp_path: Path) -> None:
    for number in range(7):
        written(f"exp/{number}", [3.0], seed=number)
    board = Board(tmp_path)
    board.refresh(0.0)
    assert board.unread == 6
    told: dict[str, bool] = {}
    since = 0
    while board.unread:
        board.refresh(0.0)
        found = board.index(since)
        since = found["version"]
        told |= {run.name: run.step is not None for run in found["runs"]}
    assert len(told) == 7 and all(told.values())


def test_a_view_of_many_runs_has_few_points_of_each_and_a_zoom_has_more(written: Written, tmp_path: Path) -> None:
    run, record = written("exp/a", []), step_record(1, 0.0).to_json()
    with open(run / "metrics.jsonl", "w") as file:
        for step in range(1, 30_001):
            file.write(
                json.dumps(record | {"step": step, "tokens": 1000 * step, "loss": float((step - 1) % 97)}) + "\n"
            )
    board = read(tmp_path)
    all_of_it = board.curves(Asked([0]), reading=60)[0]
    assert all_of_it["whole"] and 1000 < len(all_of_it["x"]) <= 2000
    assert len(board.curves(Asked([0], of=1000))[0]["x"]) <= 60
    part = board.curves(Asked([0], low=10_000_000.0, high=10_900_000.0))[0]
    assert part["x"] == [1000 * step for step in range(9999, 10_902)]
    assert part["y"] == [(step - 1) % 97 for step in range(9999, 10_902)]


def test_memory_is_bounded(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        written(f"exp/{name}", [1.0] * 50)
    board = read(tmp_path)
    monkeypatch.setattr("trainer.board.board.MOST_BYTES", 3000)
    assert all(curve["whole"] for curve in board.curves(Asked([0, 1, 2])))
    assert [run.curve is None for run in board.runs] == [True, True, False]


def test_foreign_files_in_a_root_are_no_runs(written: Written, tmp_path: Path) -> None:
    run = written("exp/a", [3.0])
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "exp" / "data.bin").write_bytes(b"\x00" * 100)
    (run / "config.yaml").write_bytes(b"\xff\xfe\x00")
    (run / "plan.json").write_text("[1")
    (run / "events.jsonl").write_text('{"name": 3}\n"start"\n')
    board = read(tmp_path)
    assert [(one.name, one.state) for one in board.runs] == [("exp/a", "not started")]
    assert board.details(0) is not None


@pytest.mark.parametrize(
    ("make", "says"), [("missing", "no such folder"), ("file", "a file given"), ("empty", "no runs")]
)
def test_what_is_no_root_is_refused(make: str, says: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    if make == "file":
        root.write_text("x")
    elif make == "empty":
        root.mkdir()
    with pytest.raises(UserError, match=says):
        opened(root)
