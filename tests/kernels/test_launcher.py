"""The launcher takes the kernel that Triton would take (launch_worker.py), and operators are called directly only where
nobody looks on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kernels import attention

WORKER = Path(__file__).with_name("launch_worker.py")
CHECKS = [line.split("(")[0][4:] for line in WORKER.read_text().splitlines() if line.startswith("def check_")]


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(WORKER.parents[2])
    done = subprocess.run([sys.executable, str(WORKER)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("check", CHECKS)
def test_launcher(check: str, found: dict[str, str]) -> None:
    assert found[check] == ""


class Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def inputs(device: str) -> list[torch.Tensor]:
    return [torch.randn(1, 20, 2, 16, device=device, requires_grad=True) for _ in range(3)]


def test_a_dispatch_mode_sees_the_operators(device: str) -> None:
    q, k, v = inputs(device)
    with Seen() as seen:
        out = attention(q, k, v, causal=True, backend="triton")
        torch.autograd.grad(out.sum(), (q, k, v))
    assert "isoflop.attention.default" in seen.names
    assert "isoflop.attention_backward.default" in seen.names


def test_directly_and_by_the_operator_values_and_gradients_are_equal(device: str) -> None:
    q, k, v = inputs(device)

    def result() -> tuple[torch.Tensor, ...]:
        sink = torch.zeros(2, device=device, requires_grad=True)
        out, lse = attention(q, k, v, causal=True, sink=sink, return_lse=True, backend="triton")
        return out, lse, *torch.autograd.grad(out.square().sum() + lse.sum(), (q, k, v, sink))

    direct = result()
    with Seen():
        dispatched = result()
    assert all(torch.equal(a, b) for a, b in zip(direct, dispatched, strict=True))
    with torch.no_grad():
        assert torch.equal(
            attention(q, k, v, causal=True, backend="triton"), attention(q, k, v, causal=True, backend="triton")
        )


def test_a_subclass_is_seen_by_the_operator(device: str) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        q, k, v = (torch.empty(1, 20, 2, 16, requires_grad=True) for _ in range(3))
        out = attention(q, k, v, causal=True, backend="triton")
        assert out.shape == q.shape
        assert [one.shape for one in torch.autograd.grad(out.sum(), (q, k, v))] == [q.shape] * 3


def test_gradients_of_gradients_are_refused(device: str) -> None:
    q, k, v = inputs(device)
    out = attention(q, k, v, causal=True, backend="triton")
    (dq,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dq.sum().backward()


def test_what_only_the_dispatcher_knows_of_a_tensor_counts(device: str) -> None:
    """The imaginary part of a conjugate: PyTorch keeps the numbers and marks them as negative."""
    parts = [torch.randn(1, 20, 2, 16, dtype=torch.complex64, device=device) for _ in range(3)]
    marked, plain = ([one.conj().imag for one in parts], [one.imag * -1 for one in parts])
    assert marked[0].is_neg() and not plain[0].is_neg()
    found, wanted = (attention(*three, causal=True, backend="triton") for three in (marked, plain))
    assert torch.equal(found, wanted)
