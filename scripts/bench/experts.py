"""Grouped products of experts beside one dense product of the same FLOPs: rows sorted by expert, shares drawn unevenly.

The two take turns, forward alone and with the backward pass; CPU seconds of the process, medians over the rounds.
Ratio: dense / grouped, so that 1 is as fast.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.nn.functional import linear

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder: it has modules of our packages' names

from kernels import grouped_linear  # noqa: E402

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def uneven(tokens: int, experts: int) -> torch.Tensor:
    """Where the groups end, int32 [experts]: every token draws its expert."""
    drawn = torch.randint(experts, (tokens,), generator=torch.Generator().manual_seed(0))
    return torch.bincount(drawn, minlength=experts).cumsum(0).int()


def both_ways(forward: Callable[[], torch.Tensor], leaves: tuple[torch.Tensor, ...], pull: torch.Tensor) -> None:
    torch.autograd.grad(forward(), leaves, pull)


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = {"rounds": 7, "tokens": 4096, "width": 512, "hidden": 2048, "experts": 8, "threads": 1}
    for name, usual in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--dtype", choices=list(DTYPES), default="bf16")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    ends = uneven(given.tokens, given.experts)
    print("| product | pass | grouped, CPU s | dense, CPU s | ratio |\n|---|---|---|---|---|")
    for inputs, outputs in ((given.width, given.hidden), (given.hidden, given.width)):
        x = torch.randn(given.tokens, inputs).to(DTYPES[given.dtype]).requires_grad_()
        many = torch.randn(given.experts, outputs, inputs).to(x.dtype).requires_grad_()
        one, pull = many[0].detach().clone().requires_grad_(), torch.randn(given.tokens, outputs).to(x.dtype)
        forward = {"grouped": partial(grouped_linear, x, many, ends), "dense": partial(linear, x, one)}
        leaves = {"grouped": (x, many), "dense": (x, one)}
        both = {who: partial(both_ways, forward[who], leaves[who], pull) for who in forward}
        for name, work in (("forward", forward), ("forward and backward", both)):
            times: dict[str, list[float]] = {who: [] for who in work}
            for _ in range(given.rounds):
                for who, run in work.items():
                    times[who].append(seconds(run))
            grouped, dense = (statistics.median(times[who]) for who in ("grouped", "dense"))
            shape = f"{given.tokens:,} x {inputs:,} by {given.experts} of {outputs:,}"
            print(f"| {shape} | {name} | {grouped:.3f} | {dense:.3f} | **{dense / grouped:.2f}** |", flush=True)


if __name__ == "__main__":
    main()
