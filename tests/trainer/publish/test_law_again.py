"""A published law is fitted again from the published runs; constants that these do not give are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finished_runs import trained

from trainer.books import parameters
from trainer.cli.main import main
from trainer.config import load
from trainer.publish import publish, verify
from trainer.publish.law_again import law_again
from trainer.publish.manifest import RAW
from trainer.publish.sources import LAW
from trainer.scaling.fit import law_file


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve runs on a law of Chinchilla's form, and what `isoflop fit` wrote beside them."""
    root = tmp_path_factory.mktemp("law") / "runs"
    for width in (16, 32, 64, 128):
        for batch in (2, 8, 32):
            run = trained(root, width, batch, 1.0, name=f"w{width}-b{batch}", run={"experiment": "ladder"})
            config = load(run / "config.yaml")
            tokens = config.curriculum.tokens(20)
            loss = 1.5 + 40.0 / parameters(config).total ** 0.35 + 30.0 / tokens**0.3
            text = (run / "metrics.jsonl").read_text().replace('"loss": 1.0,', f'"loss": {loss},')
            (run / "metrics.jsonl").write_text(text)
    assert main(["fit", str(root), "replicates=20", "form=chinchilla"]) == 0
    return root


def test_the_law_is_fitted_again_and_printed(fitted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "paper"
    publish(fitted, folder, {})
    [note] = verify(folder).notes
    assert note == f"{LAW}: fitted again from 12 runs, chinchilla: the same constants"
    table = (folder / "tables" / "law.tex").read_text()
    constants = json.loads((fitted / LAW).read_text())["constants"]
    for name, one in constants.items():
        assert f"{name} & {one['value']:.4g} & " in table


def test_another_constant_is_named(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the hash inside of law.json was made to fit."""
    folder = tmp_path / "paper"
    publish(fitted, folder, {})
    path = folder / RAW / LAW
    facts = json.loads(path.read_text())
    facts["members"][0]["values"][3] *= 1.001
    facts["hash"] = law_file._hash(facts)
    path.write_text(json.dumps(facts, indent=1))
    wrong, notes = law_again(folder / RAW)
    assert notes == [] and len(wrong) == 1 and "chinchilla, constant 4" in wrong[0]
