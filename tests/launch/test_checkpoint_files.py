"""Files and bytes of a checkpoint by number of ranks: the figures that docs/launch.md works out for 1,024 nodes."""

from __future__ import annotations

import pytest

from trainer.books import parameters
from trainer.compose import compose

RANKS = 8


@pytest.mark.slow
def test_eight_ranks_write_two_files_each_and_twelve_bytes_a_parameter(isoflop, tiny: list[str]) -> None:  # type: ignore[no-untyped-def]
    words = [*tiny, "optim.batch_size=16", "budget.steps=1", "evaluation.samples=16", "engine.zero_stage=1"]
    done = isoflop("train", *words, "run.id=eight", f"launch.processes={RANKS}")
    assert done.returncode == 0, done.stderr
    run = isoflop.folder / "runs" / "llama-mini-causal-text" / "eight"
    files = sorted((run / "checkpoints" / "step-00000001").iterdir())
    kinds = {kind: [file for file in files if file.name.startswith(kind)] for kind in ("model", "moments", "manifest")}
    assert {kind: len(found) for kind, found in kinds.items()} == {"model": RANKS, "moments": RANKS, "manifest": 1}

    total = parameters(compose(words)).total
    tensors = sum(file.stat().st_size for kind in ("model", "moments") for file in kinds[kind])
    headers = sum(
        8 + int.from_bytes(file.read_bytes()[:8], "little") for kind in ("model", "moments") for file in kinds[kind]
    )
    assert tensors - headers == pytest.approx(12 * total, abs=8 * 4 * RANKS)  # ZeRO pads each rank's share
    # Moments are divided evenly; weights by whole tensors, so that any program can read them.
    sizes = [file.stat().st_size for file in kinds["moments"]]
    assert max(sizes) < 1.5 * min(sizes)
