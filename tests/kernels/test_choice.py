"""Which attention runs: the choice as a function of names, over chips, fields and ratios."""

from __future__ import annotations

import importlib
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernels import Alibi, Dense, T5Bias, attention, backends, choice, configs, prepare_mask
from kernels.attention.spec import AttentionSpec
from kernels.choice import Choice, Ratio, Setting, attention_backend, attention_kind
from kernels.table import ATTENTION

module = importlib.import_module("kernels.attention")  # the package holds the function of that name
CHIPS = (None, *ATTENTION)
INDEX = torch.zeros(1, 4, dtype=torch.int32)
SPECS: dict[str, dict[str, Any]] = {
    "causal": {"right": 0},
    "window": {"left": 4, "right": 0},
    "segments": {"q_segments": INDEX, "k_segments": INDEX},
    "kv_lens": {"kv_lens": INDEX[:, 0]},
    "order": {"q_order": INDEX, "k_order": INDEX, "strict": True},
    "alibi": {"bias": Alibi(torch.ones(2))},
    "t5": {"bias": T5Bias(torch.zeros(32, 2))},
    "dense": {"bias": Dense(torch.zeros(1, 1, 4, 4))},
    "softcap": {"softcap": 30.0},
    "sink": {"sink": torch.zeros(2)},
    "return_lse": {"return_lse": True},
    "dropout_p": {"dropout_p": 0.1, "seed": 3},
}


def subsets() -> list[tuple[str, ...]]:
    draw = random.Random(5)
    pairs = [(), *((name,) for name in SPECS), *itertools.combinations(SPECS, 2)]
    return pairs + [tuple(draw.sample(list(SPECS), draw.randint(3, 6))) for _ in range(60)]


@pytest.mark.parametrize("name", SPECS)
def test_a_field_that_is_used_is_named(name: str) -> None:
    assert name in AttentionSpec(**SPECS[name]).fields(4, 4)
    assert AttentionSpec().fields(4, 4) == ()


def test_causality_of_lengths_that_differ_wants_a_mask_but_for_one_query() -> None:
    spec = AttentionSpec(right=0)
    assert attention_kind(spec.fields(4, 4)) == "causal"
    assert attention_kind(spec.fields(3, 4)) == "offset"
    assert attention_kind(spec.fields(1, 4)) == "one_query"


@pytest.fixture
def no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that states nothing."""
    monkeypatch.setattr(choice, "speeds", dict)


@pytest.mark.parametrize("chip", CHIPS)
def test_auto_chooses_who_has_every_field_and_on_a_cpu_as_ever(chip: str | None, no_ratio: None) -> None:
    for fields in subsets():
        able = not set(choice.SDPA_LACKS) & set(fields)
        for head, half in itertools.product((None, 16, 64, 80, 128, 256), (True, False)):
            setting = Setting(chip, head, half)
            assert attention_backend("auto", "cpu", fields, None, setting).backend == ("sdpa" if able else "reference")
            on_gpu = attention_backend("auto", "cuda", fields, None, setting).backend
            assert on_gpu in (("sdpa", "triton") if able else ("triton",))
            # No tensor of queries x keys where nobody says that it is faster.
            if able and set(choice.SQUARE) & set(fields):
                assert on_gpu == "triton"
            for asked in ("triton", "sdpa", "reference"):
                assert attention_backend(asked, "cuda", fields, None, setting) == Choice(asked, "asked for")


@pytest.mark.parametrize("chip", ["sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "gfx942", None])
def test_plain_and_causal_go_to_sdpa_and_packed_documents_to_triton(chip: str | None, no_ratio: None) -> None:
    for head in (64, 128):
        setting = Setting(chip, head)
        assert attention_backend("auto", "cuda", ("causal",), None, setting).backend == "sdpa"
        assert attention_backend("auto", "cuda", (), None, setting).backend == "sdpa"
        assert attention_backend("auto", "cuda", ("causal", "segments"), None, setting).backend == "triton"
        # A token that is written reads a row of a mask.
        assert attention_backend("auto", "cuda", ("one_query", "segments"), None, setting).backend == "sdpa"


def test_a_machine_may_be_stated_for_every_chip_that_has_a_tile() -> None:
    pricing = pytest.importorskip("trainer.config.pricing")
    assert set(ATTENTION) <= set(pricing.ARCHITECTURES)


@pytest.mark.parametrize("ratio", [0.2, 0.99, 1.01, 7.0])
def test_a_stated_ratio_decides_and_is_said_with_its_source(ratio: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for fields in subsets():
        if set(choice.SDPA_LACKS) & set(fields):
            continue
        kind = attention_kind(fields)
        table = {"sm_90": {kind: {"64": Ratio(ratio, "measured: here")}}}
        monkeypatch.setattr(choice, "speeds", lambda table=table: table)
        chosen, reason = attention_backend("auto", "cuda", fields, None, Setting("sm_90", 48))
        assert chosen == ("triton" if ratio > 1 else "sdpa")
        assert f"{kind}, head size 48 on sm_90: triton is {ratio:g} times sdpa" in reason and "measured: here" in reason
        # It holds for its chip, its head sizes and half precision alone.
        usual = "triton" if kind in choice.SQUARE else "sdpa"
        for other in (Setting("sm_80", 48), Setting("sm_90", 128), Setting("sm_90", 48, False), Setting("sm_90", None)):
            chosen, reason = attention_backend("auto", "cuda", fields, None, other)
            assert chosen == usual and "no ratio of speed is stated" in reason


def test_every_stated_ratio_names_a_chip_a_kind_a_head_class_and_where_it_is_from() -> None:
    table = json.loads(Path(choice.__file__).with_name("speed.json").read_text(encoding="utf-8"))
    assert set(table) <= set(ATTENTION)
    for kinds in table.values():
        assert set(kinds) <= {*choice.SQUARE, "causal", "plain"}
        for heads in kinds.values():
            assert set(heads) <= {"64", "128", "256"}
            for entry in heads.values():
                assert entry["triton_over_sdpa"] > 0
                assert entry["source"].startswith(("estimated: ", "measured: "))


@pytest.mark.parametrize("chip", ["sm_70", "sm_75"])
def test_a_chip_that_triton_lacks_gets_what_has_every_field(chip: str) -> None:
    setting = Setting(chip, 64)
    assert attention_backend("auto", "cuda", ("segments",), None, setting).backend == "sdpa"
    chosen, reason = attention_backend("auto", "cuda", ("softcap",), None, setting)
    assert chosen == "reference" and chip in reason and "sdpa has no softcap" in reason


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A device of type cuda without CUDA, of compute capability 7.5."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    configs._chip.cache_clear()
    yield torch.device("cuda")
    configs._chip.cache_clear()


def test_triton_by_name_is_refused_on_an_old_chip_and_auto_says_what_it_took(
    a_gpu: torch.device, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_logged", set())
    with pytest.raises(
        ValueError, match=r"backend is 'triton', but triton wants compute capability 8.0, .* sm_75; use"
    ):
        module._choose("attention", "triton", (), a_gpu, torch.float16, 64)
    with caplog.at_level("INFO", logger="kernels"):
        for _ in range(2):
            assert module._choose("attention", "auto", ("segments",), a_gpu, torch.float16, 64) == "sdpa"
    (line,) = caplog.messages
    assert line.startswith("attention on cuda: backend sdpa (triton wants compute capability 8.0")


@pytest.mark.parametrize(
    ("version", "why"),
    [("3.5.1", "triton 3.5.1 is installed, and the kernels want 3.6 or later"), ("3.6.0", None), ("3.10.0+git1", None)],
)
def test_an_older_triton_is_refused_with_its_version(
    version: str, why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.importlib.metadata, "version", lambda name: version)
    backends._triton_is_not_here.cache_clear()
    try:
        assert backends.triton_lacks(torch.device("cuda"), torch.bfloat16) == why
    finally:
        backends._triton_is_not_here.cache_clear()


def test_float64_is_never_given_to_triton(no_ratio: None) -> None:
    gpu = torch.device("cuda")
    assert module._choose("attention", "auto", ("segments",), gpu, torch.float64, 64) == "sdpa"
    assert module._choose("attention", "auto", ("segments",), gpu, torch.float32, 64) == "triton"
    assert module._choose("attention", "auto", ("softcap",), gpu, torch.float64, 64) == "reference"


def test_a_mask_for_triton_holds_no_tensor_of_queries_x_keys(no_ratio: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, whose device type alone is played: what is prepared is of the length of a row."""
    real = choice.attention_backend
    monkeypatch.setattr(
        choice, "attention_backend", lambda asked, device, *rest: real(asked, "cuda", rest[0], None, *rest[2:])
    )
    made: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            made.extend(one.numel() for one in tree_leaves(out) if isinstance(one, torch.Tensor))
            return out

    length, rows = 512, 2
    segments = torch.arange(length).div(100, rounding_mode="floor").expand(rows, length)
    for bias in (None, T5Bias(torch.zeros(32, 4))):
        made.clear()
        with Sizes():
            mask = prepare_mask(length, device="cpu", causal=True, segments=segments, bias=bias, head_dim=64)
        assert (mask.backend, mask.visible, mask.additive) == ("triton", None, None)
        assert 0 < max(made) <= 8 * rows * length


def test_a_choice_does_not_break_a_graph(no_ratio: None) -> None:
    @torch.compile(fullgraph=True, backend="eager")
    def chosen(x: torch.Tensor) -> torch.Tensor:
        backend = module._choose("attention", "auto", ("segments",), torch.device("cuda"), x.dtype, x.shape[-1])
        mask = prepare_mask(x.shape[1], device=x.device, causal=True, segments=INDEX, head_dim=x.shape[-1])
        return attention(x, x, x, mask=mask) + (backend == "triton")

    x = torch.randn(1, 4, 2, 8)
    torch.testing.assert_close(chosen(x), 1 + attention(x, x, x, causal=True))
