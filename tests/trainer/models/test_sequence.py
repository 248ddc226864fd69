"""Models whose sequences are shared by ranks find the loss and the gradients of whole sequences: every kind of bias and
mask, packed and padded rows, dropout, three families, both ways to share."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.ports import free_port
from trainer.models.sequence import Slices

WORKER = "tests.trainer.models.sequence_ranks"


def start(ranks: int) -> str:
    """What the first of so many ranks prints."""
    port = str(free_port())
    processes = []
    for rank in range(ranks):
        place = {"RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, **place}
        processes.append(subprocess.Popen([sys.executable, "-m", WORKER], env=environment, stdout=-1, text=True))
    answers = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * ranks
    return answers[0]


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_shared_sequences_are_whole_ones(ranks: int) -> None:
    found = json.loads(start(ranks))
    assert len(found) == 19
    for name, differences in found.items():
        loss, gradient = (1e-3, 2e-2) if name.endswith("bf16") else (1e-6, 1e-5)
        assert differences["loss"] < loss and differences["gradient"] < gradient, (name, differences)


@pytest.mark.parametrize("zigzag", [False, True])
@pytest.mark.parametrize("length", [24, 17])
def test_every_position_is_held_once(zigzag: bool, length: int) -> None:
    tokens = np.arange(2 * length).reshape(2, length)
    batch = {"tokens": tokens, "segments": np.zeros_like(tokens), "targets": tokens, "samples": np.array([4, 5])}
    parts = [Slices(3, rank, zigzag).batch(batch) for rank in range(3)]
    chunks = Slices(3, 0, zigzag).chunks
    whole = -(-length // chunks) * chunks
    found = np.concatenate([part["targets"] for part in parts], axis=1)
    assert found.shape == (2, whole)
    assert sorted(found[found != -100].tolist()) == sorted(tokens.ravel().tolist())
    for rank, part in enumerate(parts):
        assert part["segments"].shape == (2, whole) and (part["segments"][:, length:] == -1).all()
        assert part["samples"].tolist() == [4, 5]
        held = Slices(3, rank, zigzag).stretches(whole // 3)
        places = np.concatenate([np.arange(first, first + size) for first, size in held])
        assert (part["targets"][0] == np.where(places < length, places, -100)).all()


def test_zigzag_gives_every_rank_as_many_pairs() -> None:
    counts = []
    for rank in range(4):
        held = Slices(4, rank, zigzag=True).stretches(16)
        counts.append(sum(place + 1 for first, size in held for place in range(first, first + size)))
    assert len(set(counts)) == 1
