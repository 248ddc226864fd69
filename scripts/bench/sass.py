"""What attention's inner loops cost on GPUs, without a GPU: compile, disassemble, count (kernels/inner_loops.py).

    python scripts/bench/sass.py                                  # the whole table; minutes on two cores
    python scripts/bench/sass.py --changed                        # rows whose code, tile or features are not as stored
    python scripts/bench/sass.py --arch sm_90 --kernel forward --kind packed    # these rows alone, the others stay
    python scripts/bench/sass.py --arch                           # none: write the page again from what is stored
    python scripts/bench/sass.py --before 4f3d8ac                 # keep what is measured as the column `before`, too

Writes docs/benchmarks/sass.md and tests/kernels/sass.json, which tests/kernels/test_sass.py holds the kernels to.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from kernels.inner_loops import (  # noqa: E402
    ARCHITECTURES,
    KINDS,
    PRODUCTS,
    Case,
    all_costs,
    cases,
    source_of,
    tile_for,
)

STORED = ROOT / "tests" / "kernels" / "sass.json"
PAGE = ROOT / "docs" / "benchmarks" / "sass.md"
CHIPS = {"sm_90": "H100, H200", "sm_100": "B200", "sm_80": "A100"}

HEAD = """# Attention's inner loops in machine code

`python scripts/bench/sass.py`, Triton {triton}, bf16, the tiles of `kernels/table.py`. Compiled and disassembled;
nothing was timed. `kernels/disassembly.py` has the formulas and the sources of the rates.

- **kernel**: tma and warps are the forward kernel that loads keys and values by tensor descriptors, and the one whose
  loads have warps of their own, where the table has a tile for them; ordered is the backward pass in one walk.
- **instructions**: of one warp in one iteration, for 64 columns (dkdv, ordered: 64 queries): the shortest loop, which
  masks nothing where there are several, / the longest, which masks. One number: the kernel has one loop. On sm_100
  those are in it that one warp executes to start the products. Of a tile marked **far**, the shortest is that of tiles
  far from the diagonal, whose bias is one value.
- **programs**: that a multiprocessor (SM) holds at once, by registers, shared and tensor memory.
- **serialized**: `WARPGROUP.ARRIVE` per wgmma; at 1 every product waits for the one before. Wanted: 1/3 at most.
- **tensor / issue / exp**: clocks for which one iteration of the shortest loop occupies the tensor cores, the four
  schedulers and the special function units of an SM; in brackets the clocks for wgmma's operands from shared memory
  where that is more. –: not known (what mma.sync reaches on chips after the A100 is not stated).
- **bound**: the largest of them for 64 x 64 scores, so that tiles compare. Less is better. Where nothing overlaps, a
  loop takes their sum.
- **before**: at {before}.
"""
COLUMNS = (
    "kernel", "head", "kind", "tile", "instructions", "before", "registers", "spill, B", "shared, KiB", "programs",
    "serialized", "tensor / issue / exp", "bound", "before",
)  # fmt: skip


def loops(row: dict[str, Any] | None) -> str:
    """Instructions of the shortest and of the longest loop."""
    if row is None or "error" in row:
        return "–" if row is None else "fails"
    found = [row["inner"]] + ([row["masked"]] if row["masked"] else [])
    return " / ".join(f"{one['instructions']:.0f}" for one in found)


def units(row: dict[str, Any]) -> str:
    spent = row["inner"]["clocks"]
    tensor = "–" if spent["tensor"] is None else f"{spent['tensor']:.0f}"
    if spent["operands"] and spent["tensor"] and spent["operands"] > spent["tensor"]:
        tensor += f" ({spent['operands']:.0f})"
    return f"{tensor} / {spent['issue']:.0f} / {spent['special']:.0f}"


def bound(kernel: str, row: dict[str, Any] | None) -> str:
    if row is None or "error" in row:
        return "–" if row is None else "fails"
    rows, columns = row["tile"][:2]
    if kernel == "bias":
        rows = columns = min(rows, columns)
    largest = max(value for value in row["inner"]["clocks"].values() if value is not None)
    return f"{largest * 64 * 64 / (rows * columns):.0f}"


def cells(case: Case, row: dict[str, Any], before: dict[str, Any] | None) -> list[str]:
    start = [case.kernel, str(case.head), case.kind]
    if "error" in row:
        return [*start, "–", "fails", loops(before), *["–"] * 6, "fails", bound(case.kernel, before)]
    block_m, block_n, warps, stages, *far = row["tile"]
    serialized = "–" if row["serialization"] is None else f"{row['serialization']:.2f}"
    return [
        *start, f"{block_m}x{block_n}, {warps} warps, {stages}{', far' if any(far) else ''}", loops(row), loops(before),
        str(row["registers"]), str(row["spill"]), f"{row['shared'] / 1024:.0f}", str(row["programs"]), serialized,
        units(row), bound(case.kernel, row), bound(case.kernel, before),
    ]  # fmt: skip


def page(table: dict[str, Any]) -> str:
    before = table.get("before", {"commit": "no commit", "rows": {}})
    lines = [HEAD.format(triton=table["triton"], before=f"commit {before['commit']}")]
    for arch in ARCHITECTURES:
        rows = [case for case in cases([arch]) if case.name in table["rows"]]
        if not rows:
            continue
        lines += [f"## {arch} ({CHIPS[arch]})", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        for case in rows:
            row = cells(case, table["rows"][case.name], before["rows"].get(case.name))
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


def source(case: Case) -> str | None:
    tile = tile_for(case.kernel, case.arch, case.head, torch.bfloat16, case.features)
    return tile and source_of(case.kernel, case.head, tile, case.features)


def measured(wanted: list[Case], jobs: int | None) -> dict[str, dict[str, Any]]:
    rows = {}
    for case, costs in all_costs(wanted, jobs):
        row = {"error": costs} if isinstance(costs, str) else rounded(asdict(costs))
        rows[case.name] = {"source": source(case), **row}
        print(f"{case.name}: {costs if isinstance(costs, str) else loops(rows[case.name])}", flush=True)
    return rows


def stored(table: dict[str, Any]) -> str:
    """JSON with a line for each row."""

    def lines(rows: dict[str, Any]) -> str:
        return ",\n".join(f"  {json.dumps(name)}: {json.dumps(rows[name])}" for name in sorted(rows))

    parts = [f'"triton": {json.dumps(table["triton"])}', f'"rows": {{\n{lines(table["rows"])}\n}}']
    if before := table.get("before"):
        rows = lines(before["rows"])
        parts.append(f'"before": {{"commit": {json.dumps(before["commit"])}, "rows": {{\n{rows}\n}}}}')
    return "{" + ",\n".join(parts) + "}\n"


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def main() -> None:
    os.environ.pop("TRITON_INTERPRET", None)  # its functions have no machine code
    import triton

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", nargs="*", choices=ARCHITECTURES, default=ARCHITECTURES, help="default: all")
    parser.add_argument("--kernel", nargs="*", choices=tuple(PRODUCTS), default=tuple(PRODUCTS), help="default: all")
    parser.add_argument("--kind", nargs="*", choices=tuple(KINDS), default=tuple(KINDS), help="default: all")
    parser.add_argument("--changed", action="store_true", help="of these, rows that are not of this code and tile")
    parser.add_argument("--jobs", type=int, help="processes that compile; default: one a core")
    parser.add_argument("--before", metavar="COMMIT", help="keep these rows as the column `before`, under this name")
    arguments = parser.parse_args()
    table = json.loads(STORED.read_text()) if STORED.exists() else {"triton": triton.__version__, "rows": {}}
    wanted = [case for case in cases(arguments.arch, arguments.kernel) if case.kind in arguments.kind]
    if table["triton"] != triton.__version__ and (arguments.changed or len(wanted) < len(cases())):
        parser.exit(
            2, f"sass: the table is of Triton {table['triton']}, here is {triton.__version__}; measure all rows\n"
        )
    if arguments.changed:
        wanted = [case for case in wanted if table["rows"].get(case.name, {}).get("source") != source(case)]
    with tempfile.TemporaryDirectory(prefix="sass-") as cache:
        os.environ.setdefault("TRITON_CACHE_DIR", cache)
        rows = measured(wanted, arguments.jobs)
    known = {case.name for case in cases()}
    kept = {name: row for name, row in table["rows"].items() if name in known}
    table = table | {"triton": triton.__version__, "rows": kept | rows}
    if arguments.before:
        earlier = table.get("before", {"rows": {}})["rows"]
        table["before"] = {"commit": arguments.before, "rows": earlier | rows}
    STORED.write_text(stored(table))
    PAGE.write_text(page(table))


if __name__ == "__main__":
    main()
