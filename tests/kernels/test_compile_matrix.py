"""Every entry of the tile table compiles for its GPU without a spill, within shared memory, and with the matrix
instructions of the chip. The default tier compiles the entries that pre-training runs most (head 64, causal and packed,
bf16) and all kernels without a tile; the slow tier compiles every entry under every feature set of its kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernels.configs import ORDERED, SHARED_MEMORY
from kernels.offline import (
    ATTENTION_KERNELS,
    FEATURES_OF_KIND,
    MATRIX_INSTRUCTION,
    Resources,
    features_of,
    kernels_of,
)
from kernels.table import ATTENTION

ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "sm_120", "gfx942", "gfx950")
DTYPES = {kind: "float32" if kind == "float" else "bfloat16" for kind in FEATURES_OF_KIND}
ROOT = Path(__file__).resolve().parents[2]


def compiled(jobs: list[dict[str, Any]], cache: Path) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    lines = "".join(json.dumps(job) + "\n" for job in jobs)
    worker = [sys.executable, str(Path(__file__).with_name("compile_worker.py"))]
    done = subprocess.run(worker, input=lines, capture_output=True, text=True, env=environment, check=False)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(jobs), done.stderr[-2000:]
    return results


# float32 on NVIDIA: (kernel, head) -> bytes that spill at most, whatever the tile.
SPILLS = {("forward", 256): 32, ("dq", 256): 208, ("dkdv", 256): 224}
# Half precision: (GPU, kernel, head, features) -> bytes that spill at most, known and to be mended.
KNOWN = {
    **dict.fromkeys([("sm_90", "dq", 256, name) for name in FEATURES_OF_KIND["t5"]], 112),
    ("sm_90", "dkdv", 64, "packed groups"): 24,
    ("sm_90", "dense", 64, "dense bias and dropout"): 40,
}


def known(job: dict[str, Any]) -> int:
    return KNOWN.get((job["arch"], job["kernel"], job["head"], job["features"]), 0)


def complaints(results: list[dict[str, Any]]) -> list[str]:
    found = []
    for result in results:
        job = result.pop("job")
        if "error" in result:
            found.append(f"{job}: {result['error']}")
            continue
        needs = Resources(**result)
        if "tile" not in job:
            if needs.spill or needs.shared > SHARED_MEMORY[job["arch"]]:
                found.append(f"{job}: {needs}")
        elif job["kind"] == "float" and job["arch"].startswith("sm_"):
            allowed = SPILLS.get((job["kernel"], job["head"]), 0)
            if needs.spill > allowed or needs.shared > SHARED_MEMORY[job["arch"]] or not needs.any_matrix:
                found.append(f"{job}: {needs}")
        elif not replace(needs, spill=max(0, needs.spill - known(job))).fits(
            job["arch"], job["kind"] in ("plain", "segments", "t5") and job["head"] <= 128
        ):
            found.append(f"{job}: {needs}")
    return found


def job(arch: str, kernel: str, head: int, kind: str, features: str, entry: str | None = None) -> dict[str, Any]:
    return {
        "arch": arch, "kernel": kernel, "head": head, "kind": kind, "dtype": DTYPES[kind], "features": features,
        "tile": ATTENTION[arch][entry or kernel, head, kind],
    }  # fmt: skip


def test_table_has_every_entry() -> None:
    wanted = {
        (k, h, kind)
        for k in ATTENTION_KERNELS
        for h in (64, 128, 256)
        for kind in FEATURES_OF_KIND
        if kernels_of(k, kind)
    }
    assert set(ATTENTION) == set(MATRIX_INSTRUCTION) and all(set(column) == wanted for column in ATTENTION.values())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_most_used_entries_compile(arch: str, tmp_path: Path) -> None:
    jobs = [job(arch, kernel, 64, "plain", "causal") for kernel in ("forward", "dq", "dkdv")]
    jobs += [job(arch, "forward", 64, "segments", "packed"), job(arch, "bias", 64, "t5", "packed T5")]
    if arch == "sm_90":  # far and near tiles of one kernel share its registers
        jobs += [job(arch, "forward", 128, "t5", "T5"), job(arch, "dkdv", 64, "t5", "packed T5")]
    assert not complaints(compiled(jobs, tmp_path))


@pytest.mark.parametrize("arch", ("sm_90", "gfx942"))
def test_kernels_without_a_tile_compile(arch: str, tmp_path: Path) -> None:
    names = ("delta", "loss", "norm forward", "norm backward", "rotary")
    names += tuple(f"gated{way} {kind}" for way in ("", " backward") for kind in range(3))
    assert not complaints(compiled([{"kernel": name, "arch": arch} for name in names], tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("entry", ATTENTION_KERNELS)
@pytest.mark.parametrize("arch", [*ARCHITECTURES, "sm_86"])
def test_every_entry_compiles(arch: str, entry: str, tmp_path: Path) -> None:
    jobs = [
        job(arch, kernel, head, kind, features, entry)
        for (name, head, kind) in ATTENTION[arch]
        for kernel in kernels_of(entry, kind)
        for features in features_of(kernel, kind)
        if name == entry
    ]
    assert not complaints(compiled(jobs, tmp_path))


def ordered_jobs(arch: str) -> list[dict[str, Any]]:
    return [
        {"arch": arch, "kernel": "ordered", "head": head, "kind": kind, "dtype": "bfloat16", "features": features,
         "tile": tile}
        for (head, kind), tile in ORDERED[arch].items()
        for features in features_of("ordered", kind)
    ]  # fmt: skip


def test_the_ordered_backward_pass_compiles(tmp_path: Path) -> None:
    assert not complaints(compiled(ordered_jobs("sm_90")[:1], tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ORDERED)
def test_every_ordered_entry_compiles(arch: str, tmp_path: Path) -> None:
    assert not complaints(compiled(ordered_jobs(arch), tmp_path))


@pytest.mark.parametrize("features", ["packed T5", "dropout", "softcap and dense bias"])
def test_lengths_heads_and_batch_of_one_compile(features: str, tmp_path: Path) -> None:
    """Triton makes a constant of every integer argument that is 1, and so other code."""
    kind = "t5" if features == "packed T5" else "heavy"
    jobs = [job("sm_90", kernel, 64, kind, features) | {"ones": True} for kernel in ("forward", "dq", "dkdv")]
    bias = {"packed T5": "bias", "softcap and dense bias": "dense"}.get(features)
    if bias:
        jobs.append(job("sm_90", bias, 64, kind, features, "bias") | {"ones": True})
    errors = [result["error"] for result in compiled(jobs, tmp_path) if "error" in result]
    assert not errors


def test_no_kernel_is_compiled_again_for_another_length() -> None:
    """Five batches, of lengths from 1 to 64: a code for each bias, and for segments shared by the batch or not."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    worker = [sys.executable, str(Path(__file__).with_name("specialization_worker.py"))]
    environment |= {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(worker, capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout) == {
        "attention_forward": 4, "attention_dq": 4, "attention_dkdv": 4, "attention_delta": 1,
        "attention_table_gradient": 2,
    }  # fmt: skip


def test_the_check_sees_a_spill(tmp_path: Path) -> None:
    """A tile that is known to be too large must be refused, or the checks above show nothing."""
    wrong = job("sm_80", "dkdv", 128, "plain", "causal") | {"tile": (128, 128, 4, 3)}
    assert complaints(compiled([wrong], tmp_path))
