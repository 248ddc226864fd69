"""Regenerate the tile table of the attention kernels, kernels/table.py.

    python scripts/bench/tune.py                    # on a GPU: time every candidate that fits, for that GPU's column
    python scripts/bench/tune.py --minutes 5        # the same until then; what runs most comes first
    python scripts/bench/tune.py --compile-only     # anywhere: the first candidate that fits, for every architecture

A candidate fits if it compiles without a spill, within shared memory, and with the chip's matrix instructions, which
must not be serialized, under the feature sets of its kind (kernels/offline.py). Candidates stand from the largest tile
down. On a GPU those of a kind and head size are compiled in as many processes as there are cores, and timed when all of
them are: alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import groupby, product
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
from kernels.table import ATTENTION, DESCRIPTORS, ROWS  # noqa: E402

HEADS = (64, 128, 256)
KINDS = tuple(FEATURES_OF_KIND)
DTYPES = {kind: torch.float32 if kind == "float" else torch.bfloat16 for kind in KINDS}
Entry = tuple[int, int, int, int] | tuple[int, int, int, int, int]
Key = tuple[str, int, str]  # kernel, head size, kind
TABLE = ROOT / "kernels" / "table.py"
PATIENCE = 120.0  # seconds for a candidate to compile

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
        (64, 64, 8, 1), (64, 32, 8, 2), (64, 32, 8, 1), (32, 32, 4, 2), (32, 64, 8, 1), (32, 32, 8, 1), (32, 32, 4, 1),
        (32, 16, 4, 1),
    ),
    ("dkdv", 64): (
        (64, 128, 8, 2), (32, 128, 8, 2), (64, 64, 4, 2), (64, 64, 8, 2), (32, 64, 4, 3), (32, 64, 4, 2),
        (32, 64, 8, 1), (32, 64, 4, 1),
    ),
    ("dkdv", 128): (
        (64, 128, 8, 2), (64, 64, 8, 2), (32, 128, 8, 2), (32, 64, 8, 2), (16, 128, 8, 2), (64, 64, 8, 1),
        (32, 64, 8, 1), (16, 64, 8, 1), (32, 32, 4, 1),
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
# The forward kernel by tensor descriptors. Triton gives four warps four more and a producer, where the loop loads
# nothing but tiles (no segments); at head size 64 the mask on every tile costs more than the overlap saves. There tiles
# of 64 columns come first: two programs of 126 registers share an SM of sm_90, of 128 columns (209 registers) one.
_DESCRIBED: dict[tuple[str, int], tuple[Entry, ...]] = {
    ("tma", 64): ((128, 64, 8, 3), (128, 128, 8, 3), (128, 64, 4, 3)),
    ("tma", 128): ((128, 128, 8, 2), (128, 64, 8, 3), (128, 64, 8, 2)),
    ("warps", 128): ((128, 128, 4, 2), (128, 64, 4, 2)),
}
WAYS = {"tma": {"descriptors": True}, "warps": {"descriptors": True, "specialized": True}}
DESCRIBED_KINDS = {"tma": ("plain", "segments"), "warps": ("plain",)}
DESCRIBED_ARCHS = {"tma": ("sm_90", "sm_100"), "warps": ("sm_90",)}  # specialised warps end sm_120's compiler
# The bias gradient takes a head in parts: its tiles are the same for every size.
_HALF_BIAS: tuple[Entry, ...] = (
    (64, 64, 4, 2), (64, 64, 8, 2), (64, 64, 8, 1), (64, 64, 4, 1), (32, 32, 8, 1), (32, 32, 4, 1), (16, 16, 4, 1),
)  # fmt: skip
_FLOAT_BIAS: tuple[Entry, ...] = ((32, 32, 8, 1), (32, 32, 4, 1), (16, 16, 4, 1), (16, 16, 8, 1))


def needs_own(head: int, kind: str) -> bool:
    """The chip's own matrix instruction is a must for what runs most; at head size 256 its tiles would spill."""
    return kind in ("plain", "segments", "t5") and head <= 128


def candidates(kernel: str, head: int, kind: str) -> tuple[Entry, ...]:
    """Of a bucket table first those whose far tiles have a loop of their own."""
    if kernel in WAYS:
        return _DESCRIBED[kernel, head]
    if kernel == "bias":
        found = _FLOAT_BIAS if kind == "float" else _HALF_BIAS
    else:
        found = _FLOAT[kernel, head] if kind == "float" else _HALF[kernel, head]
    return (*((*entry[:4], 1) for entry in found), *found) if kind == "t5" else found


def needs(kernel: str, arch: str, head: int, kind: str, entry: Entry) -> list[Resources]:
    """What the entry needs in each of its kernels and feature sets, up to the first that does not fit."""
    from kernels.offline import compile_attention

    found = []
    switches = WAYS.get(kernel, {})
    members = kernels_of("forward" if switches else kernel, kind)
    for member, name in ((m, n) for m in members for n in features_of(m, kind)):
        try:
            resources = compile_attention(member, arch, head, DTYPES[kind], Tile(*entry), FEATURES[name] | switches)
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


def median_milliseconds(work: Callable[[], Any]) -> float:
    from triton.testing import do_bench

    return float(do_bench(work, return_mode="median"))


def time_entry(
    kernel: str, head: int, kind: str, entry: Entry, timer: Callable[[Callable[[], Any]], float] = median_milliseconds
) -> float:
    """Median milliseconds of one kernel at 16k tokens, batch 1 x 16 heads, causal, on this GPU."""
    from kernels import T5Bias, attention
    from kernels.attention.triton import descriptors, launches

    def tile(kernel_asked: str, *rest: Any) -> Tile:
        return Tile(*entry) if kernel_asked == kernel else original(kernel_asked, *rest)

    def described(way: str, *_: Any) -> Tile | None:
        return Tile(*entry) if way == kernel else None

    original, launches.attention_tile = launches.attention_tile, tile
    original_described, descriptors.descriptor_tile = descriptors.descriptor_tile, described
    os.environ[descriptors.SPECIALIZE] = str(int(kernel == "warps"))
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
        if kernel == "forward" or kernel in WAYS:
            return timer(lambda: attention(q, k, v, **options))
        dout = torch.randn_like(out)
        return timer(lambda: torch.autograd.grad(out, inputs, dout, retain_graph=True))
    finally:
        launches.attention_tile = original
        descriptors.descriptor_tile = original_described


def fits_once_run(kernel: str, arch: str, head: int, kind: str, entry: Entry) -> bool:
    """Whether the entry fits; if so it has run once, and what that compiled lies in Triton's cache on disk."""
    if not all(found.fits(arch, needs_own(head, kind)) for found in needs(kernel, arch, head, kind, entry)):
        return False
    time_entry(kernel, head, kind, entry, lambda work: work() and 0.0)
    return True


def those_that_fit(pool: Any, arch: str, wanted: Sequence[Key], end: float) -> dict[Key, list[Entry]]:
    """The candidates of each key that fit, compiled in the pool; one that hangs or falls until `end` does not."""
    asked = {
        (key, entry): pool.apply_async(fits_once_run, (key[0], arch, *key[1:], entry))
        for key in wanted
        for entry in candidates(*key)
    }
    found: dict[Key, list[Entry]] = {key: [] for key in wanted}
    for (key, entry), answer in asked.items():
        try:
            if answer.get(max(0.0, min(end - time.monotonic(), PATIENCE))):
                found[key].append(entry)
        except Exception as error:  # too late, or the compiler or the GPU gave up
            print(f"    {entry} {key}: {type(error).__name__}: {error}")
    return found


def fastest(kernel: str, arch: str, head: int, kind: str, fitting: Sequence[Entry]) -> Entry:
    if not fitting:
        return first_that_fits(kernel, arch, head, kind)
    times = {entry: time_entry(kernel, head, kind, entry) for entry in fitting}
    best = min(times, key=times.__getitem__)
    print("    " + ", ".join(f"{e}: {ms:.3f} ms" for e, ms in times.items()))
    return best


def described_column(arch: str, column: dict[Key, Entry], timing: bool) -> dict[Key, Entry]:
    """The architecture's part of DESCRIPTORS. timing: what fits and is faster than loads by pointers ("warps", which
    are asked for by name, wherever they fit); else the first that fits for each key that is there."""
    found = {}
    for way, head in _DESCRIBED:
        for kind in DESCRIBED_KINDS[way] if arch in DESCRIBED_ARCHS[way] else ():
            if not timing and (way, head, kind) not in DESCRIPTORS.get(arch, {}):
                continue
            fitting = [
                entry
                for entry in candidates(way, head, kind)
                if all(one.fits(arch) for one in needs(way, arch, head, kind, entry))
            ]
            if fitting and timing:
                times = {entry: time_entry(way, head, kind, entry) for entry in fitting}
                best = min(times, key=times.__getitem__)
                by_pointers = time_entry("forward", head, kind, column["forward", head, kind])
                print(f"    {way}: {times}, by pointers: {by_pointers:.3f} ms")
                fitting = [best] if way == "warps" or times[best] < by_pointers else []
            if fitting:
                found[way, head, kind] = fitting[0]
                print(arch, way, head, kind, fitting[0], flush=True)
    return found


def write(
    table: dict[str, dict[Key, Entry]], described: dict[str, dict[Key, Entry]], timed: set[str], path: Path
) -> None:
    """The whole of kernels/table.py to `path`, complete or untouched."""
    head = TABLE.read_text().split("# --- generated below ---")[0]
    described = {arch: entries for arch, entries in described.items() if entries}
    lines = [head + "# --- generated below ---", ""]
    lines += [f"TIMED: frozenset[str] = frozenset({sorted(timed)!r})".replace("'", '"'), ""]
    for name, columns in (("ATTENTION", table), ("DESCRIPTORS", described)):
        lines.append(f"{name}: dict[str, dict[Key, Entry]] = {{")
        for arch, entries in columns.items():
            lines.append(f'    "{arch}": {{')
            for (kernel, size, kind), entry in entries.items():
                lines.append(f'        ("{kernel}", {size}, "{kind}"): {tuple(entry)},')
            lines.append("    },")
        lines += ["}", ""]
    lines += [f"ROWS: tuple[tuple[int, int], ...] = {ROWS!r}", ""]
    aside = path.with_suffix(".new")
    aside.write_text("\n".join(lines))
    aside.replace(path)


def in_order(kernels: Sequence[str]) -> list[Key]:
    """What runs most first: half precision at head sizes 64 and 128, then at 256, then what is heavy, then float32."""

    def place(key: Key) -> tuple[bool, bool, bool, int, int]:
        _, head, kind = key
        return kind == "float", "heavy" in kind, head > 128, KINDS.index(kind), head

    return sorted((key for key in product(kernels, HEADS, KINDS) if kernels_of(key[0], key[2])), key=place)


def tune(arch: str, wanted: Sequence[Key], end: float, keep: Callable[[Key, Entry], None]) -> int:
    """Time the candidates of each key on this GPU until `end` (of the monotonic clock); how many were done."""
    done = 0
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:  # ended at the end, whatever it does
        for _, group in groupby(wanted, key=lambda key: key[1:]):
            keys = list(group)
            fitting = those_that_fit(pool, arch, keys, end)
            for key in keys:
                if time.monotonic() >= end:
                    return done
                keep(key, fastest(key[0], arch, *key[1:], fitting[key]))
                done += 1
    return done


def main() -> None:
    from kernels import table as current

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile-only", action="store_true", help="take the first candidate that fits; needs no GPU")
    parser.add_argument(
        "--arch", nargs="*", choices=list(MATRIX_INSTRUCTION), help="which columns (with --compile-only)"
    )
    parser.add_argument("--kernel", nargs="*", choices=ATTENTION_KERNELS, help="which entries; default: all")
    parser.add_argument("--missing", action="store_true", help="keep the entries that are there")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="keep what is done by then; default: all")
    parser.add_argument("--out", type=Path, default=TABLE, metavar="FILE", help="default: kernels/table.py itself")
    arguments = parser.parse_args()
    if not arguments.minutes > 0:
        parser.exit(2, f"tune: --minutes is {arguments.minutes:g}; it must be more than 0\n")
    end = time.monotonic() + 60 * arguments.minutes
    if not arguments.compile_only and not torch.cuda.is_available():
        parser.exit(2, "tune: no GPU here; --compile-only takes the first candidate that fits, without timing\n")
    archs = arguments.arch or list(MATRIX_INSTRUCTION)
    if not arguments.compile_only:
        archs = [architecture(torch.device("cuda"))]
    table = {arch: dict(entries) for arch, entries in ATTENTION.items()}
    described = {arch: dict(entries) for arch, entries in DESCRIPTORS.items()}
    timed = set(current.TIMED)
    for arch in archs:
        column = table.setdefault(arch, {})
        wanted = in_order(arguments.kernel or ATTENTION_KERNELS)
        wanted = [key for key in wanted if not (arguments.missing and key in column)]

        def keep(key: Key, entry: Entry, arch: str = arch, column: dict[Key, Entry] = column) -> None:
            column[key] = entry
            print(arch, *key, entry, flush=True)
            write(table, described, set(current.TIMED), arguments.out)

        if not arguments.compile_only:
            done = tune(arch, wanted, end, keep)
            print(f"{done} of {len(wanted)} entries timed")
            timed |= {arch} if done == len(wanted) else set()  # of a column as a whole
        else:
            timed -= {arch}
            for key in wanted:
                if time.monotonic() < end:
                    keep(key, first_that_fits(key[0], arch, *key[1:]))
        with_descriptors = "forward" in (arguments.kernel or ATTENTION_KERNELS)
        if with_descriptors and not (arguments.missing and arch in described) and time.monotonic() < end:
            described[arch] = described_column(arch, column, timing=not arguments.compile_only)
        write(table, described, timed, arguments.out)


if __name__ == "__main__":
    main()
