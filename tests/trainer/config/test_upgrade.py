"""A configuration of an earlier version means what it meant, and a key that is new changes no identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.cli.main import main
from trainer.compose import change, compose
from trainer.config import Config, load, upgrade
from trainer.utils.errors import UserError
from trainer.utils.schema import Section, identity, key


class Part(Section):
    weight: float = key(1.0, "known from the beginning")
    shuffle: bool = key(True, "newer; runs from before it did not", introduced=False)


class Added(Section):
    rate: float = key(0.1, "newer, as the whole group is", introduced=0.0)


class Whole(Section):
    width: int = key(8, "known from the beginning")
    drop: float = key(0.1, "newer; its default has moved since", introduced=0.0)
    part: Part = Part()
    parts: tuple[Part, ...] = key((), "a list of sections")
    named: dict[str, Part] = key({}, "a table of sections")
    added: Added = Added()


OLD = {"width": 8, "part": {"weight": 2.0}, "parts": [{"weight": 3.0}], "named": {"a": {"weight": 4.0}}}


def upgraded(plain: dict[str, Any]) -> Whole:
    read = upgrade.upgraded(plain, Whole)
    return Whole.model_validate({**read, "parts": tuple(map(Part.model_validate, read["parts"]))})


def test_keys_that_did_not_exist_get_the_value_they_were_introduced_with() -> None:
    whole = upgraded(OLD)
    assert (whole.drop, whole.added.rate) == (0.0, 0.0)
    assert not (whole.part.shuffle or whole.parts[0].shuffle or whole.named["a"].shuffle)
    assert upgraded({**OLD, "drop": 0.3, "part": {"shuffle": True}}).model_dump() == {
        **whole.model_dump(),
        "drop": 0.3,
        "part": {"weight": 1.0, "shuffle": True},
    }


def test_the_identity_leaves_them_out_while_they_have_that_value() -> None:
    assert identity(upgraded(OLD)) == OLD
    for moved in ({"drop": 0.1}, {"added": {"rate": 0.5}}, {"parts": [{"weight": 3.0, "shuffle": True}]}):
        assert identity(upgraded({**OLD, **moved})) == {**OLD, **moved}


def test_the_science_hash_is_that_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is new in a science group moves no hash until it has another value."""
    config = compose([])
    optim = type(config.optim)
    before = config.science_hash()
    field = optim.model_fields["weight_decay"]
    monkeypatch.setattr(field, "json_schema_extra", {"introduced": config.optim.weight_decay})
    without = config.science_hash()
    assert without != before
    assert compose(["optim.weight_decay=0.5"]).science_hash() not in (before, without)
    assert compose([f"optim.weight_decay={config.optim.weight_decay}"]).science_hash() == without


def test_a_configuration_says_its_format_and_is_read_again(tmp_path: Path) -> None:
    config = compose(["seed=3"])
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    plain = yaml.safe_load(file.read_text())
    assert plain.pop("format") == upgrade.FORMAT == 3
    assert load(file) == config
    file.write_text(yaml.safe_dump(plain))  # as 0.1.0 wrote it
    assert load(file) == config


@pytest.mark.parametrize(
    ("words", "glued", "identity"),  # the identity is 0.1.0's
    [
        (["model=t5-small", "objective=span_corruption"], True, "79818caaf897"),
        (["model=bert-base", "objective=masked_lm"], True, "3aa4ee621e36"),
        (["model=gpt2-124m", "objective=causal"], False, None),
        (["model=bert-base", "objective=bert"], False, None),
        (["model=bert-base", "objective=unilm"], False, None),
        (["model=t5-small", "objective=span_corruption", "data.packing=best_fit"], False, None),
    ],
)
def test_texts_that_lay_end_to_end_still_do(
    tmp_path: Path, words: list[str], glued: bool, identity: str | None
) -> None:
    """Where 0.1.0 packed texts without a boundary its runs go on so, under the identity that they had."""
    now, file = compose(words), tmp_path / "config.yaml"
    for number in (None, 2):
        plain = yaml.safe_load(now.to_yaml()) | {"format": number}
        if number is None:
            del plain["format"]
        file.write_text(yaml.safe_dump(plain))
        before = load(file)
        assert now.data.boundaries and before.data.boundaries is not glued
        assert (before.science_hash() == now.science_hash()) is not glued
        assert identity is None or before.science_hash() == identity
        assert (before == now) is not glued


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format: 4\nseed: 1\n", "format 4 was written by a newer isoflop, this one reads up to 3; upgrade it"),
        ("format: two\n", "format 'two' given, a whole number from 1 to 3 wanted"),
        ("format: true\n", "format True given"),
        ("format: 0\n", "format 0 given"),
        ("- seed\n", "keys with values wanted"),
        ("format: 3\nsed: 1\n", "sed: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        load(file)
    assert str(error.value).startswith(f"{file}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_renamed_key_is_read_by_its_old_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(upgrade.RENAMED, "optim.decay_rate", "optim.weight_decay")
    config = compose(["optim.decay_rate=0.25"])
    assert config.optim.weight_decay == 0.25
    assert "optim.decay_rate is optim.weight_decay now" in capsys.readouterr().err
    plain = yaml.safe_load(config.to_yaml())
    plain["optim"]["decay_rate"] = plain["optim"].pop("weight_decay")
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(plain))
    assert load(file) == config
    assert isinstance(config, Config)


def test_a_key_that_nothing_reads_is_kept_where_it_was_frozen_and_refused_where_it_is_given(tmp_path: Path) -> None:
    """0.1.0 took optim.decay_fraction beside any schedule, and its value is part of the science hash."""
    plain = Config().model_dump(mode="json")
    plain["optim"] |= {"decay_fraction": 0.5}
    del plain["optim"]["name"]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(plain))
    before = load(file)
    assert (before.optim.name, before.optim.decay_fraction) == ("adamw", 0.5)
    assert change(before, ["seed=3"]).optim == before.optim
    assert before.science_hash() != Config().science_hash()
    refused = "^optim.decay_fraction: optim.schedule=linear does not read it; wsd does$"
    with pytest.raises(UserError, match=refused):
        change(before, ["optim.schedule=linear", "optim.decay_fraction=0.3"])
    with pytest.raises(UserError, match=refused):
        compose(["optim.schedule=linear", "optim.decay_fraction=0.3"])
    assert change(before, ["optim.schedule=wsd", "optim.decay_fraction=0.3"]).optim.decay_fraction == 0.3


@pytest.mark.parametrize("verb", ["ledger", "status"])
def test_one_run_of_a_newer_version_is_named_beside_the_others(
    tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"  # which names the project of its runs
    for name, text in (("ours", compose([]).to_yaml()), ("newer", "format: 4\n")):
        (root / "e" / name).mkdir(parents=True)
        (root / "e" / name / "config.yaml").write_text(text)
    assert main([verb, str(root)]) == 0
    said = capsys.readouterr()
    assert "newer isoflop" in said.err and said.err.endswith("e/newer is left out\n")
    assert "e" in said.out and "newer" not in said.out
