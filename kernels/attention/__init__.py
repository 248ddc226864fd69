"""Attention for every mask and bias of the model zoo: one specification, several backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kernels import choice, configs
from kernels.attention.arguments import build_spec, check_bias
from kernels.attention.masks import PreparedMask, hide
from kernels.attention.reference import reference_attention
from kernels.attention.sdpa import sdpa_attention, sdpa_mask
from kernels.attention.spec import MAX_HEAD_DIM, Alibi, AttentionSpec, Bias, Dense, T5Bias
from kernels.backends import (
    autocast_dtype,
    backend_error,
    check_backend,
    log_choice,
    triton_lacks,
    without_autocast,
)
from kernels.checks import check_float, check_whole
from kernels.errors import refuse, refuse_name, shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    Index = Tensor | Sequence[Tensor]

__all__ = [
    "Alibi",
    "AttentionSpec",
    "Dense",
    "PreparedMask",
    "T5Bias",
    "attention",
    "prepare_mask",
]


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    bias: Bias | None = None,
    segments: Index | None = None,
    cu_seqlens: Index | None = None,
    kv_lens: Tensor | None = None,
    order: Index | None = None,
    strict: bool = False,
    softcap: float = 0.0,
    sink: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    dropout_rows: Tensor | None = None,
    scale: float | None = None,
    return_lse: bool = False,
    places: tuple[int, int] | None = None,
    backend: str = "auto",
    backward: str = "two_pass",
    mask: PreparedMask | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Softmax attention, differentiable in q, k, v, the bias and the sink.

    q: [B, Sq, H, D]; k, v: [B, Sk, Hkv, D] with H a multiple of Hkv; any strides; bf16, fp16, fp32 (fp64 without
        triton); D up to 256. Positions are aligned at the bottom right where Sq != Sk.
    causal: no key after the query's position. window: (left, right) tokens around it, None or -1 for no bound.
    bias: `Alibi(slopes)`, `T5Bias(table, ...)` or `Dense(tensor)`, added to the scores after scaling and soft-cap.
    segments: int [B, S], or a pair for queries and keys; tokens of different segments do not see each other, and a
        negative segment (padding) sees nothing and is seen by nothing.
    cu_seqlens: int [documents + 1], the same for documents packed in one row (B = 1): ascending from 0 to S.
    kv_lens: int [B], keys from there on are padding; outside of 0 to Sk as at these.
    order: int [B, S] or [S] (or a pair), the rank of each token in a factorization order: a query sees keys of rank <=
        its own, with `strict` < its own (the content and query streams of XLNet, arXiv 1906.08237).
    softcap: scores become softcap * tanh(scores / softcap), 0 for off. sink: [H], a logit a head that takes
        probability and gives nothing.
    dropout_p, seed: dropout on the probabilities by a counter generator; the same seed gives the same mask in every
        backend that has dropout. dropout_rows: int [B], numbers that name the batch rows there, so that a row has its
        mask wherever it stands; default 0 to B - 1. scale: default D ** -0.5.
    return_lse: also return the natural log of the softmax denominator (sink included), float32 [B, H, Sq], whose
        gradient flows back; -inf for a row that sees nothing.
    places: where queries and keys are parts of a longer sequence, the positions of the first of each, from which
        causality, windows, biases and dropout count. reference has it, triton without alibi, t5 and dropout.
    backend: "triton", "sdpa", "reference", or "auto": on a CPU sdpa where it has every field asked for, else the
        reference; on a GPU the faster of triton and sdpa (`kernels.choice.attention_backend`). Logged once.
    backward: of triton, "two_pass", or "ordered": dQ, dK and dV in one walk whose programs wait for their turn, with dQ
        in float32 beside it; for bf16 and fp16 up to a head size of 64 where the GPU has tiles for it, else two
        passes, which is logged once. Either repeats bit for bit.
    mask: a `PreparedMask` in place of causal, window, segments, cu_seqlens, kv_lens, order and strict.

    Under autocast q, k and v are cast to its dtype first, in every backend (float64 is left alone, as PyTorch's own
    attention leaves it); biases, sinks and statistics keep theirs. Outside of it q, k and v must be of one dtype.

    Rows that see nothing give 0 with zero gradient. Returns out [B, Sq, H, D] in q's dtype, or (out, lse).
    Raises ValueError naming the argument, what was given and what is wanted; never ignores a field.
    """
    check_backend("attention", backend, choice.ATTENTION)
    if backward not in choice.BACKWARD:
        raise refuse_name("attention", "backward", backward, choice.BACKWARD)
    q, k, v = (_cast(name, tensor) for name, tensor in (("q", q), ("k", k), ("v", v)))
    _check_tensors(q, k, v)
    batch, q_len, heads, head_dim = q.shape
    k_len = k.shape[1]
    if mask is not None:
        _check_prepared(mask, bias, (causal, window, segments, cu_seqlens, kv_lens, order, strict), q, k)
    spec = build_spec(
        q_len=q_len,
        k_len=k_len,
        batch=batch,
        heads=heads,
        device=q.device,
        causal=causal,
        window=window,
        bias=bias,
        segments=segments,
        cu_seqlens=cu_seqlens,
        kv_lens=kv_lens,
        order=order,
        strict=strict,
        softcap=softcap,
        sink=sink,
        dropout_p=dropout_p,
        seed=seed,
        dropout_rows=dropout_rows,
        scale=head_dim**-0.5 if scale is None else scale,
        return_lse=return_lse,
        held=None if mask is None else mask.spec,
        places=places,
    )
    fields = spec.fields(q_len, k_len)
    chosen = _choose("attention", backend, fields, q.device, q.dtype, head_dim)
    if backend == "sdpa":
        _check_sdpa("attention", spec, fields)
    if chosen == "triton":
        from kernels.attention.triton import triton_attention

        reaches, values = (None, None) if mask is None else (mask.reaches, mask.values)
        out, lse = triton_attention(q, k, v, spec, reaches, values, backward == "ordered")
    elif chosen == "reference":
        with without_autocast(q.device):
            out, lse = reference_attention(q, k, v, spec)
    else:
        if mask is not None and mask.backend == "sdpa" and (spec.bias is None or mask.additive is not None):
            visible, additive = mask.visible, mask.additive
        elif mask is not None and mask.visible is not None and isinstance(spec.bias, Dense):
            visible, additive = None, hide(spec.bias.tensor.to(q.dtype), mask.visible)  # the mask is of all layers
        else:
            visible, additive = sdpa_mask(spec, q_len, k_len, q)
        return sdpa_attention(q, k, v, spec, visible, additive)
    return (out, lse) if return_lse else out


# In `kernels` this function takes the place of its package: `import kernels.attention.triton as x` looks at it, then
# for a module under its name.
attention.__name__ = __name__


def prepare_mask(
    q_len: int,
    k_len: int | None = None,
    *,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    bias: Bias | None = None,
    segments: Index | None = None,
    cu_seqlens: Index | None = None,
    kv_lens: Tensor | None = None,
    order: Index | None = None,
    strict: bool = False,
    backend: str = "auto",
    head_dim: int | None = None,
    fields: Sequence[str] = (),
) -> PreparedMask:
    """Build once per forward pass what every layer's `attention(..., mask=...)` shares; arguments as there.

    q_len, k_len: sequence lengths (k_len defaults to q_len). dtype: that of q, for the bias; autocast casts it as it
    does q. A bias given here is shared by all layers, and its gradient is the sum over them; a bias of its own per
    layer goes to `attention`.
    head_dim, fields: of those calls, and which of softcap, sink, return_lse, dropout_p and dense (a bias of their own)
        they give beside the mask, so that auto chooses alike here and there.
    """
    check_backend("prepare_mask", backend, choice.ATTENTION)
    k_len = q_len if k_len is None else k_len
    for name, length in (("q_len", q_len), ("k_len", k_len)):
        check_whole("prepare_mask", name, length, "a number of tokens", low=0)
    try:
        device = torch.empty(0, device=device).device
    except RuntimeError:
        raise refuse("prepare_mask", "device", repr(device), "a device that PyTorch has here") from None
    spec = build_spec(
        q_len=q_len,
        k_len=k_len,
        batch=None,
        heads=None,
        device=device,
        causal=causal,
        window=window,
        bias=bias,
        segments=segments,
        cu_seqlens=cu_seqlens,
        kv_lens=kv_lens,
        order=order,
        strict=strict,
        function="prepare_mask",
    )
    like = torch.empty(0, device=device, dtype=dtype)
    like = like.to(autocast_dtype(like))
    used = (*spec.fields(q_len, k_len), *fields)
    chosen = _choose("prepare_mask", backend, used, device, like.dtype, head_dim)
    visible = additive = reaches = values = None
    if chosen == "sdpa":
        visible, additive = sdpa_mask(spec, q_len, k_len, like)
    elif chosen == "triton":
        from kernels.attention.triton import bucket_values, segment_reaches

        reaches = segment_reaches(spec)
        values = bucket_values(bias, device) if isinstance(bias, T5Bias) else None
    return PreparedMask(spec, q_len, k_len, device, chosen, visible, additive, reaches, values)


def _cast(name: str, tensor: Tensor) -> Tensor:
    """To autocast's dtype, where it is on."""
    return check_float("attention", name, tensor).to(autocast_dtype(tensor))


def _check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.dim() != 4:
            raise refuse("attention", name, f"of shape {shape(tensor)}", "[batch, length, heads, head_dim]")
        if tensor.dtype != q.dtype:
            raise refuse("attention", name, tensor.dtype, f"{q.dtype}, the dtype of q")
        if tensor.device != q.device:
            raise refuse("attention", name, f"on {tensor.device}", f"on {q.device}, the device of q")
    batch, _, heads, head_dim = q.shape
    if head_dim < 1 or head_dim > MAX_HEAD_DIM:
        raise refuse("attention", "q", f"of head size {head_dim}", f"a head size from 1 to {MAX_HEAD_DIM}")
    if k.shape[0] != batch or k.shape[3] != head_dim:
        wanted = f"[{batch}, Sk, Hkv, {head_dim}] to match q {shape(q)}"
        raise refuse("attention", "k", f"of shape {shape(k)}", wanted)
    if v.shape != k.shape:
        raise refuse("attention", "v", f"of shape {shape(v)}", f"{shape(k)}, the shape of k")
    if k.shape[2] == 0 or heads % k.shape[2]:
        wanted = f"a number of heads that divides the {heads} of q"
        raise refuse("attention", "k", f"of {k.shape[2]} heads", wanted)


def _check_prepared(mask: PreparedMask, bias: Bias | None, others: tuple[object, ...], q: Tensor, k: Tensor) -> None:
    if not isinstance(mask, PreparedMask):
        raise refuse("attention", "mask", type(mask).__name__, "what prepare_mask returns")
    if any(value is not None and value is not False for value in others):
        given = "given together with causal, window, segments, cu_seqlens, kv_lens, order or strict"
        raise refuse("attention", "mask", given, "the mask alone; it holds them already")
    if bias is not None and mask.spec.bias is not None:
        raise refuse("attention", "bias", "given beside a mask that holds one", "one of the two")
    batch, q_len, heads, _ = q.shape
    k_len = k.shape[1]
    if (mask.q_len, mask.k_len) != (q_len, k_len):
        lengths = f"{mask.q_len} queries and {mask.k_len} keys"
        raise refuse("attention", "mask", f"prepared for {lengths}", f"{q_len} and {k_len}")
    if mask.device != q.device:
        raise refuse("attention", "mask", f"prepared on {mask.device}", f"on {q.device}, the device of q")
    held = mask.spec
    for index in (held.q_segments, held.q_order, held.kv_lens):
        # One comparison after the other: in a set, a compiler's symbol for any number becomes this number.
        if index is not None and index.shape[0] != 1 and index.shape[0] != batch:
            raise refuse("attention", "mask", f"prepared for a batch of {index.shape[0]}", f"{batch}, the batch of q")
    if mask.additive is not None and mask.additive.dtype != q.dtype:
        raise refuse("attention", "mask", f"prepared for {mask.additive.dtype}", f"{q.dtype}, the dtype of q")
    check_bias(held.bias, q_len, k_len, batch, heads, q.device, "attention")


def _choose(
    function: str,
    backend: str,
    fields: tuple[str, ...],
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int | None,
) -> str:
    """The backend; raises KernelInputError where Triton is asked for and cannot run."""
    lacks = triton_lacks(device, dtype) if backend in ("auto", "triton") else None
    setting = choice.Setting(configs.chip(device), head_dim, dtype in (torch.bfloat16, torch.float16))
    chosen, reason = choice.attention_backend(backend, device.type, fields, lacks, setting)
    if backend == "auto":
        log_choice(function, chosen, device, reason)
    elif backend == "triton" and lacks:
        raise backend_error(function, backend, lacks, "use backend='auto', 'sdpa' or 'reference'")
    return chosen


# A graph holds what was chosen, and its making says so. This is all that torch.compiler.assume_constant_result does,
# but its import brings the whole compiler, and Triton with it.
_choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _check_sdpa(function: str, spec: AttentionSpec, fields: Sequence[str]) -> None:
    """Raise KernelInputError for a field that SDPA, which was asked for, has no means for."""
    if field := choice.sdpa_lacks(fields):
        value = getattr(spec, field)
        given = "given" if isinstance(value, Tensor) else f"{value}"
        raise backend_error(function, "sdpa", f"it has no {field} ({field} is {given})", "use 'triton' or 'auto'")
