"""Sequences of 65,536 tokens on four ranks: what attention keeps for its backward pass, and a whole step."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from trainer.trackers import read_metrics

LENGTH, RANKS = 65_536, 4

# Bytes that attention keeps on a rank, of whole sequences and of either way to share them.
KEPT = """
import json, sys, torch, torch.distributed as dist
from torch.autograd.graph import saved_tensors_hooks
from trainer.models.sequence import WHOLE, Ring, Ulysses
torch.set_num_threads(1)
dist.init_process_group("gloo")
length, rank, ranks, group = int(sys.argv[1]), dist.get_rank(), dist.get_world_size(), dist.group.WORLD
segments = (torch.arange(length, dtype=torch.int32) // 2048)[None]

def kept(sequences, backend, **mask):
    tensors = [torch.randn(1, length // sequences.slices.ranks, 4, 16, requires_grad=True) for _ in range(3)]
    found = {}
    def note(tensor):
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor
    made = sequences.mask(length, length, device="cpu", causal=True, backend=backend, **mask)
    with saved_tensors_hooks(note, lambda tensor: tensor):
        sequences.attend(*tensors, made, scale=0.25, backend=backend)
    return sum(found.values())

told = {
    "ulysses": kept(Ulysses(group, rank, ranks), "sdpa"),
    "ring": kept(Ring(group, rank, ranks, zigzag=True), "reference", segments=segments),
}
if rank == 0:
    print(json.dumps({"whole": kept(WHOLE, "sdpa"), **told}), flush=True)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_a_rank_keeps_its_share_of_attention() -> None:
    port, processes = str(free_port()), []
    for rank in range(RANKS):
        place = {"RANK": str(rank), "WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        program = [sys.executable, "-c", KEPT, str(LENGTH)]
        processes.append(subprocess.Popen(program, env={**os.environ, **place}, stdout=-1, text=True))
    answers = [process.communicate(timeout=1200)[0] for process in processes]
    kept = json.loads(answers[0])
    assert kept["whole"] >= 4 * LENGTH * 4 * 16 * 4  # queries, keys, values and the output in fp32
    for kind in ("ulysses", "ring"):
        assert kept[kind] <= 0.27 * kept["whole"], kept


@pytest.mark.slow
def test_a_step_of_packed_documents(isoflop: Any, cache: Path) -> None:
    """In 12 GB over all ranks; the documents are those of Python's standard library, a few thousand tokens each."""
    text = Path(sysconfig.get_path("stdlib"))
    words = ["data=text", f"data.path={text}/c*.py", f"data.sequence_length={LENGTH}", f"run.cache={cache}"]
    words += ["tokenizer.vocabulary=512", "model=llama-mini", "model.depth=2", "model.width=64", "model.heads=4"]
    words += ["optim.batch_size=1", "budget.steps=1", "evaluation.every_steps=null", "evaluation.samples=1"]
    words += ["engine.precision=fp32", "engine.threads=1", "kernels.loss=chunked", "faults.hang_seconds=600"]
    words += [f"launch.processes={RANKS}", f"engine.sequence_parallel={RANKS}", "engine.sequence_kind=ring"]
    done = isoflop("train", *words, timeout=1800)
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.splitlines()[0])
    (step,) = (record for record in read_metrics(run) if record["kind"] == "step")
    assert step["tokens"] == LENGTH and step["padding"] == 0
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # of one process
    assert RANKS * largest < 12 * 2**30, largest
