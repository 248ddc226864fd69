"""Read a cubin: the loops of its machine code, and how long an iteration keeps the units of a multiprocessor (SM) busy.

Nothing is timed. The clocks are lower bounds, unit by unit: a loop takes at least the largest of them, and their sum if
nothing overlaps. Rates are those of one SM, which has four schedulers:

- issue: one instruction of a warp per scheduler and clock (CUDA C++ Programming Guide, "Multiprocessor level").
- special functions (MUFU: exp2, tanh, reciprocal): 16 results per clock (the same, "Throughput of native arithmetic
  instructions", compute capability 8.0, 9.0 and 10.0).
- products of bf16 or fp16, dense: 1,024 multiply-adds per clock on an A100 (its whitepaper: four tensor cores of 256;
  312 TFLOP/s = 2 x 1,024 x 108 SMs x 1.41 GHz), 2,048 on an H100 (989 TFLOP/s = 2 x 2,048 x 132 x 1.83 GHz), 4,096 on
  a B200 (2.25 PFLOP/s = 2 x 4,096 x 148 x 1.86 GHz).
- operands: wgmma reads B, and A where it is not in registers, from shared memory at 128 bytes per clock.

What mma.sync reaches on sm_90 and sm_100 is not stated by NVIDIA, and so not here.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MULTIPLY_ADDS = {"sm_80": 1024, "sm_90": 2048, "sm_100": 4096}  # per clock and SM, bf16
SCHEDULERS, SPECIAL_RESULTS, SHARED_BYTES, LANES = 4, 16, 128, 32  # per SM; per clock; per clock; of a warp

# Limits of an SM: registers, shared memory in bytes, warps (CUDA C++ Programming Guide, "Technical specifications per
# compute capability"). A program takes 1 KiB of shared memory beside its own.
REGISTERS, RESERVED_BYTES, MOST_WARPS, MOST_PROGRAMS = 65536, 1024, 64, 32
SHARED_OF_SM = {"sm_80": 167936, "sm_90": 233472, "sm_100": 233472}
TENSOR_COLUMNS = 512  # of tensor memory, sm_100

_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);", re.MULTILINE)
_WARP_PRODUCT = re.compile(r"[HQI]MMA\.(16)(8)(\d+)")  # mma.sync: rows, columns, depth
_GROUP_PRODUCT = re.compile(r"[HQI]GMMA\.(64)x(\d+)x(\d+)")  # wgmma, of four warps
_TENSOR_PRODUCT = re.compile(r"UTC[HQI]MMA")  # tcgen05; its size stands in a register


@dataclass(frozen=True)
class Instruction:
    """address in bytes; guard: the predicate that it hangs on, or ""; name with its modifiers, "HGMMA.64x64x16.F32"."""

    address: int
    guard: str
    name: str
    operands: str

    @property
    def multiplies(self) -> bool:
        return any(kind.match(self.name) for kind in (_WARP_PRODUCT, _GROUP_PRODUCT, _TENSOR_PRODUCT))

    @property
    def multiply_adds(self) -> int:
        """Of a matrix instruction and one warp; 0 for those of sm_100, which one thread starts for all."""
        if found := _WARP_PRODUCT.match(self.name):
            rows, columns, depth = map(int, found.groups())
            return rows * columns * depth
        if found := _GROUP_PRODUCT.match(self.name):
            rows, columns, depth = map(int, found.groups())
            return rows * columns * depth // 4
        return 0

    @property
    def operand_bytes(self) -> int:
        """That wgmma reads from shared memory: 32 bytes for each of B's columns and, unless in registers, A's rows."""
        found = _GROUP_PRODUCT.match(self.name)
        if found is None:
            return 0
        a_shared = self.operands.split(",")[1].strip().startswith("gdesc")
        return 32 * (int(found[2]) + (int(found[1]) if a_shared else 0))


def disassemble(cubin: bytes) -> list[Instruction]:
    """The instructions of the cubin's one kernel, in the order of their addresses."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        listing = subprocess.run([tool, "-sass", file.name], capture_output=True, text=True, check=True).stdout
    return parse(listing)


def parse(listing: str) -> list[Instruction]:
    """As `disassemble`, of the text that `cuobjdump -sass` prints."""
    found = (match.groups() for match in _LINE.finditer(listing))
    return [Instruction(int(address, 16), guard or "", name, rest.strip()) for address, guard, name, rest in found]


def serialization(code: Sequence[Instruction]) -> float | None:
    """WARPGROUP.ARRIVE per wgmma: 1 where every product waits for the one before it, None where there is no wgmma."""
    products = sum(bool(_GROUP_PRODUCT.match(one.name)) for one in code)
    return sum(one.name == "WARPGROUP.ARRIVE" for one in code) / products if products else None


@dataclass(frozen=True)
class Loop:
    """The instructions of one iteration; branches inside are taken and not taken at once. repeated: those of the code
    that stand in a loop of their own, which multiplies matrices too."""

    code: tuple[Instruction, ...]
    repeated: tuple[Instruction, ...] = ()

    def unrolled(self, times: int) -> Loop:
        """With the loop inside of it written out so many times."""
        return Loop(self.code + self.repeated * (times - 1))

    @property
    def multiply_adds(self) -> int:
        """Of one warp; 0 on sm_100."""
        return sum(one.multiply_adds for one in self.code)

    @property
    def opcodes(self) -> Counter[str]:
        """How often each instruction stands in it, by the name without modifiers."""
        return Counter(one.name.split(".")[0] for one in self.code)


@dataclass(frozen=True)
class Clocks:
    """For which a program's iteration over one tile occupies units of an SM. tensor, operands: None where not known."""

    issue: float
    special: float
    tensor: float | None
    operands: float | None


def clocks(loop: Loop, arch: str, warps: int, multiply_adds: int) -> Clocks:
    """warps: how many execute the loop; multiply_adds: of the products of a whole tile, which all of them share."""
    issue = len(loop.code) * warps / SCHEDULERS
    special = loop.opcodes["MUFU"] * warps * LANES / SPECIAL_RESULTS
    by_warp = any(_WARP_PRODUCT.match(one.name) for one in loop.code)
    if by_warp and arch != "sm_80":
        return Clocks(issue, special, None, None)
    operands = sum(one.operand_bytes for one in loop.code) * warps / 4 / SHARED_BYTES
    done = loop.multiply_adds * warps if loop.multiply_adds else multiply_adds
    return Clocks(issue, special, done / MULTIPLY_ADDS[arch], operands if arch == "sm_90" else None)


def programs_of_an_sm(arch: str, registers: int, shared: int, warps: int, tensor_columns: int = 0) -> int:
    """How many programs an SM holds at once. registers: a thread; shared: bytes; tensor_columns: of tensor memory."""
    of_warp = -(-registers * LANES // 256) * 256
    limits = [
        REGISTERS // of_warp // warps,
        SHARED_OF_SM[arch] // (shared + RESERVED_BYTES),
        MOST_WARPS // warps,
        MOST_PROGRAMS,
    ]
    if tensor_columns:
        limits.append(TENSOR_COLUMNS // tensor_columns)
    return min(limits)


# --- control flow ---


def tile_loops(code: Sequence[Instruction]) -> list[Loop]:
    """The innermost loops that both multiply matrices and take exponentials, in the order of the code."""
    products = [(body, loop) for body, loop in _loops(code) if any(one.multiplies for one in loop.code)]
    tiles = [(body, loop) for body, loop in products if loop.opcodes["MUFU"]]
    found = []
    for body, loop in tiles:
        if not any(other < body for other, _ in tiles):
            inside = (inner.code for other, inner in products if other < body)
            found.append(Loop(loop.code, tuple(one for codes in inside for one in codes)))
    return found


def _loops(code: Sequence[Instruction]) -> list[tuple[frozenset[int], Loop]]:
    """Natural loops (Aho et al., Compilers, section 9.6) as their blocks and their code.

    A wait whose first try failed tries again behind the last EXIT: what lies there does not count.
    """
    blocks = _blocks(code)
    successors = _successors(blocks)
    dominators = _dominators(successors)
    bodies: dict[int, set[int]] = {}
    end = max((one.address for one in code if one.name == "EXIT"), default=code[-1].address)
    for tail, heads in enumerate(successors):
        for head in heads:
            if dominators[tail] >> head & 1:
                bodies.setdefault(head, {head}).update(_reaching(tail, head, successors))
    loops = []
    for _, body in sorted(bodies.items()):
        inside = [one for index in sorted(body) for one in blocks[index] if one.address <= end]
        loops.append((frozenset(body), Loop(tuple(inside))))
    return loops


def _target(one: Instruction) -> int | None:
    """Where a branch goes."""
    found = re.search(r"0x([0-9a-f]+)\s*$", one.operands) if one.name.split(".")[0] in ("BRA", "BSSY", "JMP") else None
    return int(found[1], 16) if found else None


def _ends_block(one: Instruction) -> bool:
    return one.name.split(".")[0] in ("BRA", "JMP", "EXIT", "BRX", "RET", "BSYNC")


def _blocks(code: Sequence[Instruction]) -> list[list[Instruction]]:
    """Stretches that are entered at their beginning and left at their end alone."""
    leaders = {code[0].address} | {target for one in code if (target := _target(one)) is not None}
    blocks: list[list[Instruction]] = []
    for before, one in zip((None, *code), code, strict=False):
        if before is None or one.address in leaders or _ends_block(before):
            blocks.append([])
        blocks[-1].append(one)
    return blocks


def _successors(blocks: list[list[Instruction]]) -> list[list[int]]:
    """Of each block the numbers of those that may follow it. An indirect branch is not followed."""
    number = {block[0].address: index for index, block in enumerate(blocks)}
    joins: dict[str, int | None] = {}  # a barrier -> where those who meet at it go on, by the last BSSY before
    found: list[list[int]] = []
    for index, block in enumerate(blocks):
        joins |= {one.operands.split(",")[0]: _target(one) for one in block if one.name.startswith("BSSY")}
        last, following = block[-1], []
        kind = last.name.split(".")[0]
        goes = _target(last) if kind in ("BRA", "JMP") else joins.get(last.operands) if kind == "BSYNC" else None
        if goes in number:
            following.append(number[goes])
        conditional = bool(last.guard) or (kind in ("BRA", "JMP") and "," in last.operands)
        if (conditional or not _ends_block(last)) and index + 1 < len(blocks):
            following.append(index + 1)
        found.append(following)
    return found


def _dominators(successors: list[list[int]]) -> list[int]:
    """Of each block the set of blocks, as bits, through which every way to it leads.

    A block that no branch leads to is entered from an indirect one, and so an entry of its own.
    """
    count = len(successors)
    before: list[list[int]] = [[] for _ in range(count)]
    for index, following in enumerate(successors):
        for successor in following:
            before[successor].append(index)
    entries = {0} | {index for index in range(count) if not before[index]}
    found = [1 << index if index in entries else (1 << count) - 1 for index in range(count)]
    changed = True
    while changed:
        changed = False
        for index in range(count):
            if index in entries:
                continue
            through = (1 << count) - 1
            for predecessor in before[index]:
                through &= found[predecessor]
            through |= 1 << index
            changed, found[index] = changed or through != found[index], through
    return found


def _reaching(tail: int, head: int, successors: list[list[int]]) -> set[int]:
    """The blocks from which `tail` can be reached without passing `head`."""
    found, grown = {tail, head}, True
    while grown:
        more = {
            index for index, following in enumerate(successors) if index not in found and found & {*following} - {head}
        }
        found |= more
        grown = bool(more)
    return found
