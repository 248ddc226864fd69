"""Run folders that 0.1.0 left: what finished can be read, what was interrupted goes on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.golden import folders
from tests.golden.curves import FAMILIES, STEPS, curve, difference, of_folders
from tests.golden.files import read_lines
from tests.golden.process import Commands

QUICK = "decoder"  # the family that is tested in the default tier; the others are slow
EACH = [family if family == QUICK else pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES]


@pytest.fixture
def working_folder(tmp_path: Path) -> Path:
    folders.place(tmp_path)
    return tmp_path


CLOSE = 1e-5  # relative: 0.1.0, which began these runs, added RMSNorm's sums in another order


def goes_on(commands: Commands, folder: Path, family: str, *layout: str) -> None:
    """Resume the interrupted run of a family to its end, in whatever layout, and compare it with the golden curve."""
    run = folders.run_of(folder, family, "interrupted")
    saved = next((run / "checkpoints").glob("step-*")).name
    commands.succeed(folder, "train", f"resume={run}", *layout)
    events = read_lines(run / "events.jsonl")
    assert any(event["name"] == "resume" and saved in event["text"] for event in events), events
    assert events[-1]["name"] == "finished"
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"step-{STEPS:08d}"]
    found, wanted = curve(run), of_folders(family)
    assert len(found["loss"]) == STEPS
    for name in ("loss", "grad_norm"):
        told = difference(found[name], wanted[name], CLOSE)
        assert told is None, f"{family}, {name}: {told}"
    assert difference(found["held_out"][-1:], wanted["held_out"][-1:], CLOSE) is None


@pytest.mark.parametrize("family", EACH)
def test_the_interrupted_run_goes_on_as_if_it_had_not_been(
    family: str, working_folder: Path, golden_commands: Commands
) -> None:
    goes_on(golden_commands, working_folder, family)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_interrupted_run_goes_on_with_two_ranks_at_zero_3(
    family: str, working_folder: Path, golden_commands: Commands
) -> None:
    layout = ("launch.processes=2", "engine.zero_stage=3")
    goes_on(golden_commands, working_folder, family, *layout)


@pytest.mark.slow
def test_the_interrupted_run_goes_on_where_it_is_carried_to(
    working_folder: Path, tmp_path_factory: pytest.TempPathFactory, golden_commands: Commands
) -> None:
    """Another folder for runs, text and cache; the tokenizer is gone, and the run's own copy is read."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(working_folder / "runs", elsewhere / "runs")
    shutil.copytree(working_folder / "corpus", elsewhere / "texts")
    goes_on(golden_commands, elsewhere, "encoder_decoder", "data.path=[texts]", "run.cache=other")


@pytest.mark.parametrize("family", EACH)
def test_the_finished_run_scores_what_it_scored_at_its_end(
    family: str, working_folder: Path, golden_commands: Commands
) -> None:
    run = folders.run_of(working_folder, family, "finished")
    wanted = curve(run)["held_out"][-1]
    found = json.loads(golden_commands.succeed(working_folder, "eval", str(run), "--json"))
    assert found["step"] == STEPS
    assert found["loss"] == pytest.approx(wanted, rel=CLOSE)
    assert wanted == pytest.approx(of_folders(family)["held_out"][-1], rel=CLOSE)


@pytest.mark.parametrize("family", EACH)
def test_the_finished_run_writes_what_it_wrote(family: str, working_folder: Path, golden_commands: Commands) -> None:
    found = folders.generated(golden_commands, working_folder, family)
    assert found == folders.golden()[f"generate {family}"]


def facts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value of a JSON value, rows by their keys."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from facts(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from facts(inner, f"{path}[{inner.get('key', number) if isinstance(inner, dict) else number}]")
    else:
        yield path, value


@pytest.mark.parametrize("family", EACH)
def test_the_finished_run_reports_the_price_it_had(
    family: str, working_folder: Path, golden_commands: Commands
) -> None:
    run = folders.run_of(working_folder, family, "finished")
    kept = {name: (run / name).read_text() for name in ("pricetag.json", "card.md")}
    for name in kept:
        (run / name).unlink()
    golden_commands.succeed(working_folder, "report", str(run))
    told, before = (
        dict(facts(json.loads(text))) for text in ((run / "pricetag.json").read_text(), kept["pricetag.json"])
    )
    assert {key: told.get(key) for key in before} == before  # there may be more by now
    table = re.compile(r"```.*?```", re.DOTALL)
    assert table.sub("", (run / "card.md").read_text()) == table.sub("", kept["card.md"])
    assert (run / "report.html").read_text().rstrip().endswith("</html>")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_finished_run_trains_no_further(family: str, working_folder: Path, golden_commands: Commands) -> None:
    run = folders.run_of(working_folder, family, "finished")
    before = curve(run)
    weights = next(run.glob("checkpoints/*/model.safetensors")).read_bytes()
    golden_commands.succeed(working_folder, "train", f"resume={run}")
    after = curve(run)
    assert after["loss"] == before["loss"]
    assert next(run.glob("checkpoints/*/model.safetensors")).read_bytes() == weights
    assert [event["name"] for event in read_lines(run / "events.jsonl")][-2:] == folders.golden()["resume of finished"]


def test_the_ledger_tells_what_all_runs_cost(working_folder: Path, golden_commands: Commands) -> None:
    """From ledger.jsonl, and the same from the folders alone."""
    wanted = folders.golden()["ledger"]
    told = folders.ledger(golden_commands, working_folder)
    assert {name: told.get(name) for name in wanted} == wanted  # beside the projects
    (working_folder / "runs" / "ledger.jsonl").unlink()
    assert folders.ledger(golden_commands, working_folder) == told


@pytest.mark.slow
def test_the_comparison_names_what_differs(working_folder: Path, golden_commands: Commands) -> None:
    found: dict[str, Any] = folders.compared(golden_commands, working_folder)
    assert found == folders.golden()["compare"]


def test_the_folders_tell_nothing_of_where_they_were_made() -> None:
    """Relative paths and neutral names only: they are what anybody's folders would be."""
    for file in folders.RUNS.rglob("*"):
        if file.suffix in (".json", ".jsonl", ".yaml", ".md"):
            content = file.read_text()
            assert not any(trace in content for trace in ("/tmp", "/root", "/home", "/work")), file
            assert file.stat().st_size < 500_000
