"""Is the backward pass the same to the bit every time? A race would show as one repeat that differs."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch

from kernels import attention, prepare_mask
from proof.attention import DEVICE, DTYPE, OWN, Problem

TIMES = 200
LENGTH = 2048


def lacks(passes: str) -> str | None:
    """Why this kind of backward pass cannot be asked for, or None."""
    if passes == "two_pass" or "backward" in inspect.signature(attention).parameters:
        return None
    return f"attention has no backward={passes!r} yet"


def repeats(passes: str, kind: str, head: int, times: int = TIMES) -> dict[str, Any]:
    """The row: "passed", "failed" with the first repeat that differs and in what, or "skipped" by name."""
    why = lacks(passes)
    if why:
        return {"status": "skipped", "why": why}
    problem = Problem(kind, head, LENGTH)
    options: dict[str, Any] = {"backend": OWN}
    if "backward" in inspect.signature(attention).parameters:
        options["backward"] = passes
    if problem.segments is not None:
        options["mask"] = prepare_mask(problem.length, device=DEVICE, dtype=DTYPE, backend=OWN, **problem.masks())
    else:
        options |= problem.masks()
    forward = partial(attention, problem.q, problem.k, problem.v, **options)

    def gradients() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(forward(), problem.inputs, problem.dout)

    first = gradients()
    differ = torch.zeros(
        times, 3, dtype=torch.bool, device=DEVICE
    )  # read once, so that repeats follow each other closely
    for number in range(1, times):
        for place, (a, b) in enumerate(zip(first, gradients(), strict=True)):
            differ[number, place] = (a != b).any()
    found = differ.cpu()
    if not found.any():
        return {"status": "passed", "why": f"{times} repeats are equal to the bit"}
    names = [name for name, bad in zip(("dq", "dk", "dv"), found.any(0).tolist(), strict=True) if bad]
    count, when = int(found.any(1).sum()), int(found.any(1).nonzero()[0])
    return {"status": "failed", "why": f"{count} of {times} repeats differ in {', '.join(names)}, the first is {when}"}
