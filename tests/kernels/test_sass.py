"""The reader of machine code, against code whose loops are known, and the kernels, against the table that is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernels.disassembly import clocks, disassemble, parse, programs_of_an_sm, serialization, tile_loops
from kernels.inner_loops import Case, Costs, all_costs, cases

triton = pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[2]
TABLE = json.loads((ROOT / "tests" / "kernels" / "sass.json").read_text())
TOLERANCE, SERIALIZED = 0.05, 1 / 3

# Rows whose kernels spill or wait for every product, and why.
KNOWN = {
    "sm_100 bias 128 T5": "16 B",
    "sm_100 dkdv 128 plain": "8 B",
    "sm_100 dq 128 packed T5": "104 B",
    "sm_100 dq 128 segments, dense bias": "8 B",
    "sm_100 forward 128 T5": "40 B",
    "sm_100 forward 128 packed ALiBi": "40 B",
    "sm_100 forward 128 packed T5": "112 B",
    "sm_100 forward 128 segments": "32 B",
    "sm_100 forward 128 segments, ranks": "32 B",
    "sm_80 dkdv 64 segments, dense bias": "8 B",
}

# A tile that is multiplied in parts, as the gradient of a bias is: a loop of products inside of a loop with two
# exponentials; behind it a loop that multiplies nothing.
PTX = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry walk(.param .u64 out, .param .u32 n)
{
  .reg .pred %p<4>; .reg .b32 %a<4>; .reg .b32 %b<2>; .reg .f32 %c<6>; .reg .u32 %i<6>; .reg .u64 %q<2>;
  ld.param.u64 %q0, [out];
  ld.param.u32 %i0, [n];
  mov.u32 %a0, 1; mov.u32 %a1, 2; mov.u32 %a2, 3; mov.u32 %a3, 4; mov.u32 %b0, 5; mov.u32 %b1, 6;
  mov.f32 %c0, 0f00000000; mov.f32 %c1, 0f00000000; mov.f32 %c2, 0f00000000; mov.f32 %c3, 0f00000000;
  mov.u32 %i1, 0;
OUTER:
  .pragma "nounroll";
  mov.u32 %i2, 0;
PRODUCTS:
  .pragma "nounroll";
  mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%c0,%c1,%c2,%c3}, {%a0,%a1,%a2,%a3}, {%b0,%b1},
    {%c0,%c1,%c2,%c3};
  add.u32 %a0, %a0, %i2;
  add.u32 %i2, %i2, 1;
  setp.lt.u32 %p1, %i2, %i0;
  @%p1 bra PRODUCTS;
  ex2.approx.ftz.f32 %c1, %c1;
  ex2.approx.ftz.f32 %c2, %c2;
  add.u32 %i1, %i1, 1;
  setp.lt.u32 %p2, %i1, %i0;
  @%p2 bra OUTER;
  mov.u32 %i3, 0;
PLAIN:
  .pragma "nounroll";
  st.global.f32 [%q0], %c0;
  ex2.approx.ftz.f32 %c0, %c0;
  add.u32 %i3, %i3, 1;
  setp.lt.u32 %p3, %i3, %i0;
  @%p3 bra PLAIN;
  st.global.f32 [%q0], %c1; st.global.f32 [%q0], %c2; st.global.f32 [%q0], %c3;
  ret;
}
"""


def test_the_loop_of_a_cubin(tmp_path: Path) -> None:
    source, cubin = tmp_path / "walk.ptx", tmp_path / "walk.cubin"
    source.write_text(PTX)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    subprocess.run([tool, "--gpu-name=sm_80", source, "-o", cubin], check=True)
    code = disassemble(cubin.read_bytes())
    (loop,) = tile_loops(code)
    assert loop.opcodes["HMMA"] == 1 and loop.multiply_adds == 16 * 8 * 16
    assert loop.opcodes["MUFU"] == 2 and loop.opcodes["STG"] == 0
    assert 10 <= len(loop.code) <= 24  # what eleven lines of PTX come to
    whole = loop.unrolled(3)
    assert whole.opcodes["HMMA"] == 3 and whole.opcodes["MUFU"] == 2
    # 8 warps: 3 x 8 x 2,048 multiply-adds at 1,024 a clock; 2 x 8 x 32 exponentials at 16 a clock.
    spent = clocks(whole, "sm_80", 8, 0)
    assert (spent.tensor, spent.special, spent.issue) == (48.0, 32.0, 2.0 * len(whole.code))
    assert serialization(code) is None


def listing(*lines: str) -> str:
    """As the disassembler prints it: an address, the instruction, and its encoding."""
    return "".join(f"        /*{16 * n:04x}*/    {line} ;   /* 0x0123456789abcdef */\n" for n, line in enumerate(lines))


WGMMA = listing(
    "MOV R1, c[0x0][0x28]",
    "@!P0 BRA 0xa0",
    "SYNCS.PHASECHK.TRANS64.TRYWAIT P1, [UR4], R2",  # 0x20, the loop's head
    "@!P1 BRA 0xc0",  # the wait failed: try again behind the end
    "WARPGROUP.ARRIVE",  # 0x40
    "HGMMA.64x64x16.F32.BF16 R24, gdesc[UR16], RZ, !UPT",
    "HGMMA.64x128x16.F32.BF16 R24, R8, gdesc[UR20], R24, gsb0",
    "MUFU.EX2 R4, R4",
    "MUFU.EX2 R5, R5",
    "@P2 BRA 0x20",  # 0x90
    "EXIT",
    "BRA 0xb0",
    "SYNCS.PHASECHK.TRANS64.TRYWAIT P1, [UR4], R2",  # 0xc0
    "@!P1 BRA 0xc0",
    "BRA 0x40",
)


def test_a_loop_of_wgmma_and_its_wait() -> None:
    code = parse(WGMMA)
    assert [one.address for one in code] == [16 * n for n in range(15)]
    (loop,) = tile_loops(code)
    assert [one.address for one in loop.code] == [16 * n for n in range(2, 10)]
    assert serialization(code) == 0.5
    # Two groups of four warps: 64 x 64 x 16 and 64 x 128 x 16 multiply-adds each at 2,048 a clock; operands: A and B of
    # the first, B of the second, 32 bytes a row or column.
    spent = clocks(loop, "sm_90", 8, 0)
    assert spent.tensor == 2 * 64 * (64 + 128) * 16 / 2048 and spent.operands == 2 * 32 * (64 + 64 + 128) / 128
    assert spent.issue == 8 * 8 / 4 and spent.special == 2 * 8 * 32 / 16


def test_a_loop_that_is_entered_at_its_end() -> None:
    """As compilers lay out `while`; without the way back there is none."""
    lines = ["BRA 0x40", "HMMA.16816.F32.BF16 R4, R8, R12, R4", "MUFU.EX2 R4, R4", "NOP", "@P0 BRA 0x10", "EXIT"]
    (loop,) = tile_loops(parse(listing(*lines)))
    assert len(loop.code) == 4
    assert tile_loops(parse(listing(*lines[:3], "EXIT", *lines[4:]))) == []


MEETING = listing(
    "MOV R1, c[0x0][0x28]",
    "BSSY B0, 0x50",  # 0x10, the head of a loop around
    "@P0 BRA 0x40",
    "NOP",
    "BSYNC B0",  # 0x40
    "HMMA.16816.F32.BF16 R4, R8, R12, R4",  # 0x50
    "MUFU.EX2 R4, R4",
    "BSSY B0, 0xa0",
    "@P1 BRA 0x90",
    "BSYNC B0",  # 0x90
    "@P2 BRA 0x50",  # 0xa0
    "MUFU.EX2 R5, R5",
    "@P3 BRA 0x10",
    "EXIT",
)


def test_threads_that_meet_again_and_a_loop_around() -> None:
    """A barrier stands for many places, and of nested loops with exponentials the inner one is meant."""
    (loop,) = tile_loops(parse(MEETING))
    assert [one.address for one in loop.code] == [16 * n for n in range(5, 11)] and not loop.repeated


def test_products_of_the_tensor_memory_count_by_the_tile() -> None:
    """One thread starts them, and their size stands in a register."""
    lines = (
        "@P0 BRA 0x20",
        "UTCHMMA gdesc[UR8], gdesc[UR12], tmem[UR16], tmem[UR46], idesc[UR47], !UPT",
        "MUFU.EX2 R4, R4",
        "@P1 BRA 0x0",
    )
    (loop,) = tile_loops(parse(listing(*lines, "EXIT")))
    assert len(loop.code) == 4 and clocks(loop, "sm_100", 4, 2 * 64 * 64 * 64).tensor == 128


@pytest.mark.parametrize(
    ("arch", "registers", "shared", "warps", "columns", "programs"),
    [
        ("sm_90", 128, 0, 8, 0, 2),  # 65,536 registers
        ("sm_90", 129, 0, 8, 0, 1),
        ("sm_80", 32, 0, 8, 0, 8),  # 64 warps
        ("sm_80", 33, 0, 8, 0, 6),  # registers come in eights: 51 warps
        ("sm_80", 16, 0, 1, 0, 32),
        ("sm_90", 32, 112 * 1024, 4, 0, 2),  # of 228 KiB, with 1 KiB each beside
        ("sm_90", 32, 114 * 1024, 4, 0, 1),
        ("sm_80", 32, 81 * 1024, 4, 0, 2),
        ("sm_100", 32, 0, 4, 256, 2),  # tensor memory
    ],
)
def test_programs_that_fit_an_sm(
    arch: str, registers: int, shared: int, warps: int, columns: int, programs: int
) -> None:
    assert programs_of_an_sm(arch, registers, shared, warps, columns) == programs


# --- the table ---

OFTEN = {
    *(f"sm_90 {kernel} {head} packed" for kernel in ("forward", "dq", "dkdv") for head in (64, 128)),
    "sm_90 forward 64 plain", "sm_90 forward 64 segments", "sm_90 forward 64 packed T5", "sm_90 bias 64 packed T5",
    "sm_100 forward 128 packed", "sm_80 forward 64 packed",
}  # fmt: skip


def test_the_table_has_every_row_and_the_page_says_the_same() -> None:
    sys.path.append(str(ROOT / "scripts" / "bench"))
    import sass

    assert set(TABLE["before"]["rows"]) <= set(TABLE["rows"]) == {case.name for case in cases()}
    assert sass.page(TABLE) == (ROOT / "docs" / "benchmarks" / "sass.md").read_text()


DIGESTS = """
from kernels.configs import Tile
from kernels.inner_loops import source_of
a, b = Tile(64, 64, 4, 2), Tile(64, 64, 4, 3)
calls = [("dq", 64, a, {}), ("dq", 64, a, {}), ("dq", 64, b, {}), ("dq", 64, a, {"segments": True}),
         ("dkdv", 64, a, {}), ("forward", 64, a, {}), ("tma", 64, a, {})]
print(*(source_of(*call) for call in calls))
"""


def test_what_a_row_hangs_on_is_in_its_digest() -> None:
    """Tile, features and kernel: `sass.py --changed` measures anew where one of them is another."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    worker = [sys.executable, "-c", DIGESTS]
    environment |= {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(worker, capture_output=True, text=True, env=environment, check=True)
    first, again, *others = done.stdout.split()
    assert first == again and len({first, *others}) == 6


def complaints(found: Costs | str, row: dict[str, Any]) -> list[str]:
    if isinstance(found, str):
        return [found]
    wrong = [f"spills {found.spill} B"] if found.spill else []
    if (found.serialization or 0.0) > SERIALIZED:
        wrong.append(f"{found.serialization:.2f} ARRIVE a product")
    for name in ("inner", "masked"):
        loop, stored = getattr(found, name), row[name]
        if (loop is None) != (stored is None):
            wrong.append(f"{name} loop: {loop} now, {stored} in the table")
        elif loop is not None and abs(loop.instructions / stored["instructions"] - 1) > TOLERANCE:
            wrong.append(
                f"{name} loop: {loop.instructions:.0f} instructions now, {stored['instructions']:.0f} in the table"
            )
    return wrong


def held_to_the_table(wanted: list[Case], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if triton.__version__ != TABLE["triton"]:
        pytest.skip(f"the table is of Triton {TABLE['triton']}, here is {triton.__version__}")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    wrong = {
        case.name: found for case, costs in all_costs(wanted) if (found := complaints(costs, TABLE["rows"][case.name]))
    }
    assert set(wrong) == {case.name for case in wanted} & set(KNOWN), wrong


def test_what_runs_most_is_as_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_to_the_table([case for case in cases() if case.name in OFTEN], tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_90", "sm_100", "sm_80"])
def test_all_is_as_in_the_table(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_to_the_table([case for case in cases([arch]) if case.name not in OFTEN], tmp_path, monkeypatch)
