"""Which implementation of a kernel runs.

Pure functions of names, without torch: `kernels` asks them when a kernel is called, `trainer.books` when it foresees
what a run will need. So a plan speaks of what runs.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import NamedTuple

ATTENTION = ("auto", "triton", "sdpa", "reference")
OTHERS = ("auto", "triton", "torch", "reference")
EXPERTS = ("auto", "torch", "reference")

# Fields of an attention that PyTorch's scaled_dot_product_attention has no means for. Its dropout draws from the global
# generator, not from (seed, row, column).
SDPA_LACKS = ("softcap", "sink", "return_lse", "dropout_p", "places")
# Fields for which SDPA reads a tensor of queries x keys, a bias or a mask, and skips no tile of it; the costly first.
# offset: causality where queries and keys are not of one length, which SDPA aligns at the top left.
SQUARE = ("dense", "t5", "alibi", "order", "segments", "kv_lens", "window", "offset")
ONE_QUERY = "one_query"  # a token is written: what SDPA reads is a row
OLDEST_CHIP = 80  # compute capability 8.0: what Triton's compiler takes


BACKWARD = ("two_pass", "ordered")

# The backward pass in one walk keeps tiles of dK, dV and dQ in registers at once; of larger heads they spill.
ORDERED_HEAD = 64


class Choice(NamedTuple):
    """A backend, and why it."""

    backend: str
    reason: str


class Ratio(NamedTuple):
    """How many times as fast as SDPA's fastest kernel Triton's is, forward and backward; and who says so."""

    triton_over_sdpa: float
    source: str  # "measured: ..." or "estimated: ..."


class Setting(NamedTuple):
    """Where an attention runs, by which speed goes. chip: as `kernels/table.py` names it, None: not known. head: its
    size. half: bf16 or fp16."""

    chip: str | None = None
    head: int | None = None
    half: bool = True


def sdpa_lacks(fields: Collection[str]) -> str | None:
    """The first of these fields of an attention that SDPA has no means for, or None."""
    return next((field for field in SDPA_LACKS if field in fields), None)


def triton_lacks(chip: str | None) -> str | None:
    """Why Triton has no kernels for a chip, or None: also where the chip is not known."""
    if chip is None or not chip.startswith("sm_") or int(chip[3:]) >= OLDEST_CHIP:
        return None
    return f"triton wants compute capability 8.0, and this chip is {chip}"


def attention_kind(fields: Collection[str]) -> str:
    """What speed goes by: the costliest of these fields for SDPA; else "causal" or "plain"."""
    if ONE_QUERY in fields:
        return ONE_QUERY
    return next((field for field in SQUARE if field in fields), "causal" if "causal" in fields else "plain")


@cache
def speeds() -> dict[str, dict[str, dict[str, Ratio]]]:
    """kernels/speed.json: chip -> kind -> head size (64, 128, 256) -> ratio, in half precision."""
    table = json.loads(Path(__file__).with_name("speed.json").read_text(encoding="utf-8"))
    return {
        chip: {
            kind: {head: Ratio(float(entry["triton_over_sdpa"]), str(entry["source"])) for head, entry in heads.items()}
            for kind, heads in kinds.items()
        }
        for chip, kinds in table.items()
    }


def speed(kind: str, setting: Setting) -> Ratio | None:
    """The ratio that is stated, None where none is."""
    if setting.chip is None or setting.head is None or not setting.half:
        return None
    head = next((size for size in (64, 128) if setting.head <= size), 256)
    return speeds().get(setting.chip, {}).get(kind, {}).get(str(head))


def attention_backend(
    asked: str,
    device: str,
    fields: Collection[str] = (),
    no_triton: str | None = None,
    setting: Setting = Setting(),  # noqa: B008 - immutable
) -> Choice:
    """Who computes an attention that uses these fields, on a device of this type ("cuda", "cpu").

    auto: where SDPA lacks a field Triton on a GPU, else the reference. Where it lacks none: SDPA on a CPU; on a GPU the
    faster of the two by `speeds`, and where no ratio is stated Triton if SDPA would read a tensor of queries x keys,
    else SDPA. no_triton: why Triton cannot run. What is asked by name is what is chosen, whether it can or not.
    """
    if asked != "auto":
        return Choice(asked, "asked for")
    lacking = sdpa_lacks(fields)
    if device != "cuda":
        if lacking is None:
            return Choice("sdpa", "it has every field asked for")
        return Choice("reference", f"no GPU, and sdpa has no {lacking}")
    no_triton = no_triton or triton_lacks(setting.chip)
    if no_triton is not None:
        rest = "" if lacking is None else f", and sdpa has no {lacking}"
        return Choice("reference" if lacking else "sdpa", f"{no_triton}{rest}")
    if lacking is not None:
        return Choice("triton", f"sdpa has no {lacking}")
    return _faster(attention_kind(fields), setting)


def _faster(kind: str, setting: Setting) -> Choice:
    ratio = speed(kind, setting)
    if ratio is not None:
        how = f"head size {setting.head} on {setting.chip}: triton is {ratio.triton_over_sdpa:g} times sdpa"
        return Choice("triton" if ratio.triton_over_sdpa > 1 else "sdpa", f"{kind}, {how}; {ratio.source}")
    if kind in SQUARE:
        return Choice("triton", f"sdpa would read a tensor of queries x keys for {kind}; no ratio of speed is stated")
    return Choice("sdpa", f"{kind.replace('_', ' ')} wants no tensor of queries x keys; no ratio of speed is stated")


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
