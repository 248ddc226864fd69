"""What a call of a Triton kernel costs the host: kernels compiled for sm_90, everything up to the driver's C launcher.

No GPU is needed: tensors lie on the CPU and are tiny, Triton's NVIDIA driver is real but for the four functions written
in C (launch, load, properties, signature), which do nothing. So Python, Triton's argument binding, PyTorch's dispatch,
autograd and allocation are measured; the C launcher, torch.cuda.device and CUDA's allocator are not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

ARCHITECTURE = 90
KernelArgument = namedtuple("KernelArgument", "nested_tuple type")
Case = tuple[Callable[[], Any], tuple[torch.Tensor, ...]]  # the forward pass, and what its gradient is asked for


def stub_driver(launched: Callable[..., None] = lambda *_: None) -> None:
    """Triton's driver for an H100 that is not there. launched: called in place of the C launcher."""
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia import driver
    from triton.runtime import driver as config

    driver.PyKernelArg = KernelArgument
    driver.ARG_CONSTEXPR, driver.ARG_KERNEL, driver.ARG_TUPLE = range(3)
    # Until 3.6 Triton writes a launcher in C for every signature.
    driver.compile_module_from_src = lambda *_, **__: SimpleNamespace(launch=launched)

    class Driver(driver.CudaDriver):
        def __init__(self) -> None:
            self.launcher_cls = driver.CudaLauncher
            self.utils = SimpleNamespace(
                launch=launched,
                build_signature_metadata=lambda kinds: tuple(kinds),
                load_binary=lambda *_: (0, 1, 128, 0, 1024),
                get_device_properties=lambda _: {"max_shared_mem": 232448, "multiprocessor_count": 132},
            )
            self.get_current_device = lambda: 0
            self.get_current_stream = lambda _: 0

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", ARCHITECTURE, 32)

    config.set_active(Driver())


def pretend() -> None:
    """Our kernels take CPU tensors, with the tiles of sm_90. To be called before a Triton kernel is imported."""
    from kernels import backends, configs

    backends.interpreting = lambda: True
    configs.architecture = lambda device: f"sm_{ARCHITECTURE}"
    stub_driver()


def _heads(count: int, length: int = 16) -> torch.Tensor:
    return torch.randn(1, length, count, 64, dtype=torch.bfloat16, requires_grad=True)


def attention_case(kv_heads: int = 2, **fields: Any) -> Case:
    from kernels import attention

    q, k, v = _heads(2), _heads(kv_heads), _heads(kv_heads)
    return lambda: attention(q, k, v, backend="triton", **fields), (q, k, v)


def packed_case() -> Case:
    from kernels import prepare_mask

    segments = torch.arange(16).div(6, rounding_mode="floor").unsqueeze(0)
    mask = prepare_mask(16, device="cpu", dtype=torch.bfloat16, causal=True, segments=segments, backend="triton")
    return attention_case(mask=mask)


def sdpa_case() -> Case:
    q, k, v = (_heads(2).detach().transpose(1, 2).requires_grad_() for _ in range(3))
    return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), (q, k, v)


class Nothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.empty(q.shape)

    @staticmethod
    def backward(ctx: Any, dout: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return dout, dout, dout


def empty_case() -> Case:
    inputs = (_heads(2), _heads(2), _heads(2))
    return lambda: Nothing.apply(*inputs), inputs


def norm_case(residual: bool = False) -> Case:
    from kernels import rms_norm

    x, weight = torch.randn(4, 64, requires_grad=True), torch.ones(64, requires_grad=True)
    stream = torch.randn(4, 64, requires_grad=True) if residual else None
    inputs = (x, weight) if stream is None else (x, weight, stream)

    def forward() -> Any:
        found = rms_norm(x, weight, residual=stream, backend="triton")
        return found[0] if residual else found

    return forward, inputs


def loss_case() -> Case:
    from kernels import cross_entropy

    logits, targets = torch.randn(4, 64, requires_grad=True), torch.arange(4)

    def forward() -> Any:
        found = cross_entropy(logits, targets, backend="triton")
        return found if isinstance(found, torch.Tensor) else found[0]

    return forward, (logits,)


CASES: dict[str, Callable[[], Case]] = {
    "attention, causal": lambda: attention_case(causal=True),
    "attention, packed (prepared mask)": packed_case,
    "attention, grouped heads, window": lambda: attention_case(kv_heads=1, causal=True, window=(8, 0)),
    "attention, dropout": lambda: attention_case(causal=True, dropout_p=0.1, seed=7),
    "SDPA on the CPU": sdpa_case,
    "an autograd.Function of nothing": empty_case,
    "rms_norm": norm_case,
    "rms_norm with residual": lambda: norm_case(True),
    "cross_entropy": loss_case,
}


def microseconds(work: Callable[[], Any], calls: int) -> float:
    """CPU time of this thread, so that other programs on the machine count little."""
    began = time.thread_time_ns()
    for _ in range(calls):
        work()
    return (time.thread_time_ns() - began) / calls / 1e3


def measure(case: Case, calls: int) -> tuple[float, float]:
    """Microseconds of a forward pass that records for autograd, and of its backward pass."""
    forward, inputs = case
    out = forward()
    dout = torch.ones_like(out)
    ahead = microseconds(forward, calls)
    back = microseconds(lambda: torch.autograd.grad(out, inputs, dout, retain_graph=True), calls)
    return ahead, back


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="medians are taken over these")
    parser.add_argument("--calls", type=int, default=50, help="calls a round")
    parser.add_argument("--only", nargs="*", default=[], help="cases whose name holds one of these words")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.rounds < 1 or options.calls < 1:
        parser.error(f"--rounds {options.rounds} --calls {options.calls}: both are at least 1")
    names = [name for name in CASES if not options.only or any(word in name for word in options.only)]
    if not names:
        parser.error(f"--only {' '.join(options.only)}: there is {', '.join(CASES)}")
    torch.set_num_threads(1)
    pretend()
    cases = {name: CASES[name]() for name in names}
    for case in cases.values():  # compile
        measure(case, 2)
    rounds = [{name: measure(case, options.calls) for name, case in cases.items()} for _ in range(options.rounds)]
    table = {}
    for name in names:
        ahead, back = (statistics.median(one[name][part] for one in rounds) for part in (0, 1))
        both = [sum(one[name]) for one in rounds]
        table[name] = {
            "forward": round(ahead),
            "backward": round(back),
            "both": round(statistics.median(both)),
            "quietest round": round(min(both)),
        }
    if options.json:
        print(json.dumps(table, indent=1))
        return
    print("| us a call | forward | backward | both | quietest round |\n|---|---|---|---|---|")
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(map(str, row.values())) + " |")


if __name__ == "__main__":
    main()
