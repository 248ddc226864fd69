"""Call an operator's function without PyTorch's dispatcher, where nobody but autograd looks on.

`torch.library.custom_op` costs the host tens of microseconds a call, and as much again for its gradient
(docs/benchmarks/host.md). It is there for compilers, dispatch modes (fake tensors, FLOP counters, selective
checkpoints), functorch and tensor subclasses. Without any of them a `torch.autograd.Function` does the same for less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Parameter

_TENSORS = {Tensor, Parameter}
_PLAIN = {*_TENSORS, type(None), bool, int, float}


def unobserved(arguments: tuple[Any, ...]) -> bool:
    """No compiler, dispatch mode, functorch transform or tensor subclass would see the operator, and no tensor is one
    that the dispatcher has to negate first, as the imaginary part of a conjugate."""
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
    ):
        return False
    if any(issubclass(kind, Tensor) for kind in set(map(type, arguments)) - _PLAIN):
        return False
    return not any(one.is_neg() for one in arguments if type(one) in _TENSORS)


def direct(
    op: Any,
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., Any] | None = None,
    function: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """A function of positional arguments that calls the operator or, unobserved, what it is made of.

    op: of `torch.library.custom_op`; a backward given here is registered with it. Without one the operator is taken to
    stand inside a backward pass, where no gradient is recorded. function: what to call, if not what the operator was
    made of.
    """
    function = function or op._init_fn
    apply = function
    if backward is not None and setup_context is not None:
        op.register_autograd(backward, setup_context=setup_context)
        apply = _recording(function, backward, setup_context)

    def call(*arguments: Any) -> Any:
        if not unobserved(arguments):
            return op(*arguments)
        return apply(*arguments) if torch.is_grad_enabled() else function(*arguments)

    return call


def _recording(
    function: Callable[..., Any], backward: Callable[..., Any], setup_context: Callable[..., Any]
) -> Callable[..., Any]:
    def forward(ctx: Any, *inputs: Any) -> Any:
        output = function(*inputs)
        setup_context(ctx, inputs, output)
        return output

    members = {"forward": staticmethod(forward), "backward": staticmethod(once_differentiable(backward))}
    made = type(function.__name__, (torch.autograd.Function,), members)
    # What Function.apply calls where no functorch transform is active.
    found: Callable[..., Any] = super(torch.autograd.Function, made).apply  # type: ignore[misc]
    return found
