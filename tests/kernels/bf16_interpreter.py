"""Triton's interpreter multiplies the bit patterns of bfloat16 and truncates casts to it (seen in 3.6 to 3.9). This
mends it for the tests: bfloat16 operands are computed in float32, and casts round to nearest even.

test_interpreter.py fails when Triton's own behaviour changes, so that this file can go.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np


def widen(bits: np.ndarray) -> np.ndarray:
    """uint16 bit patterns of bfloat16 -> float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrow(values: np.ndarray) -> np.ndarray:
    """float32 -> uint16 bit patterns, to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


@contextmanager
def unpatched():
    """The interpreter as Triton ships it."""
    from triton.runtime.interpreter import InterpreterBuilder as Builder

    mended = {name: Builder.__dict__[name] for name in _originals if name in Builder.__dict__}
    for name, function in _originals.items():
        setattr(Builder, name, function)
    try:
        yield
    finally:
        for name, function in mended.items():
            setattr(Builder, name, function)


_originals: dict[str, object] = {}


def install() -> None:
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder as Builder
    from triton.runtime.interpreter import TensorHandle

    if _originals:
        return
    for name in ("create_dot", "cast_impl", "create_fp_to_fp", "binary_op"):
        _originals[name] = Builder.__dict__[name]

    def is_bf16(handle) -> bool:
        return handle.dtype.scalar == tl.bfloat16

    def wide(handle):
        return TensorHandle(widen(handle.data), tl.float32) if is_bf16(handle) else handle

    def create_dot(self, a, b, d, precision, imprecise):
        return _originals["create_dot"](self, wide(a), wide(b), d, precision, imprecise)

    def cast(name: str):
        def convert(self, source, target, *rest):
            kind = target.scalar
            if is_bf16(source):
                if kind == tl.float32:
                    return wide(source)
                return convert(self, wide(source), target, *rest)
            if kind == tl.bfloat16:
                return TensorHandle(narrow(source.data.astype(np.float32)), tl.bfloat16)
            return _originals[name](self, source, target, *rest)

        return convert

    def binary_op(self, lhs, rhs, op):
        if is_bf16(lhs) and is_bf16(rhs):
            result = op(widen(lhs.data), widen(rhs.data))
            if result.dtype == np.bool_:
                return TensorHandle(result, tl.int1)
            return TensorHandle(narrow(result), tl.bfloat16)
        return _originals["binary_op"](self, lhs, rhs, op)

    Builder.create_dot = create_dot
    Builder.cast_impl = cast("cast_impl")
    Builder.create_fp_to_fp = cast("create_fp_to_fp")
    Builder.binary_op = binary_op


def hasten() -> None:
    """The interpreter patches triton.language anew at every call of a device function, a third of its time.

    The kernel's launch has patched it already; only modules that see `triton.language.core` need it, once each.
    """
    import triton.language as tl
    from triton.runtime import interpreter

    patched: set[int] = set()

    def call(self, *args, **kwargs):
        space = self.fn.__globals__
        if id(space) not in patched:
            if any(value is tl.core for value in space.values()):
                interpreter._patch_lang(self.fn)
            patched.add(id(space))
        try:
            return self.rewrite()(*args, **kwargs)
        except Exception as error:
            raise interpreter.InterpreterError(repr(error)) from error

    interpreter.InterpretedFunction.__call__ = call
