"""Tile sizes per GPU. Regenerate on a GPU with `python scripts/bench/tune.py`.

ATTENTION: architecture -> (kernel, head size, bytes per element) -> (block_m, block_n, warps, stages).
ROWS: (columns at most, warps) for kernels that hold one row in registers.

No entry was timed on a GPU yet: they are the largest tiles that compile without a spill and within shared memory
(tests/kernels/test_compile_matrix.py compiles every one).
"""

from __future__ import annotations

Key = tuple[str, int, int]
Entry = tuple[int, int, int, int]

_SM80: dict[Key, Entry] = {
    ("forward", 32, 2): (128, 64, 4, 3),
    ("forward", 64, 2): (128, 64, 4, 3),
    ("forward", 128, 2): (128, 64, 8, 3),
    ("forward", 256, 2): (64, 64, 8, 2),
    ("dq", 32, 2): (128, 64, 8, 2),
    ("dq", 64, 2): (128, 64, 8, 2),
    ("dq", 128, 2): (64, 64, 8, 2),
    ("dq", 256, 2): (64, 32, 8, 1),
    ("dkdv", 32, 2): (64, 128, 8, 2),
    ("dkdv", 64, 2): (64, 128, 8, 2),
    ("dkdv", 128, 2): (64, 64, 8, 2),
    ("dkdv", 256, 2): (32, 64, 8, 1),
    ("bias", 32, 2): (64, 64, 4, 2),
    ("bias", 64, 2): (64, 64, 4, 2),
    ("bias", 128, 2): (64, 64, 8, 1),
    ("bias", 256, 2): (32, 32, 4, 1),
    ("forward", 32, 4): (64, 32, 4, 2),
    ("forward", 64, 4): (64, 32, 4, 2),
    ("forward", 128, 4): (64, 32, 8, 2),
    ("forward", 256, 4): (32, 32, 8, 1),
    ("dq", 32, 4): (64, 32, 4, 2),
    ("dq", 64, 4): (64, 32, 8, 2),
    ("dq", 128, 4): (32, 32, 8, 1),
    ("dq", 256, 4): (32, 16, 8, 1),
    ("dkdv", 32, 4): (32, 64, 4, 2),
    ("dkdv", 64, 4): (32, 64, 8, 2),
    ("dkdv", 128, 4): (32, 32, 8, 1),
    ("dkdv", 256, 4): (16, 32, 8, 1),
    ("bias", 32, 4): (32, 32, 4, 1),
    ("bias", 64, 4): (32, 32, 4, 1),
    ("bias", 128, 4): (32, 32, 4, 1),
    ("bias", 256, 4): (16, 16, 4, 1),
}

ATTENTION: dict[str, dict[Key, Entry]] = {
    "sm_80": _SM80,
    "sm_86": dict(_SM80),
    "sm_90": dict(_SM80),
    "sm_100": dict(_SM80),
    "sm_120": dict(_SM80),
    "gfx942": dict(_SM80),
    "gfx950": dict(_SM80),
}

ROWS: tuple[tuple[int, int], ...] = ((1024, 4), (4096, 8), (65536, 16))
