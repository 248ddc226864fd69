"""Which implementation of a kernel runs.

Pure functions of names, without torch: `kernels` asks them when a kernel is called, `trainer.books` when it foresees
what a run will need. So a plan speaks of what runs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

ATTENTION = ("auto", "triton", "sdpa", "reference")
OTHERS = ("auto", "triton", "torch", "reference")
EXPERTS = ("auto", "torch", "reference")

# Fields of an attention that PyTorch's scaled_dot_product_attention has no means for. Its dropout draws from the global
# generator, not from (seed, row, column).
SDPA_LACKS = ("softcap", "sink", "return_lse", "dropout_p")


BACKWARD = ("two_pass", "ordered")

# The backward pass in one walk keeps tiles of dK, dV and dQ in registers at once; of larger heads they spill.
ORDERED_HEAD = 64


class Choice(NamedTuple):
    """A backend, and why it."""

    backend: str
    reason: str


def sdpa_lacks(fields: Collection[str]) -> str | None:
    """The first of these fields of an attention that SDPA has no means for, or None."""
    return next((field for field in SDPA_LACKS if field in fields), None)


def attention_backend(asked: str, device: str, fields: Collection[str] = (), no_triton: str | None = None) -> Choice:
    """Who computes an attention that uses these fields, on a device of this type ("cuda", "cpu").

    auto: SDPA where it has every field, else Triton on a GPU, else the reference. no_triton: why Triton cannot run.
    What is asked by name is what is chosen, whether it can or not.
    """
    if asked != "auto":
        return Choice(asked, "asked for")
    field = sdpa_lacks(fields)
    if field is None:
        return Choice("sdpa", "it has every field asked for")
    if device == "cuda" and no_triton is None:
        return Choice("triton", f"sdpa has no {field}")
    return Choice("reference", f"no GPU, and sdpa has no {field}")


def ordered_lacks(head_dim: int, element_bytes: int) -> str | None:
    """Why the backward pass of Triton's attention takes two walks where one in order was asked for, or None."""
    if element_bytes != 2:
        return "its dtypes are bfloat16 and float16"
    return f"its heads are of at most {ORDERED_HEAD} channels, not {head_dim}" if head_dim > ORDERED_HEAD else None


def ordered_bytes(rows: int, heads: int, q_len: int, k_len: int, head_dim: int) -> int:
    """What the ordered backward pass of one layer holds beside the gradients: dQ in float32, heads filled up to a power
    of two and queries to whole tiles, and counters for tiles of keys. Tiles are of up to 128 queries and at least 64
    keys."""
    columns = max(16, 1 << (head_dim - 1).bit_length())
    return 4 * (rows * heads * (-(-q_len // 128) * 128 * columns + -(-k_len // 64)) + 1)


def backend(asked: str, device: str, no_triton: str | None = None) -> Choice:
    """Who computes a norm, rotary positions, a gated product or a loss. auto: Triton on a GPU, else PyTorch."""
    if asked != "auto":
        return Choice(asked, "asked for")
    if device != "cuda":
        return Choice("torch", "no GPU")
    return Choice("torch", no_triton) if no_triton else Choice("triton", "a GPU")


def experts_backend(asked: str) -> Choice:
    """Who computes the grouped products of a mixture of experts. auto: PyTorch, everywhere."""
    return Choice("torch", "PyTorch's everywhere") if asked == "auto" else Choice(asked, "asked for")


def output_layer_backend(asked: str, device: str) -> str | None:
    """Who computes the output layer together with its loss, without ever holding all logits: "triton", "chunked" (the
    same in PyTorch's operations), or None where the logits are made first and the loss from them."""
    chosen = asked if asked != "auto" else backend(asked, device).backend
    return chosen if chosen in ("triton", "chunked") else None
