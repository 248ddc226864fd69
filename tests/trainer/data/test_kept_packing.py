"""A packing is kept beside the corpus, and is the same whether it is kept, made anew or damaged."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from trainer.data import Samples, kept_packing
from trainer.data.kept_packing import FOLDER, kept
from trainer.data.next_fit import next_fit

INPUTS = [np.array([1, 32, 0]), np.array([5, 70, 12]), np.arange(33)]


@pytest.fixture(autouse=True)
def everything_is_worth_it(monkeypatch):
    monkeypatch.setattr(kept_packing, "WORTH_KEEPING", 0)


def compute():
    return np.stack(next_fit(INPUTS[1], INPUTS[2], 32))


def refuse():
    raise AssertionError("it was kept")


def test_it_is_computed_once_and_is_what_was_computed(tmp_path):
    first = kept(tmp_path, INPUTS, compute)
    again = kept(tmp_path, INPUTS, refuse)
    assert np.array_equal(first, compute()) and np.array_equal(again, first) and again.dtype == np.int64
    assert len(list((tmp_path / FOLDER).iterdir())) == 1  # and nothing half written beside it


@pytest.mark.parametrize("which", range(3))
def test_it_depends_on_every_input(tmp_path, which):
    kept(tmp_path, INPUTS, compute)
    others = [given + (number == which) for number, given in enumerate(INPUTS)]
    with pytest.raises(AssertionError, match="it was kept"):
        kept(tmp_path, others, refuse)


@pytest.mark.parametrize("damage", ["empty", "short", "shorter", "flipped", "longer"])
def test_a_damaged_one_is_made_anew(tmp_path, damage):
    kept(tmp_path, INPUTS, compute)
    [file] = (tmp_path / FOLDER).iterdir()
    whole = file.read_bytes()
    flipped = bytes([*whole[:60], whole[60] ^ 4, *whole[61:]])
    of = {"empty": b"", "short": whole[:20], "shorter": whole[:-8], "flipped": flipped, "longer": whole + b"\0" * 8}
    file.write_bytes(of[damage])
    assert np.array_equal(kept(tmp_path, INPUTS, compute), compute())
    assert file.read_bytes() == whole


def test_nothing_is_kept_where_nothing_can_be_written(tmp_path):
    (tmp_path / FOLDER).write_text("in the way")
    assert np.array_equal(kept(tmp_path, INPUTS, compute), compute())
    assert (tmp_path / FOLDER).read_text() == "in the way"


def test_what_takes_no_time_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_packing, "WORTH_KEEPING", 100)
    kept(tmp_path, INPUTS, compute)
    assert not list(tmp_path.iterdir())


def test_samples_are_the_same_from_a_kept_packing(config, prepared, tmp_path):
    encoder = {"objective": {"name": "masked_lm"}, "model": config.model.model_dump() | {"family": "encoder"}}
    masked = type(config).model_validate(config.model_dump() | encoder)
    own = replace(prepared, folder=tmp_path / "own")
    shutil.copytree(prepared.folder, own.folder)
    fresh = Samples(own, masked, "train").batch(3, 20)
    assert (own.folder / FOLDER).is_dir()
    again = Samples(own, masked, "train").batch(3, 20)
    assert all(np.array_equal(fresh[name], again[name]) for name in fresh)
