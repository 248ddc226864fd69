"""The backward pass in one walk: its values, and that they do not depend on when which program runs.

The interpreter runs one program after another. `Chip` runs them side by side instead, as threads that lose and win time
at random, on a chip that holds only so many at once: a program that waited for one that has not begun would wait for
ever, and a sum whose order is not kept would differ in its bits.
"""

from __future__ import annotations

import inspect
import logging
import random
import threading
import time
from typing import Any

import attention_cases as cases
import pytest
import torch

from kernels import attention
from kernels.attention.triton import ordered, ordered_launch
from kernels.attention.triton.segments import hull, reach
from kernels.configs import ORDERED, Tile

CHUNKS, CASES_A_CHUNK, OFTEN = 25, 8, 5  # 200 shapes, 40 of them in the default tier


class Chip:
    """Stands for `attention_ordered`: holds `slots` programs at once and starts them in the order of their ids."""

    def __init__(self, slots: int, seed: int) -> None:
        self.slots, self.rng, self.kernel = slots, random.Random(seed), ordered.attention_ordered

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        from triton.runtime.interpreter import GridExecutor

        program = self.kernel.rewrite()
        chip = self

        class Programs:
            """What the executor takes for one program."""

            __globals__, __name__, __signature__ = program.__globals__, "programs", inspect.signature(program)
            __annotations__ = program.__annotations__

            def __call__(self, **arguments: Any) -> None:
                left, lock = iter(range(grid[0])), threading.Lock()
                errors: list[Exception] = []

                def work() -> None:
                    while not errors:
                        with lock:
                            if next(left, None) is None:
                                return
                        try:
                            program(**arguments)
                        except Exception as error:
                            errors.append(error)

                threads = [threading.Thread(target=work, daemon=True) for _ in range(chip.slots)]
                for one in threads:
                    one.start()
                for one in threads:
                    one.join(120)
                assert not any(one.is_alive() for one in threads), "programs wait for ever"
                assert not errors, errors

        return lambda *args, **kwargs: GridExecutor(Programs(), self.kernel.arg_names, (1,), [])(*args, **kwargs)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered_launch, "ordered_tile", lambda *_: Tile(16, 16, 4, 1))


@pytest.fixture
def uneven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs pause at random where they meet a counter."""
    from triton.runtime.interpreter import InterpreterBuilder

    plain, rng = InterpreterBuilder.create_atomic_rmw, random.Random(1)

    def slow(self: Any, *args: Any) -> Any:
        time.sleep(rng.choice((0.0, 0.0, 0.0005, 0.003)))
        return plain(self, *args)

    monkeypatch.setattr(InterpreterBuilder, "create_atomic_rmw", slow)


def gradients(qkv: list[torch.Tensor], arguments: dict[str, Any], more: Any, backward: str) -> list[torch.Tensor]:
    out = attention(*qkv, **arguments, backend="triton", backward=backward)
    assert isinstance(out, torch.Tensor)
    pull = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape)
    return list(torch.autograd.grad((out.float() * pull).sum(), [*qkv, *more]))


@pytest.mark.parametrize(
    "chunk", [*range(OFTEN), *(pytest.param(chunk, marks=pytest.mark.slow) for chunk in range(OFTEN, CHUNKS))]
)
def test_random_shapes_and_features(chunk: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against float64, as two passes are tested: every feature, strides, tiles that documents and windows cross."""
    monkeypatch.setattr(cases, "attention", lambda *a, **k: attention(*a, **k, backward="ordered"))
    for number in range(CASES_A_CHUNK):
        rng = random.Random(20261130 * 1000003 + chunk * CASES_A_CHUNK + number)
        tile = Tile(*rng.choice(((16, 16), (32, 16), (16, 32), (64, 64))), 4, 1)
        monkeypatch.setattr(ordered_launch, "ordered_tile", lambda *_, tile=tile: tile)
        case = cases.random_case(rng)
        torch.manual_seed(rng.randrange(2**31))
        print(f"case {chunk}.{number}:", *cases.describe(case))
        cases.run(case, device)


CONCURRENT: dict[str, dict[str, Any]] = {
    "causal": {"causal": True},
    "bidirectional, grouped": {"heads": (4, 2)},
    "window": {"causal": True, "window": (20, None)},
    "lens, sink": {"kv_lens": True, "sink": True, "batch": 2},
    "shuffled segments": {"segments": "shuffled"},
    "documents": {"segments": "documents", "causal": True},
}


@pytest.mark.parametrize("name", CONCURRENT)
def test_every_schedule_gives_the_same_bits(
    name: str, device: str, small: None, uneven: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One program after another, two at a time, and all at once, with pauses at random."""
    torch.manual_seed(3)
    case = dict.fromkeys(cases.FACTORS) | {
        "dtype": torch.float32, "lengths": (70, 70), "heads": (2, 1), "head_dim": 16, "layout": "dense", "batch": 1,
        "softcap": 0.0, "dropout_p": 0.0,
    }  # fmt: skip
    qkv, arguments, leaves = cases.build(case | CONCURRENT[name], device)
    alone = gradients(qkv, arguments, leaves.values(), "ordered")
    for slots in (2, 20):
        monkeypatch.setattr(ordered_launch, "attention_ordered", Chip(slots, slots))
        found = gradients(qkv, arguments, leaves.values(), "ordered")
        assert all(torch.equal(a, b) for a, b in zip(alone, found, strict=True)), slots
    for ours, wanted in zip(alone, gradients(qkv, arguments, leaves.values(), "two_pass"), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


def test_without_turns_the_bits_differ(device: str, small: None, uneven: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above could not fail."""
    qkv = [torch.randn(1, 70, 2, 16, device=device, requires_grad=True) for _ in range(3)]
    alone = gradients(qkv, {}, (), "ordered")
    monkeypatch.setattr(ordered, "wait_beyond", lambda progress, query: ordered.DONE)
    monkeypatch.setattr(ordered_launch, "attention_ordered", Chip(10, 0))
    found = [gradients(qkv, {}, (), "ordered")[0] for _ in range(3)]
    assert any(not torch.equal(alone[0], one) for one in found)


def test_running_bounds_hold_the_reach_and_never_fall() -> None:
    for _ in range(50):
        own, other = torch.randint(-2, 4, (2, 17)), torch.randint(-2, 4, (2, 23))
        found = reach(own.int(), other.int())
        wide = hull(found)
        assert (wide[:, 0] <= found[:, 0]).all() and (wide[:, 1] >= found[:, 1]).all()
        assert (wide.diff(dim=2) >= 0).all()
    packed = torch.tensor([[0, 0, 1, 1, 1, 4]]).int()
    assert torch.equal(hull(reach(packed, packed)), reach(packed, packed)[:, :2])


def test_what_it_lacks_takes_two_passes_said_once(
    device: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ordered_launch, "ordered_tile", lambda *_: None)
    qkv = [torch.randn(1, 20, 1, 24, device=device, requires_grad=True) for _ in range(3)]
    with caplog.at_level(logging.INFO, logger="kernels"):
        twice = [gradients(qkv, {"causal": True}, (), "ordered") for _ in range(2)]
    said = [one.getMessage() for one in caplog.records if "two_pass" in one.getMessage()]
    assert len(said) == 1 and "head size 24" in said[0]
    for a, b in zip(twice[0], gradients(qkv, {"causal": True}, (), "two_pass"), strict=True):
        assert torch.equal(a, b)


def test_a_word_that_is_none_of_the_two_is_refused(device: str) -> None:
    q = torch.randn(1, 4, 1, 16, device=device)
    with pytest.raises(
        ValueError, match="attention: backward is 'order', wanted one of two_pass, ordered; did you mean"
    ):
        attention(q, q, q, backward="order")


@pytest.mark.parametrize("lengths", [(0, 5), (5, 0)])
def test_no_queries_or_no_keys(lengths: tuple[int, int], device: str) -> None:
    q, k, v = (torch.randn(2, n, 2, 16, device=device, requires_grad=True) for n in (*lengths, lengths[1]))
    assert all((one == 0).all() for one in gradients([q, k, v], {}, (), "ordered"))


def test_the_plan_asks_for_what_the_kernel_takes() -> None:
    """`choice.ordered_bytes` and the launch agree for every tile of the table; heads past the plan's have none."""
    from kernels import choice
    from kernels.configs import block_dim

    for entries in ORDERED.values():
        for (head, _), tile in entries.items():
            assert head <= choice.ORDERED_HEAD and 128 % tile.block_m == 0 and tile.block_n >= 64
            padded, tiles = -(-1000 // tile.block_m) * tile.block_m, -(-900 // tile.block_n)
            needed = 4 * (3 * 5 * (padded * block_dim(head) + tiles) + 1)
            assert needed <= choice.ordered_bytes(3, 5, 1000, 900, head) <= 1.2 * needed
