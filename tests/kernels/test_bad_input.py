"""Every wrong call: one ValueError that names the argument, what was given and what is wanted."""

# ruff: noqa: E501
from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

import kernels
from kernels import (
    Alibi,
    Dense,
    T5Bias,
    attention,
    cross_entropy,
    geglu,
    layer_norm,
    linear_cross_entropy,
    prepare_mask,
    rms_norm,
    rotary,
    rotary_tables,
    swiglu,
)

t = torch.zeros
Q, K = t(2, 6, 4, 8), t(2, 6, 2, 8)


def call(**arguments: Any) -> Callable[[], Any]:
    return lambda: attention(**({"q": Q, "k": K, "v": K} | arguments))


CASES: list[tuple[str, Callable[[], Any], str]] = [
    ("not four dimensions", call(q=t(6, 4, 8)), r"q is of shape \[6, 4, 8\], wanted \[batch"),
    ("integers", call(q=t(2, 6, 4, 8).long()), "q is torch.int64, wanted bfloat16"),
    ("batch", call(k=t(3, 6, 2, 8)), r"k is of shape \[3, 6, 2, 8\], wanted \[2, Sk"),
    ("k and v", call(v=t(2, 5, 2, 8)), r"v is of shape \[2, 5, 2, 8\], wanted \[2, 6, 2, 8\]"),
    ("head size", lambda: attention(*[t(1, 2, 1, 264)] * 3), "q is of head size 264, wanted a head size from 1 to 256"),
    ("kv heads", call(k=t(2, 6, 3, 8), v=t(2, 6, 3, 8)), "k is of 3 heads, wanted a number of heads that divides the 4"),
    ("mixed dtypes", call(v=K.half()), "v is torch.float16, wanted torch.float32"),
    ("device", call(k=K.to("meta")), "k is on meta, wanted on cpu"),
    ("backend name", call(backend="tritn"), "backend is 'tritn'.*did you mean 'triton'"),
    ("seed", call(dropout_p=0.1), "seed is None, wanted an integer"),
    ("seed kind", call(dropout_p=0.1, seed=1.5), "seed is 1.5, wanted an integer"),
    ("dropout rows", call(dropout_p=0.1, seed=1, dropout_rows=torch.arange(7)), r"dropout_rows is of shape \[7\], wanted"),
    ("dropout", call(dropout_p=1.0, seed=1), "dropout_p is 1.0, wanted a probability"),
    ("cu_seqlens order", lambda: attention(*[t(1, 6, 1, 8)] * 3, cu_seqlens=torch.tensor([0, 4, 3, 6])), r"cu_seqlens is \[0, 4, 3, 6\], wanted ascending"),
    ("cu_seqlens end", lambda: attention(*[t(1, 6, 1, 8)] * 3, cu_seqlens=torch.tensor([0, 4])), r"cu_seqlens is \[0, 4\].*\(6\)"),
    ("cu_seqlens batch", call(cu_seqlens=torch.tensor([0, 6])), "cu_seqlens is given with batch 2"),
    ("cu_seqlens causal pair", lambda: attention(*[t(1, 6, 1, 8)] * 3, causal=True, cu_seqlens=(torch.tensor([0, 6]),) * 2), "cu_seqlens is a pair with causal"),
    ("cu_seqlens and segments", call(cu_seqlens=torch.tensor([0, 6]), segments=t(2, 6).long()), "cu_seqlens is given together with segments"),
    ("segments shape", call(segments=t(2, 5).long()), r"segments is of shape \[2, 5\], wanted \[2, 6\]"),
    ("segments dtype", call(segments=t(2, 6)), "segments is torch.float32, wanted a tensor of integers"),
    ("segments single for cross", call(q=t(2, 3, 4, 8), segments=t(2, 6).long()), r"wanted a pair \(q_segments, k_segments\)"),
    ("order length", call(order=torch.arange(7)), r"order is of shape \[7\], wanted \[2, 6\] or \[6\]"),
    ("strict alone", call(strict=True), "strict is True without order"),
    ("kv_lens", call(kv_lens=torch.tensor([1, 2, 3])), r"kv_lens is of shape \[3\], wanted an int tensor \[2\]"),
    ("window kind", call(window=4), "window is 4, wanted a pair"),
    ("window value", call(window=(1, -2)), r"window is \(1, -2\), wanted token counts"),
    ("softcap", call(softcap=-1.0), "softcap is -1.0, wanted 0"),
    ("sink", call(sink=t(3)), r"sink is of shape \[3\], wanted \[4\]"),
    ("bias kind", call(bias=t(4)), "bias is Tensor, wanted None, Alibi"),
    ("alibi", call(bias=Alibi(t(2))), r"bias is Alibi with slopes \[2\], wanted slopes \[4\]"),
    ("alibi gradient", call(bias=Alibi(t(4).requires_grad_())), "slopes that require a gradient"),
    ("t5 table", call(bias=T5Bias(t(32, 3))), r"T5Bias with a table \[32, 3\], wanted \[32, 4\]"),
    ("t5 distance", call(bias=T5Bias(t(32, 4), max_distance=8)), "max_distance=8, wanted more than 8"),
    ("dense", call(bias=Dense(t(2, 4, 6, 5))), r"Dense of shape \[2, 4, 6, 5\], wanted broadcastable"),
    ("no tensor", call(q=[[1.0]]), "q is list, wanted a floating-point tensor"),
    ("nothing", call(k=None), "k is NoneType, wanted a floating-point tensor"),
    ("float8", lambda: attention(*[t(1, 2, 1, 8).to(torch.float8_e4m3fn)] * 3), "q is torch.float8_e4m3fn, wanted bfloat16"),
    ("flag", call(causal="no"), "causal is 'no', wanted True or False"),
    ("strict flag", call(order=torch.arange(6), strict=1), "strict is 1, wanted True or False"),
    ("lse flag", call(return_lse=None), "return_lse is None, wanted True or False"),
    ("scale word", call(scale="big"), "scale is 'big', wanted a finite number"),
    ("scale nan", call(scale=float("nan")), "scale is nan, wanted a finite number"),
    ("softcap flag", call(softcap=True), "softcap is True, wanted 0"),
    ("dropout word", call(dropout_p="0.1", seed=1), "dropout_p is '0.1', wanted a probability"),
    ("seed too large", call(dropout_p=0.1, seed=2**63), "seed is 9223372036854775808, wanted an integer of 64 bits"),
    ("seeds", call(dropout_p=0.1, seed=torch.tensor([1, 2])), r"seed is of shape \[2\], wanted an integer"),
    ("segments device", call(segments=t(2, 6, device="meta").long()), "segments is on meta, wanted on cpu"),
    ("segments rows", lambda: prepare_mask(6, device="cpu", segments=(t(2, 6).long(), t(3, 6).long())), "segments is a pair of 2 and 3 rows"),
    ("order device", call(order=t(6, device="meta").long()), "order is on meta, wanted on cpu"),
    ("kv_lens list", call(kv_lens=[1, 2]), r"kv_lens is list, wanted an int tensor \[2\]"),
    ("sink list", call(sink=[1.0] * 4), "sink is list, wanted a floating-point tensor"),
    ("sink integers", call(sink=t(4).long()), "sink is torch.int64, wanted bfloat16"),
    ("dense mask", call(bias=Dense(t(1, 1, 6, 6).bool())), "bias.tensor is torch.bool, wanted bfloat16"),
    ("dense device", call(bias=Dense(t(1, 1, 6, 6, device="meta"))), "bias.tensor is on meta, wanted on cpu"),
    ("alibi list", call(bias=Alibi([0.5] * 4)), "bias.slopes is list, wanted a floating-point tensor"),
    ("t5 integers", call(bias=T5Bias(t(32, 4).long())), "bias.table is torch.int64, wanted bfloat16"),
    ("t5 buckets", call(bias=T5Bias(t(32, 4), True, "32")), "bias.num_buckets is '32', wanted an integer"),
    ("bias class", call(bias=T5Bias), "bias is type, wanted None, Alibi"),
    ("mask kind", call(mask=t(6, 6)), "mask is Tensor, wanted what prepare_mask returns"),
    ("mask length", call(mask=prepare_mask(5, device="cpu")), "mask is prepared for 5 queries and 5 keys, wanted 6 and 6"),
    ("mask batch", call(mask=prepare_mask(6, device="cpu", segments=t(3, 6).long())), "mask is prepared for a batch of 3, wanted 2"),
    ("mask heads", call(mask=prepare_mask(6, device="cpu", bias=T5Bias(t(32, 5)))), r"T5Bias with a table \[32, 5\], wanted \[32, 4\]"),
    ("mask device", call(mask=prepare_mask(6, device="meta")), "mask is prepared on meta, wanted on cpu"),
    ("mask dtype", call(mask=prepare_mask(6, device="cpu", dtype=torch.bfloat16, bias=T5Bias(t(32, 4)))), "mask is prepared for torch.bfloat16"),
    ("mask twice", call(mask=prepare_mask(6, device="cpu"), causal=True), "mask is given together with causal"),
    ("prepare length", lambda: prepare_mask(-1, device="cpu"), "prepare_mask: q_len is -1, wanted a number of tokens"),
    ("prepare device", lambda: prepare_mask(6, device="gpu"), "prepare_mask: device is 'gpu', wanted a device"),
    ("sdpa softcap", call(backend="sdpa", softcap=2.0), "backend is 'sdpa', but it has no softcap"),
    ("sdpa sink", call(backend="sdpa", sink=t(4)), "backend is 'sdpa', but it has no sink"),
    ("sdpa lse", call(backend="sdpa", return_lse=True), "backend is 'sdpa', but it has no return_lse"),
    ("sdpa dropout", call(backend="sdpa", dropout_p=0.1, seed=1), "backend is 'sdpa', but it has no dropout_p"),
    ("triton float64", lambda: attention(*[t(1, 2, 1, 8).double()] * 3, backend="triton"), "dtypes are bfloat16"),
    ("norm weight", lambda: rms_norm(t(2, 8), t(7)), r"rms_norm: weight is of shape \[7\], wanted \[8\]"),
    ("norm residual", lambda: layer_norm(t(2, 8), t(8), residual=t(3, 8)), r"layer_norm: residual is of shape \[3, 8\], wanted \[2, 8\]"),
    ("norm eps", lambda: rms_norm(t(2, 8), t(8), eps="small"), "rms_norm: eps is 'small', wanted a number"),
    ("norm sum triton", lambda: rms_norm(t(2, 8), t(8), residual=t(2, 8).double(), backend="triton"), "not torch.float64"),
    ("norm backend", lambda: rms_norm(t(2, 8), t(8), backend="sdpa"), "rms_norm: backend is 'sdpa', wanted one of"),
    ("rotary table", lambda: rotary(t(1, 3, 1, 8), t(4, 4), t(4, 4)), r"rotary: cos is of shape \[4, 4\], wanted \[3, R/2\]"),
    ("rotary too long", lambda: rotary(t(1, 3, 1, 8), t(3, 5), t(3, 5)), "R up to 8"),
    ("rotary size", lambda: rotary_tables(torch.arange(3), 5), "rotary_tables: rotary_dim is 5, wanted an even number"),
    ("rotary positions", lambda: rotary_tables([0, 1], 4), "rotary_tables: positions is list, wanted a tensor"),
    ("rotary base", lambda: rotary_tables(torch.arange(3), 4, 0.0), "rotary_tables: base is 0.0, wanted a positive"),
    ("gated float64", lambda: swiglu(t(2, 4).double(), t(2, 4).double(), backend="triton"), "not torch.float64"),
    ("gated scalar", lambda: swiglu(t(()), t(())), r"swiglu: gate is of shape \[\], wanted"),
    ("swiglu", lambda: swiglu(t(2, 4), t(2, 5)), r"swiglu: up is torch.float32 \[2, 5\], wanted torch.float32 \[2, 4\]"),
    ("geglu dtype", lambda: geglu(t(2, 4), t(2, 4).half()), "geglu: up is torch.float16"),
    ("targets range", lambda: cross_entropy(t(3, 5), torch.tensor([0, 5, 1])), "targets is 5 somewhere, wanted 0 to 4"),
    ("targets list", lambda: cross_entropy(t(3, 5), [0, 1, 2]), "targets is list, wanted a tensor of integers"),
    ("no classes", lambda: cross_entropy(t(3, 0), t(3).long()), r"logits is of shape \[3, 0\], wanted"),
    ("loss scalar", lambda: cross_entropy(t(()), t(()).long()), r"logits is of shape \[\], wanted"),
    ("targets shape", lambda: cross_entropy(t(3, 5), torch.tensor([0])), r"targets is of shape \[1\], wanted \[3\]"),
    ("targets dtype", lambda: cross_entropy(t(3, 5), t(3)), "targets is torch.float32"),
    ("smoothing", lambda: cross_entropy(t(3, 5), t(3).long(), label_smoothing=1.0), "label_smoothing is 1.0"),
    ("smoothing word", lambda: cross_entropy(t(3, 5), t(3).long(), label_smoothing="a"), "label_smoothing is 'a'"),
    ("linear weight", lambda: linear_cross_entropy(t(3, 5), t(7, 4), t(3).long()), r"weight is of shape \[7, 4\]"),
    ("chunk", lambda: linear_cross_entropy(t(3, 5), t(7, 5), t(3).long(), chunk=0), "chunk is 0, wanted a number of tok"),
]  # fmt: skip


@pytest.mark.parametrize(("work", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_one_line_that_names_the_argument(work: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        work()
    assert isinstance(caught.value, kernels.KernelInputError) and "\n" not in str(caught.value)


def test_triton_on_a_device_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    for work in (call(backend="triton"), lambda: rms_norm(t(2, 8), t(8), backend="triton")):
        with pytest.raises(
            ValueError, match=r"backend is 'triton', but triton has no kernels for device type 'cpu'; use"
        ):
            work()


def test_auto_logs_its_choice_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels import backends

    monkeypatch.setattr(backends, "_logged", set())
    with caplog.at_level(logging.INFO, logger="kernels"):
        for _ in range(3):
            attention(Q, K, K)
            attention(Q, K, K, softcap=2.0)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 and "backend sdpa" in lines[0]
    assert "backend reference" in lines[1] and "softcap" in lines[1]


def test_importing_does_not_import_triton() -> None:
    code = (
        "import sys, kernels, torch; kernels.attention(*[torch.zeros(1, 2, 1, 4)] * 3); print('triton' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
