"""What runs and publications write fits the packaged schemas, judged by the library jsonschema."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from run_folders import make_run

from trainer.cli.main import main
from trainer.config import Config
from trainer.meter import Gpu, costs
from trainer.meter.instrument import NotMeasured
from trainer.publish.json_schemas import VERSIONS, derived, schema_text, text_of
from trainer.report import append_ledger, reserve_ledger, write_report

GOLDEN = Path(__file__).parents[2] / "golden" / "run_folders"


def validator(name: str) -> Draft202012Validator:
    schema = json.loads(schema_text(name))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", VERSIONS)
def test_the_packaged_file_is_what_the_types_say(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert schema_text(name) == text_of(derived(name)), "write it again with json_schemas.text_of(derived(name))"
    assert main(["schema", name]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == f"urn:isoflop:{name}:{VERSIONS[name]}"


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder_decoder"])
def test_what_0_1_0_wrote_fits(family: str) -> None:
    for state in ("finished", "interrupted"):
        run = GOLDEN / "golden" / f"{family}-{state}"
        files = (("event", "events.jsonl"), ("metrics", "metrics.jsonl"), ("energy", "energy-host.jsonl"))
        for name, file in files:
            check = validator(name)
            for line in lines(run / file):
                check.validate(line)
        for file in ("pricetag.json", "plan.json"):
            if (run / file).is_file():
                validator("pricetag").validate(json.loads((run / file).read_text()))
    for line in lines(GOLDEN / "ledger.jsonl"):
        validator("ledger").validate(line)


def test_what_this_version_writes_fits(tmp_path: Path, published: Path) -> None:
    run = make_run(tmp_path)
    reserve_ledger(run)
    first = lines(tmp_path / "ledger.jsonl")
    append_ledger(run)
    write_report(run)
    tag = json.loads((run / "pricetag.json").read_text())
    assert tag["version"] == VERSIONS["pricetag"]
    validator("pricetag").validate(tag)
    for line in [*first, *lines(tmp_path / "ledger.jsonl")]:
        validator("ledger").validate(line)
    validator("published").validate(json.loads((published / "published.json").read_text()))


def test_what_a_command_took_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that rested, and used a second device, whose lines are in the same file."""
    config = Config.model_validate({"run": {"root": str(tmp_path), "project": "paper"}, "site": {"pue": 1.2}})
    monkeypatch.setattr(costs, "gpu_instrument", lambda gpu: NotMeasured("GPU-a", "gpu", "no driver"))

    def work() -> int:
        costs.into_root(config)
        costs.uses(Gpu("a"))
        with costs.handed_over():
            pass
        with costs.phase("preparation"):
            return 0

    costs.metered("data", ["data"], work)
    [file] = tmp_path.glob("costs/*.jsonl")
    found, check = lines(file), validator("cost")
    assert [line["kind"] for line in found].count("open") == 2 and found[-1]["kind"] == "end"
    assert any(line.get("paused") for line in found)
    for line in found:
        check.validate(line)
        assert validator("energy").is_valid(line) == (line["kind"] != "end")
    assert found[0]["stated"] == {"site": {"pue": 1.2}} and found[0]["project"] == "paper"
    for number, key in ((0, "devices"), (0, "cost"), (1, "values"), (-1, "components")):
        assert not check.is_valid({name: value for name, value in found[number].items() if name != key})


def test_what_is_of_another_kind_does_not_fit(tmp_path: Path, published: Path) -> None:
    run = make_run(tmp_path)
    append_ledger(run)
    write_report(run)
    whole = {
        "pricetag": json.loads((run / "pricetag.json").read_text()),
        "ledger": lines(tmp_path / "ledger.jsonl")[0],
        "event": lines(run / "events.jsonl")[0],
        "metrics": lines(run / "metrics.jsonl")[0],
        "energy": lines(GOLDEN / "golden" / "decoder-finished" / "energy-host.jsonl")[0],
        "published": json.loads((published / "published.json").read_text()),
    }
    broken = {
        "pricetag": [("version", 2), ("rows", [{"key": "x"}]), ("planned", None)],
        "ledger": [("run", None), ("steps", "20"), ("measured", 3)],
        "event": [("step", "first"), ("time", None), ("name", 1)],
        "metrics": [("kind", "steps"), ("seconds", 1.0), ("step", None)],
        "energy": [("kind", "reading"), ("values", "1"), ("devices", [{"key": "x"}]), ("monotonic", None)],
        "published": [("version", 2), ("runs", [{}]), ("fields", [{"form": "eu"}]), ("claim", None)],
    }
    for name, changes in broken.items():
        for key, value in changes:
            document = copy.deepcopy(whole[name]) | {key: value}
            assert not validator(name).is_valid(document), (name, key)
