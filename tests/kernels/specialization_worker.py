"""Prints, for each attention kernel, under how many keys Triton would compile it for batches of several lengths.

In a process of its own, without the interpreter: launches are caught before they need a GPU."""

from __future__ import annotations

import json
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from triton.backends.nvidia.compiler import CUDABackend
from triton.runtime import driver
from triton.runtime.jit import JITFunction, create_function_from_signature

from kernels import T5Bias
from kernels.attention.spec import AttentionSpec
from kernels.attention.triton import triton_attention

KEYS: dict[str, set[str]] = defaultdict(set)


def caught(self: JITFunction, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
    bind = create_function_from_signature(self.signature, self.params, CUDABackend)
    _, specialization, _ = bind(*arguments, **options)
    KEYS[self.__name__].add(str(specialization))


def main() -> None:
    target = SimpleNamespace(backend="cuda")
    driver.set_active(SimpleNamespace(get_current_device=lambda: 0, get_current_target=lambda: target))
    JITFunction.run = caught
    for batch, length in ((2, 64), (3, 33), (1, 17), (2, 48), (4, 1)):
        q, k, v = (torch.randn(batch, length, 2, 64, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
        table = torch.randn(32, 2, requires_grad=True)
        segments = torch.zeros(max(batch, 2), length, dtype=torch.int32)[:batch]
        for bias in (None, T5Bias(table)):
            for own in (segments, segments[:1]):
                spec = AttentionSpec(right=0, q_segments=own, k_segments=own, bias=bias, scale=0.125)
                out, _ = triton_attention(q, k, v, spec)
                out.sum().backward()
    print(json.dumps({name: len(keys) for name, keys in KEYS.items()}))


if __name__ == "__main__":
    main()
