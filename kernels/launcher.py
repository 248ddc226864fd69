"""Launch Triton kernels without the argument binding of `triton.jit`, which takes the host tens of microseconds.

The first launch of a kind goes through Triton, which compiles and returns the kernel. Later ones hand the same
arguments to that kernel's own launcher, as the last line of `JITFunction.run` does. A kind is whatever Triton
specialises a kernel for, and somewhat more: the dtype and alignment of each pointer; of each integer whether it is 1,
divisible by 16 and how wide; the compile-time constants; warps, stages and the device. So no two launches share a
kernel that Triton would have told apart. Importing this imports Triton.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import triton
from torch import Tensor
from torch.nn import Parameter
from triton import knobs
from triton.compiler import CompiledKernel
from triton.runtime import JITFunction, driver

from kernels.backends import on_device

KNOWN_VERSIONS = ((3, 6), (3, 7))  # of Triton, whose launchers were read
LIMIT = 4096  # kinds that are kept

logger = logging.getLogger("kernels")
_known = tuple(int(part) for part in triton.__version__.split(".")[:2]) in KNOWN_VERSIONS
_kept: dict[tuple[Any, ...], CompiledKernel] = {}


def launch(
    kernel: Any, programs: int | tuple[int, int], arguments: tuple[Any, ...], constants: dict[str, Any], of: Tensor,
    warps: int, stages: int | None = None,
) -> None:  # fmt: skip
    """Run a kernel's programs, in one row or (fast axis, slow axis), on the device of the tensor `of`, on its current
    stream. None of them is nothing to do.

    arguments: for the kernel's first parameters, in order; tuples of tensors and numbers are allowed. constants: for
    the rest, all of them constexpr, by name and in order. stages: Triton's default if None.
    """
    grid = programs if isinstance(programs, tuple) else (programs, 1)
    if 0 in grid:
        return
    device = of.device.index
    if type(kernel) is not JITFunction or not _known:  # the interpreter's functions, or another Triton
        _launch_by_triton(kernel, grid, arguments, constants, of, warps, stages)
        return
    current = driver.active.get_current_device()
    if device is not None and device != current:
        with on_device(of):
            launch(kernel, grid, arguments, constants, of, warps, stages)
        return
    settings = knobs.runtime.debug, knobs.compilation.instrumentation_mode
    key = kind_of_launch(arguments, (kernel.fn, current, warps, stages, *settings, *constants.values()))
    found = None if key is None or _watched(kernel) else _kept.get(key)
    if found is None:
        compiled = _launch_by_triton(kernel, grid, arguments, constants, of, warps, stages)
        if key is not None and _keepable(kernel, compiled, len(arguments), constants):
            if len(_kept) >= LIMIT:
                _kept.clear()
            _kept[key] = compiled
        return
    found.run(
        *grid, 1, driver.active.get_current_stream(current), found.function, found.packed_metadata, None, None,
        None, *arguments, *constants.values(),
    )  # fmt: skip


def kind_of_launch(arguments: tuple[Any, ...], start: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
    """What Triton may specialise a kernel for in these arguments, after `start`; None if they hold anything unknown."""
    kind = list(start)
    return tuple(kind) if _describe(arguments, kind) else None


def _describe(values: tuple[Any, ...], into: list[Any]) -> bool:
    add = into.append
    for value in values:
        what = type(value)
        if what is int:
            if value == 1:
                add(2)  # not 1, which equals True
            elif -0x80000000 <= value <= 0x7FFFFFFF:
                add(value & 15 == 0)
            else:
                add((value & 15 == 0, value <= 0x7FFFFFFFFFFFFFFF))
        elif value is None or what is float or what is bool:
            add(what)
        elif what is Tensor or what is Parameter:
            add(value.dtype)
            add(value.data_ptr() & 15 == 0)
        elif isinstance(value, tuple):
            add(what)
            kinds = tuple(map(type, value))
            if Tensor in kinds[1:] or Parameter in kinds:
                add(len(value))
                if not _describe(value, into):
                    return False
                continue
            if value and kinds[0] is Tensor:  # a pointer and its strides
                add(value[0].dtype)
                add(value[0].data_ptr() & 15 == 0)
                value = value[1:]
            code = _code_of(value, kinds)
            if code is None:
                return False
            add(code)
        else:
            return False
    return True


@lru_cache(maxsize=LIMIT)
def _code_of(numbers: tuple[Any, ...], kinds: tuple[type, ...]) -> tuple[Any, ...] | None:
    """Of a tuple without tensors. kinds: its types, as 1, 1.0 and True are equal; so that no tuple may lie inside."""
    if any(issubclass(kind, tuple) for kind in kinds):
        return None
    code: list[Any] = [len(kinds)]
    return tuple(code) if _describe(numbers, code) else None


def _launch_by_triton(
    kernel: Any, grid: tuple[int, int], arguments: tuple[Any, ...], constants: dict[str, Any], of: Tensor, warps: int,
    stages: int | None,
) -> Any:  # fmt: skip
    options = {"num_warps": warps} if stages is None else {"num_warps": warps, "num_stages": stages}
    with on_device(of):
        return kernel[grid](*arguments, **constants, **options)


def _watched(kernel: Any) -> bool:
    """Somebody listens to launches (a profiler), or changes how kernels are compiled: Triton serves them."""
    runtime = knobs.runtime
    hooks = (runtime.launch_enter_hook, runtime.launch_exit_hook, runtime.add_stages_inspection_hook)
    for hook in hooks:
        if hook is not None and getattr(hook, "calls", True):
            return True
    return bool(kernel.pre_run_hooks)


def _keepable(kernel: Any, compiled: Any, given: int, constants: dict[str, Any]) -> bool:
    """What Triton returned is a kernel that `kind_of_launch` tells from others. AMD's is not: there Triton looks at the
    sizes of tensors too. Raises TypeError for other constants than the kernel's."""
    if kernel.arg_names[given:] != list(constants) or kernel.arg_names[given:] != _constexprs(kernel):
        raise TypeError(f"{kernel.fn.__name__}: {list(constants)} are not its constexpr parameters, in order")
    if knobs.compilation.always_compile or driver.active.get_current_target().backend != "cuda":
        return False
    return isinstance(compiled, CompiledKernel) and not _watched(kernel)


def _constexprs(kernel: Any) -> list[str]:
    return [parameter.name for parameter in kernel.params if parameter.is_constexpr]


if not _known:
    logger.info(
        "triton %s: its launcher is not known here, so every launch goes through triton.jit", triton.__version__
    )
