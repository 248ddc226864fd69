"""The table of models: every preset is of one family, and the documentation holds what the command prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.cli.main import main
from trainer.compose import CONF
from trainer.descriptions.models import families_of, model_families
from trainer.descriptions.objectives import OBJECTIVES
from trainer.hub import FAMILIES
from trainer.hub.heads import CLASSIFIERS, SPANS, TOKEN_CLASSIFIERS
from trainer.hub.model_table import format_rows, model_rows

DOCS = Path(__file__).resolve().parents[3] / "docs" / "models.md"
PRESETS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


@pytest.fixture(scope="module")
def rows():
    return model_rows()


def test_every_preset_is_of_one_family():
    claimed = {name: [family.name for family in families_of(name)] for name in PRESETS}
    assert {name: families for name, families in claimed.items() if len(families) != 1} == {}
    assert [family.name for family in model_families() if not any(map(family.has, PRESETS))] == []
    names = [family.name for family in model_families()]
    assert len(names) == len(set(names))


def test_objectives_are_what_the_command_line_takes():
    known = {path.stem for path in (CONF / "objective").glob("*.yaml")} | set(OBJECTIVES)
    for family in model_families():
        assert family.objectives and set(family.objectives) <= known, family.name


def test_rows_hold_every_preset_by_size(rows):
    assert sorted(name for row in rows for name in row.presets) == PRESETS
    for row in rows:
        assert list(row.presets.values()) == sorted(row.presets.values()) and row.paper
    found = {row.family: row for row in rows}
    assert found["BERT"].presets["bert-base"] == 110_106_428 and found["BERT"].kind == "encoders"
    assert found["BERT"].types == ("bert",) and found["BERT"].classes == ("BertForPreTraining",)
    assert found["BERT"].tuned == tuple(heads["bert"][0] for heads in (CLASSIFIERS, TOKEN_CLASSIFIERS, SPANS))
    assert found["XLM"].types == ("xlm",) and found["XLM"].objectives[0] == "tlm"


def test_what_is_said_to_be_checked_is(rows):
    """Types with logits have a tiny model and odd configurations beside this file, and tests that run on all of
    them; every preset is counted in tests/trainer/models/test_counts.py."""
    pytest.importorskip("transformers")
    from odd import CASES
    from tiny import MODELS, T

    tiny = {getattr(T, config)().model_type for _, config, _ in MODELS.values()}
    odd = {getattr(T, config)().model_type for _, config in CASES}
    assert {kind for row in rows for kind in row.types} == set(FAMILIES)
    for row in rows:
        assert row.checked[0] == "counts" and ("logits" in row.checked) == bool(row.types)
        assert set(row.types) <= tiny & odd, row.family


def test_the_documentation_is_what_the_command_prints(rows, capsys):
    """To renew it: the output of `isoflop models` between the two comments of docs/models.md."""
    text = DOCS.read_text()
    _, begin, rest = text.partition("<!-- isoflop models -->\n")
    table, end, _ = rest.partition("\n<!-- end -->")
    assert begin and end and table.strip() == format_rows(rows)
    assert main(["models", "--json"]) == 0
    assert [row["family"] for row in json.loads(capsys.readouterr().out)] == [row.family for row in rows]


def test_bad_words(capsys):
    assert main(["models", "bert-base"]) == 2
    assert "isoflop model model=<preset>" in capsys.readouterr().err
    assert main(["models", "--list"]) == 2
