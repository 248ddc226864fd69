"""The launcher against Triton's own choice of a kernel, in a process without the interpreter and without a GPU.

Nothing is compiled: in place of the compiler stands a function that returns a new kernel, which records how it is run.
Triton calls it once for each specialisation, so that the kernel's identity tells which one was chosen. Prints a JSON
object: name of a check -> what went wrong, or "".
"""

from __future__ import annotations

import json
import random
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from triton import knobs
from triton.compiler import CompiledKernel
from triton.runtime import JITFunction, driver

from kernels import Alibi, Dense, attention, launcher, rms_norm

runs: list[tuple[Any, tuple[Any, ...]]] = []  # (kernel, what its launcher was given)


class Recorder(CompiledKernel):
    def __init__(self, *_: Any, **__: Any) -> None:
        self.name, self.src = "recorder", None
        self.module, self.function, self.packed_metadata = 1, 2, (4, 1, 0)
        self._run = lambda *given: runs.append((self, given))


create_binder = JITFunction.create_binder


def binder_without_compiler(self: Any) -> Any:
    found = create_binder(self)
    self.compile = Recorder
    return found


JITFunction.create_binder = binder_without_compiler  # before a kernel is defined


class Pair(NamedTuple):
    ptr: Any
    stride: Any


@triton.jit(do_not_specialize=["length"])
def toy(x, pair, length, number, real, flag, SIZE: tl.constexpr, ON: tl.constexpr):
    tl.store(x, SIZE)


def plain(value: Any) -> Any:
    """With pointers in place of tensors."""
    if isinstance(value, torch.Tensor):
        return value.data_ptr()
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


def arguments_of(run: tuple[Any, tuple[Any, ...]]) -> tuple[Any, ...]:
    grid_stream_function_metadata, arguments = run[1][:6], run[1][9:]
    return grid_stream_function_metadata + plain(arguments)


def random_tensor(rng: random.Random) -> torch.Tensor | None:
    dtype = rng.choice([torch.bfloat16, torch.float16, torch.float32, torch.int32, torch.int64])
    return rng.choice([None, *[torch.zeros(64, dtype=dtype)[rng.choice([0, 0, 1, 2, 4, 8, 16]) :] for _ in range(3)]])


def toy_arguments(rng: random.Random) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def number() -> int:
        return rng.choice([0, 1, 2, 7, 16, 48, -1, -16, 2**31 - 1, 2**31, 2**31 + 1, -(2**31) - 1, 2**63 - 1, 2**63])

    pair = Pair(random_tensor(rng), number())
    x = torch.zeros(8, dtype=rng.choice([torch.float32, torch.bfloat16]))
    arguments = (x, pair, number(), number(), rng.random(), rng.choice([True, False]))
    return arguments, {"SIZE": rng.choice([1, 16, 32]), "ON": rng.choice([True, False])}


def check_a_kernel_is_the_one_that_triton_takes() -> None:
    rng = random.Random(5)
    calls = [toy_arguments(rng) for _ in range(400)]
    for arguments, constants in calls * 2:
        warps = rng.choice([4, 8])
        of = arguments[0]
        runs.clear()
        launcher.launch(toy, 3, arguments, constants, of, warps)
        toy[(3,)](*arguments, **constants, num_warps=warps)
        (ours, theirs) = runs
        assert ours[0] is theirs[0], (arguments, constants)
        assert arguments_of(ours) == arguments_of(theirs), (arguments, constants)
    assert len({id(kernel) for kernel in launcher._kept.values()}) > 100


def random_attention(rng: random.Random) -> list[torch.Tensor]:
    batch, length, kv_heads = rng.choice([1, 2]), rng.choice([1, 5, 16, 64]), rng.choice([1, 2])
    heads, dim = kv_heads * rng.choice([1, 2]), rng.choice([8, 16, 20])
    dtype = rng.choice([torch.bfloat16, torch.float32])

    def tensor(count: int) -> torch.Tensor:
        offset, gap = rng.choice([0, 0, 1, 8]), rng.choice([0, 0, 3])
        flat = torch.zeros(offset + batch * length * count * (dim + gap) + 64, dtype=dtype)
        laid = flat[offset : offset + batch * length * count * (dim + gap)]
        if rng.random() < 0.3:
            laid = laid.view(batch, count, length, dim + gap).transpose(1, 2)
        else:
            laid = laid.view(batch, length, count, dim + gap)
        return laid[..., :dim].detach().requires_grad_()

    q, k, v = tensor(heads), tensor(kv_heads), tensor(kv_heads)
    fields: dict[str, Any] = {"causal": rng.choice([True, False])}
    if rng.random() < 0.3:
        fields["segments"] = torch.zeros(rng.choice([1, batch]), length, dtype=torch.int32)
    if rng.random() < 0.3:
        fields["kv_lens"] = torch.full((rng.choice([1, batch]),), length)
    if rng.random() < 0.3:
        fields["window"] = (rng.choice([1, 3, 16]), None)
    if rng.random() < 0.3:
        fields["softcap"] = 2.0
    if rng.random() < 0.3:
        fields["sink"] = torch.zeros(heads, requires_grad=True)
    if rng.random() < 0.3:
        fields.update(dropout_p=0.5, seed=3)
    if rng.random() < 0.4:
        dense = torch.zeros(1, heads, length, length, requires_grad=True)
        fields["bias"] = rng.choice([Alibi(torch.zeros(heads)), Dense(dense)])
    out = attention(q, k, v, backend="triton", **fields)
    torch.autograd.grad(out, (q, k, v), torch.zeros_like(out))
    return [q, k, v]


def check_attention_and_norms_take_the_kernels_that_triton_takes() -> None:
    for seed in range(60):
        found = []
        for known in (True, False, True):
            runs.clear()
            launcher._known = known
            random_attention(random.Random(seed))
            x = torch.zeros(3, 8 + seed % 3, requires_grad=True)
            rms_norm(x, torch.ones(x.shape[1]), backend="triton").sum().backward()
            found.append([kernel for kernel, _ in runs])
        launcher._known = True
        assert len(found[0]) >= 6
        assert all(a is b is c for a, b, c in zip(*found, strict=True)), seed


def check_stream_and_device_are_the_current_ones() -> None:
    arguments, constants = toy_arguments(random.Random(1))
    active = driver.active
    before = active.get_current_stream, active.get_current_device
    try:
        chosen = {}
        for device in (0, 1, 0, 1):
            active.get_current_device = lambda device=device: device
            active.get_current_stream = lambda device: 100 + device
            runs.clear()
            launcher.launch(toy, 3, arguments, constants, arguments[0], 4)
            ((kernel, given),) = runs
            assert given[3] == 100 + device
            assert chosen.setdefault(device, kernel) is kernel
        assert chosen[0] is not chosen[1]
    finally:
        active.get_current_stream, active.get_current_device = before


def check_who_listens_to_launches_hears_them() -> None:
    arguments, constants = toy_arguments(random.Random(2))
    heard: list[Any] = []
    for _ in range(2):
        launcher.launch(toy, 3, arguments, constants, arguments[0], 4)
    runs.clear()
    knobs.runtime.launch_enter_hook.add(heard.append)
    try:
        launcher.launch(toy, 3, arguments, constants, arguments[0], 4)
        assert runs[-1][1][7] is knobs.runtime.launch_enter_hook
    finally:
        knobs.runtime.launch_enter_hook.remove(heard.append)
    toy.add_pre_run_hook(lambda *_, **__: heard.append("before"))
    try:
        launcher.launch(toy, 3, arguments, constants, arguments[0], 4)
    finally:
        toy.pre_run_hooks.clear()
    launcher.launch(toy, 3, arguments, constants, arguments[0], 4)
    assert heard == ["before"]
    assert runs[-1][1][7] is None


def check_kept_kernels_are_bounded_and_other_chips_are_left_to_triton() -> None:
    rng = random.Random(4)
    before, launcher.LIMIT = launcher.LIMIT, 5
    target = driver.active.get_current_target
    try:
        for _ in range(40):
            arguments, constants = toy_arguments(rng)
            launcher.launch(toy, 3, arguments, constants, arguments[0], 4)
            assert len(launcher._kept) <= 5
        launcher._kept.clear()
        driver.active.get_current_target = lambda: triton.backends.compiler.GPUTarget("hip", "gfx942", 64)
        launcher.launch(toy, 3, arguments, constants, arguments[0], 4)
        assert not launcher._kept
    finally:
        launcher.LIMIT, driver.active.get_current_target = before, target


def check_constants_that_are_not_the_kernels_are_refused() -> None:
    arguments, constants = toy_arguments(random.Random(3))
    launcher._kept.clear()
    for wrong in (arguments[:-1], {"ON": True, "SIZE": 1}):
        try:
            if isinstance(wrong, dict):
                launcher.launch(toy, 3, arguments, wrong, arguments[0], 4)
            else:
                launcher.launch(toy, 3, wrong, {"flag": True, **constants}, arguments[0], 4)
        except TypeError as error:
            assert "toy" in str(error)
        else:
            raise AssertionError(wrong)
    runs.clear()
    launcher.launch(toy, 0, arguments, constants, arguments[0], 4)
    launcher.launch(toy, (3, 0), arguments, constants, arguments[0], 4)
    assert not runs


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "bench"))
    import host

    host.pretend()
    found = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check()
                found[name] = ""
            except Exception:
                found[name] = traceback.format_exc()[-1500:]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
