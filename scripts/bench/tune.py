"""Regenerate the tile table of the attention kernels, kernels/table.py.

    python scripts/bench/tune.py                    # on a GPU: time every candidate that fits, for that GPU's column
    python scripts/bench/tune.py --compile-only     # anywhere: the first candidate that fits, for every architecture

A candidate fits if it compiles without a spill, within shared memory, and with the chip's matrix instructions,
which must not be serialized, under the feature sets of its kind (kernels/offline.py). Candidates stand from the largest
tile down.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TRITON_CACHE_DIR", tempfile.mkdtemp(prefix="tune-"))

import torch  # noqa: E402

from kernels.configs import SHARED_MEMORY, Tile, architecture  # noqa: E402
from kernels.offline import (  # noqa: E402
    ATTENTION_KERNELS,
    FEATURES,
    FEATURES_OF_KIND,
    MATRIX_INSTRUCTION,
    Resources,
    features_of,
    kernels_of,
)
from kernels.table import ATTENTION, ROWS  # noqa: E402

HEADS = (64, 128, 256)
KINDS = tuple(FEATURES_OF_KIND)
DTYPES = {kind: torch.float32 if kind == "float" else torch.bfloat16 for kind in KINDS}
Entry = tuple[int, int, int, int]

_HALF: dict[tuple[str, int], tuple[Entry, ...]] = {
    # At head 64 two programs of 128 x 64 share a multiprocessor of sm_90, one of 128 x 128 stands alone.
    ("forward", 64): (
        (128, 64, 8, 3), (128, 128, 8, 3), (128, 64, 4, 3), (128, 64, 8, 2), (64, 64, 8, 2),
        (64, 64, 4, 3), (64, 64, 4, 2), (64, 32, 4, 2),
    ),
    ("forward", 128): (
        (128, 128, 8, 2), (128, 64, 8, 3), (128, 64, 8, 2), (64, 64, 4, 2), (64, 64, 8, 2), (64, 32, 4, 2),
        (64, 32, 8, 1),
    ),
    ("forward", 256): (
        (128, 64, 8, 2), (64, 64, 8, 2), (64, 32, 8, 2), (64, 64, 8, 1), (64, 32, 8, 1), (64, 32, 4, 1),
        (32, 32, 4, 1),
    ),
    ("dq", 64): (
        (128, 64, 8, 2), (64, 64, 4, 2), (64, 64, 8, 2), (64, 32, 4, 2), (64, 32, 4, 1),
    ),
    ("dq", 128): (
        (128, 64, 8, 2), (64, 64, 8, 2), (64, 64, 8, 1), (64, 32, 8, 2), (64, 32, 4, 1), (64, 32, 8, 1),
        (32, 32, 4, 1),
    ),
    ("dq", 256): (
        (64, 64, 8, 1), (64, 32, 8, 2), (64, 32, 8, 1), (32, 32, 8, 1), (32, 32, 4, 1), (32, 16, 4, 1),
    ),
    ("dkdv", 64): (
        (64, 128, 8, 2), (64, 64, 4, 2), (64, 64, 8, 2), (32, 64, 4, 2), (32, 64, 8, 1), (32, 64, 4, 1),
    ),
    ("dkdv", 128): (
        (64, 128, 8, 2), (64, 64, 8, 2), (32, 128, 8, 2), (32, 64, 8, 2), (64, 64, 8, 1), (32, 64, 8, 1),
        (16, 64, 8, 1), (32, 32, 4, 1),
    ),
    ("dkdv", 256): (
        (64, 64, 8, 1), (32, 32, 8, 1), (16, 32, 8, 1), (16, 32, 4, 1), (16, 16, 4, 1),
    ),
}  # fmt: skip
_FLOAT: dict[tuple[str, int], tuple[Entry, ...]] = {
    ("forward", 64): ((64, 32, 4, 2), (64, 32, 8, 1), (64, 16, 8, 1), (16, 16, 4, 1)),
    ("forward", 128): ((16, 16, 4, 1), (16, 16, 8, 1)),
    ("forward", 256): ((16, 16, 8, 1),),
    ("dq", 64): ((64, 32, 8, 2), (32, 32, 8, 1), (16, 16, 4, 1)),
    ("dq", 128): ((16, 16, 4, 1), (16, 16, 8, 1)),
    ("dq", 256): ((16, 16, 8, 1),),
    ("dkdv", 64): ((16, 64, 8, 1), (16, 32, 8, 1), (16, 16, 4, 1)),
    ("dkdv", 128): ((16, 16, 4, 1), (16, 16, 8, 1)),
    ("dkdv", 256): ((16, 16, 8, 1),),
}  # fmt: skip
# The bias gradient takes a head in parts: its tiles are the same for every size.
_HALF_BIAS: tuple[Entry, ...] = (
    (64, 64, 4, 2), (64, 64, 8, 2), (64, 64, 8, 1), (64, 64, 4, 1), (32, 32, 8, 1), (32, 32, 4, 1), (16, 16, 4, 1),
)  # fmt: skip
_FLOAT_BIAS: tuple[Entry, ...] = ((32, 32, 8, 1), (32, 32, 4, 1), (16, 16, 4, 1), (16, 16, 8, 1))


def needs_own(head: int, kind: str) -> bool:
    """The chip's own matrix instruction is a must for what runs most; at head size 256 its tiles would spill."""
    return kind in ("plain", "segments", "t5") and head <= 128


def candidates(kernel: str, head: int, kind: str) -> tuple[Entry, ...]:
    if kernel == "bias":
        return _FLOAT_BIAS if kind == "float" else _HALF_BIAS
    return _FLOAT[kernel, head] if kind == "float" else _HALF[kernel, head]


def needs(kernel: str, arch: str, head: int, kind: str, entry: Entry) -> list[Resources]:
    """What the entry needs in each of its kernels and feature sets, up to the first that does not fit."""
    from kernels.offline import compile_attention

    found = []
    members = kernels_of(kernel, kind)
    for member, name in ((m, n) for m in members for n in features_of(m, kind)):
        try:
            resources = compile_attention(member, arch, head, DTYPES[kind], Tile(*entry), FEATURES[name])
        except Exception as error:  # the compiler gives up in many ways
            reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
            print(f"    {entry} {member} {name}: {reason}")
            resources = Resources(0, 1 << 20, 0, 0, 0)
        found.append(resources)
        if not resources.fits(arch, needs_own(head, kind)):
            break
    return found


def first_that_fits(kernel: str, arch: str, head: int, kind: str) -> Entry:
    """The first candidate that fits; where none does, the one with the smallest spill, with a warning."""
    tried: list[tuple[bool, int, Entry]] = []
    for entry in candidates(kernel, head, kind):
        found = needs(kernel, arch, head, kind, entry)
        if all(r.fits(arch, needs_own(head, kind)) for r in found):
            return entry
        over = any(r.shared > SHARED_MEMORY[arch] or r.any_matrix == 0 for r in found)
        tried.append((over, max(r.spill for r in found), entry))
    over, spill, entry = min(tried)
    print(f"    nothing fits {arch} {kernel} {head} {kind}: taking {entry}, spill {spill} B, over limits: {over}")
    return entry


def time_entry(kernel: str, head: int, kind: str, entry: Entry) -> float:
    """Median milliseconds of one kernel at 16k tokens, batch 1 x 16 heads, causal, on this GPU."""
    from triton.testing import do_bench

    from kernels import T5Bias, attention
    from kernels.attention.triton import launches

    def tile(kernel_asked: str, *rest: Any) -> Tile:
        return Tile(*entry) if kernel_asked == kernel else original(kernel_asked, *rest)

    original, launches.attention_tile = launches.attention_tile, tile
    try:
        length = 4096 if kind == "float" or kernel == "bias" else 16384
        shape = (1, length, 16, head)
        q, k, v = (torch.randn(shape, device="cuda", dtype=DTYPES[kind], requires_grad=True) for _ in range(3))
        options: dict[str, Any] = {"causal": True, "backend": "triton"}
        if kind == "heavy":
            options.update(dropout_p=0.1, seed=1)
        if kind in ("segments", "t5"):
            options["segments"] = (torch.arange(length, device="cuda") // 1000)[None].int()
        inputs = [q, k, v]
        if kernel == "bias" or kind == "t5":
            table = torch.randn(32, 16, device="cuda", requires_grad=True)
            options["bias"] = T5Bias(table, False)
            inputs.append(table)
        out = attention(q, k, v, **options)
        if kernel == "forward":
            return float(do_bench(lambda: attention(q, k, v, **options), return_mode="median"))
        dout = torch.randn_like(out)
        return float(do_bench(lambda: torch.autograd.grad(out, inputs, dout, retain_graph=True), return_mode="median"))
    finally:
        launches.attention_tile = original


def fastest(kernel: str, arch: str, head: int, kind: str) -> Entry:
    own = needs_own(head, kind)
    fitting = [
        entry
        for entry in candidates(kernel, head, kind)
        if all(found.fits(arch, own) for found in needs(kernel, arch, head, kind, entry))
    ]
    if not fitting:
        return first_that_fits(kernel, arch, head, kind)
    times = {entry: time_entry(kernel, head, kind, entry) for entry in fitting}
    best = min(times, key=times.__getitem__)
    print("    " + ", ".join(f"{e}: {ms:.3f} ms" for e, ms in times.items()))
    return best


def write(table: dict[str, dict[tuple[str, int, str], Entry]], timed: set[str]) -> None:
    """The whole of kernels/table.py, complete or untouched."""
    path = ROOT / "kernels" / "table.py"
    head = path.read_text().split("# --- generated below ---")[0]
    lines = [head + "# --- generated below ---", ""]
    lines += [f"TIMED: frozenset[str] = frozenset({sorted(timed)!r})".replace("'", '"'), ""]
    lines.append("ATTENTION: dict[str, dict[Key, Entry]] = {")
    for arch, entries in table.items():
        lines.append(f'    "{arch}": {{')
        for (kernel, size, kind), entry in entries.items():
            lines.append(f'        ("{kernel}", {size}, "{kind}"): {tuple(entry)},')
        lines.append("    },")
    lines += ["}", "", f"ROWS: tuple[tuple[int, int], ...] = {ROWS!r}", ""]
    aside = path.with_suffix(".new")
    aside.write_text("\n".join(lines))
    aside.replace(path)


def main() -> None:
    from kernels import table as current

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile-only", action="store_true", help="take the first candidate that fits; needs no GPU")
    parser.add_argument(
        "--arch", nargs="*", choices=list(MATRIX_INSTRUCTION), help="which columns (with --compile-only)"
    )
    parser.add_argument("--kernel", nargs="*", choices=ATTENTION_KERNELS, help="which entries; default: all")
    parser.add_argument("--missing", action="store_true", help="keep the entries that are there")
    arguments = parser.parse_args()
    if not arguments.compile_only and not torch.cuda.is_available():
        parser.exit(2, "tune: no GPU here; --compile-only takes the first candidate that fits, without timing\n")
    archs = arguments.arch or list(MATRIX_INSTRUCTION)
    if not arguments.compile_only:
        archs = [architecture(torch.device("cuda"))]
    choose = first_that_fits if arguments.compile_only else fastest
    table = {arch: dict(entries) for arch, entries in ATTENTION.items()}
    timed = set(current.TIMED)
    for arch in archs:
        column = table.setdefault(arch, {})
        for kernel, head, kind in product(arguments.kernel or ATTENTION_KERNELS, HEADS, KINDS):
            if not kernels_of(kernel, kind) or ((kernel, head, kind) in column and arguments.missing):
                continue
            column[kernel, head, kind] = choose(kernel, arch, head, kind)
            print(arch, kernel, head, kind, column[kernel, head, kind], flush=True)
        timed = timed - {arch} if arguments.compile_only else timed | {arch}
        write(table, timed)


if __name__ == "__main__":
    main()
