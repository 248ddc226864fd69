"""Is the backward pass the same to the bit every time? A race would show as one repeat that differs."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from kernels import attention, prepare_mask
from kernels.configs import architecture, ordered_tile
from proof.attention import DEVICE, DTYPE, OWN, Problem

TIMES = 200
LENGTH = 2048


def lacks(passes: str, kind: str, head: int) -> str | None:
    """Why this kind of backward pass does not run here, though it may be asked for, or None. Without this a kind that
    takes two passes after all would stand in the table as proven in order."""
    if passes == "two_pass":
        return None
    tiles = {"plain": "plain", "causal": "plain", "t5": "t5"}.get(kind, "segments")
    arch = architecture(torch.device(DEVICE))
    return None if ordered_tile(arch, head, tiles) else f"attention takes two passes on {arch} at head size {head}"


def repeats(passes: str, kind: str, head: int, times: int = TIMES) -> dict[str, Any]:
    """The row: "passed", "failed" with the first repeat that differs and in what, or "skipped" by name."""
    why = lacks(passes, kind, head)
    if why:
        return {"status": "skipped", "why": why}
    problem = Problem(kind, head, LENGTH)
    options: dict[str, Any] = {"backend": OWN, "backward": passes}
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
