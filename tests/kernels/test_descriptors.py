"""The forward kernel that loads keys and values by tensor descriptors: values in the interpreter, code for sm_90 and
sm_100 from the compiler, and the pointers' way where a descriptor cannot be."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import attention_cases as cases
import pytest
import torch
from test_compile_matrix import compiled, complaints

from kernels import KernelInputError, attention
from kernels.attention.triton import descriptors
from kernels.configs import Tile, descriptor_tile
from kernels.offline import FEATURES_OF_KIND
from kernels.table import ATTENTION, DESCRIPTORS


def offer(monkeypatch: pytest.MonkeyPatch, block_m: int = 64, block_n: int = 64, warps: bool = False) -> list[bool]:
    """Give the interpreter's column tiles for descriptors; the list fills with whether each call took them."""
    taken: list[bool] = []
    chosen = descriptors.forward_choice

    def tile(way: str, arch: str, head_dim: int, kind: str) -> Tile | None:
        return Tile(block_m, block_n, 4, 1) if warps or way == "tma" else None

    def noted(*arguments: Any) -> Any:
        taken.append((found := chosen(*arguments)) is not None)
        return found

    from kernels.attention.triton import launches

    monkeypatch.setattr(descriptors, "descriptor_tile", tile)
    monkeypatch.setattr(launches, "forward_choice", noted)
    return taken


PLAIN = dict.fromkeys(cases.FACTORS) | {
    "dtype": torch.bfloat16, "lengths": (75, 90), "heads": (4, 2), "head_dim": 64, "layout": "dense", "batch": 2,
    "softcap": 0.0, "dropout_p": 0.0,
}  # fmt: skip
CHANGES: tuple[dict[str, Any], ...] = (
    {"causal": True, "lse": True},
    {"window": (20, 9), "head_dim": 80},
    {"causal": True, "lengths": (90, 75), "sink": True, "layout": "transposed"},
    {"causal": True, "segments": "documents", "head_dim": 128},
    {"segments": "shuffled", "kv_lens": True, "layout": "expanded"},
    {"order": "query", "dtype": torch.float16, "kv_lens": True, "head_dim": 40},
    {"bias": "alibi", "lengths": (1, 65), "head_dim": 16},
)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_values_and_gradients(change: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = offer(monkeypatch, *((64, 64) if change.get("causal") else (32, 16)))
    cases.run(PLAIN | change, device)
    assert taken == [True]


@pytest.mark.parametrize("warps", [False, True])
def test_descriptors_change_no_bit(warps: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tile by descriptor holds what a tile by pointers holds, padding past its end and lengths of 0 among it."""
    from kernels.attention.triton import launches

    monkeypatch.setenv(descriptors.SPECIALIZE, str(int(warps)))
    monkeypatch.setattr(launches, "attention_tile", lambda *_: Tile(32, 32, 4, 1))
    rng = random.Random(7 + warps)
    for _ in range(10):
        case = PLAIN | {
            "lengths": (rng.randint(1, 70), rng.randint(1, 70)), "head_dim": 8 * rng.randint(1, 10),
            "causal": rng.random() < 0.5, "window": rng.choice((None, (7, 5))), "kv_lens": rng.random() < 0.5,
            "segments": rng.choice((None, "documents", "shuffled")), "layout": rng.choice(("dense", "transposed")),
            "dtype": rng.choice((torch.bfloat16, torch.float16)),
        }  # fmt: skip
        qkv, arguments, _ = cases.build(case, device)

        def run(qkv: list[torch.Tensor] = qkv, arguments: dict[str, Any] = arguments) -> tuple[torch.Tensor, ...]:
            return attention(*qkv, **arguments, return_lse=True, backend="triton")

        by_pointers = run()
        with monkeypatch.context() as inner:
            taken = offer(inner, 32, 32, warps)
            by_descriptors = run()
        assert taken == [True]
        assert all(torch.equal(one, other) for one, other in zip(by_pointers, by_descriptors, strict=True)), case


def test_what_a_descriptor_cannot_hold_is_said_and_loaded_by_pointers(
    device: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken = offer(monkeypatch)
    monkeypatch.setattr(descriptors, "_said", set())
    q, k, v = (torch.randn(1, 40, 2, 24, device=device).bfloat16() for _ in range(3))
    wide = torch.randn(1, 40, 2, 28, device=device).bfloat16()
    odd = (
        (wide[..., :24], "no multiples of 8 elements"),
        (torch.randn(1, 40, 2, 32, device=device).bfloat16()[..., 4:28], "address"),
        (torch.randn(1, 40, 24, 2, device=device).bfloat16().transpose(2, 3), "stride of its last dimension is 2"),
        (k[:, :1].expand(-1, 40, -1, -1), "stride of its rows, 0"),
    )
    for other, reason in odd:
        assert reason in str(descriptors.lacks(other))
        with caplog.at_level(logging.INFO, "kernels"):
            for _ in range(2):
                out = attention(q, other, v, backend="triton")
        assert taken.pop() is taken.pop() is False
        assert caplog.text.count(reason) == 1
        torch.testing.assert_close(out, attention(q, other, v, backend="reference"), rtol=2**-7, atol=4e-3)
    assert descriptors.lacks(k) is None
    monkeypatch.setattr(descriptors, "triton_lacks", lambda: "Triton 3.0 has no tensor descriptors")
    attention(q, k, v, backend="triton")
    assert taken == [False]


def test_fp32_and_what_has_no_tile_load_by_pointers(device: str) -> None:
    assert descriptor_tile("tma", "sm_80", 64, "plain") is None and descriptor_tile("tma", "sm_90", 64, "float") is None
    assert descriptor_tile("tma", "sm_90", 128, "plain") and descriptor_tile("tma", "sm_90", 256, "plain") is None


def test_a_wrong_word_for_the_warps_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(descriptors.SPECIALIZE, "yes")
    q = torch.randn(1, 8, 1, 16, device=device)
    with pytest.raises(KernelInputError, match="ISOFLOP_WARP_SPECIALIZE='yes'; allowed: 0, 1"):
        attention(q, q, q, backend="triton")


def jobs(arch: str, features: dict[str, tuple[str, ...]] = FEATURES_OF_KIND) -> list[dict[str, Any]]:
    return [
        {
            "arch": arch, "kernel": "forward", "head": head, "kind": kind, "dtype": "bfloat16", "features": name,
            "tile": tile, "switches": {"descriptors": True, "specialized": way == "warps"},
        }
        for (way, head, kind), tile in DESCRIPTORS[arch].items()
        for name in features[kind]
    ]  # fmt: skip


@pytest.mark.parametrize("arch", DESCRIPTORS)
def test_most_used_tiles_compile_without_a_spill(arch: str, tmp_path: Path) -> None:
    assert set(DESCRIPTORS) <= set(ATTENTION)
    assert not complaints(compiled(jobs(arch, {"plain": ("causal",), "segments": ("packed",)}), tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("arch", DESCRIPTORS)
def test_every_tile_compiles_without_a_spill(arch: str, tmp_path: Path) -> None:
    assert not complaints(compiled(jobs(arch), tmp_path))
