"""How the fused loss divides its work: rows of logits at a time, and columns of them.

Pure functions of numbers, without torch: the operator asks them when it runs, `trainer.books` when it foresees what a
run will hold.
"""

from __future__ import annotations

LOGITS_BYTES = {"cuda": 1 << 29, "cpu": 1 << 28}  # that a chunk takes at most, unless 128 rows take more
COLUMNS = 64  # half-precision columns that are 128 bytes


def padded_columns(classes: int, element_bytes: int, device: str, pad_to: int | None = None) -> int:
    """Columns of the logits' buffer: `classes` up to the next multiple of `pad_to`.

    By default of 64 for numbers of two bytes on a GPU, else of 1. There TMA wants rows that begin at multiples of 16
    bytes (8 columns; GPT-2's 50,257 allow 2 bytes), and at 128 bytes a row begins with a cache line and a swizzle
    span. A multiple of 128 would bring nothing more: a product's last tile is cut off at the same place.
    """
    multiple = pad_to or (COLUMNS if device == "cuda" and element_bytes == 2 else 1)
    return -(-classes // multiple) * multiple


def rows_per_chunk(rows: int, columns: int, element_bytes: int, device: str, chunk: int = 0) -> int:
    """`chunk` tokens if given, else a power of two whose logits take up to LOGITS_BYTES, but at most an eighth of the
    rows, so that memory falls for small vocabularies too; from 128 on, on a GPU from 4,096 on where they fit.

    A chunk adds its part to the float32 gradient of the matrix, 8 bytes read and written for each of its numbers,
    while its three products take 6 FLOPs a number and row. On a chip of F FLOP/s and B bytes/s the first takes 4 F /
    (3 B rows) of the second: at 4,096 rows 5% at an H200's 600 TFLOP/s and 4 TB/s, 10% at 2,048.
    """
    if chunk > 0:
        return chunk
    kind = "cuda" if device == "cuda" else "cpu"
    fitting = _power_of_two(LOGITS_BYTES[kind] // max(1, columns * element_bytes))
    eighth = 1 << max(0, rows // 8).bit_length()
    size = max(128, min(fitting, max(eighth, 4096 if kind == "cuda" else 1)))
    return min(size, max(1, rows))


def _power_of_two(number: int) -> int:
    """The largest up to this number, at least 1."""
    return 1 << (max(1, number).bit_length() - 1)
