"""An experiment keeps its identity: a run of 0.1.0 can be resumed only where its science hash is the same."""

from __future__ import annotations

import pytest

from tests.golden import science
from tests.golden.files import same
from tests.golden.product import compose


def same_hashes(found: dict[str, str], wanted: dict[str, str]) -> None:
    lines, golden = ([f"{name} {value}" for name, value in sorted(facts.items())] for facts in (found, wanted))
    same(lines, golden, "science", science.FILE)


def of_presets() -> dict[str, str]:
    runs = tuple(f"{word} " for word in science.many())
    return {name: value for name, value in science.golden().items() if not name.startswith(runs)}


def test_presets_over_the_defaults() -> None:
    """Their files in place of the defaults'; the next test composes them as a user does."""
    same_hashes(science.preset_hashes(science.assembled), of_presets())


def test_some_presets_as_composed() -> None:
    some = ("model=llama3-8b", "model=xlnet-base", "objective=bart", "data=mixture", "tokenizer=unigram", "task=cola")
    words = dict(science.presets())
    wanted = science.golden()
    same_hashes({name: compose(words[name]).science_hash() for name in some}, {name: wanted[name] for name in some})


@pytest.mark.slow
def test_all_presets_as_composed() -> None:
    same_hashes(science.preset_hashes(compose), of_presets())


@pytest.mark.parametrize(
    "word", [word if word in science.SMALL else pytest.param(word, marks=pytest.mark.slow) for word in science.many()]
)
def test_runs_of_a_ladder_or_grid(word: str) -> None:
    wanted = {name: value for name, value in science.golden().items() if name.startswith(f"{word} ")}
    same_hashes(science.run_hashes(word), wanted)


def test_no_two_models_are_one_experiment() -> None:
    models = {name: value for name, value in science.golden().items() if name.startswith("model=")}
    assert len(set(models.values())) == len(models)
