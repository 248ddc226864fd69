"""Attention's kernels for what every preset of models and objectives asks of them, compiled for an H100: nothing
spills, and products do not wait for each other. A new preset is covered as it stands (preset_features.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from kernels.configs import SHARED_MEMORY, block_dim
from kernels.inner_loops import Case, all_costs

pytest.importorskip("triton")

ARCH, SERIALIZED = "sm_90", 1 / 3
# What fails today, and what it says.
KNOWN: dict[str, str] = {
    "sm_90 dense 64 bias=3 dropout segments": "40 B spilt",
    "sm_90 dkdv 64 groups=2 has_right segments": "24 B spilt, between the loops over tiles",
    "sm_90 dq 32 has_right segments": "0.375 waits a product",
    "sm_90 dq 32 order=1 segments": "0.375 waits a product",
    "sm_90 dq 256 bias=2 has_right segments": "96 B spilt",
    "sm_90 dq 256 bias=2 segments": "96 B spilt",
}


def cases_of(asked: Iterable[object]) -> Iterator[Case]:
    """Forward and backward in training; forward alone, without segments and dropout, where a model reads one text."""
    from preset_features import Asked

    read = set()
    for one in asked:
        assert isinstance(one, Asked)
        features = dict(one.features)
        kernels = ["forward", "dq", "dkdv"]
        kernels += {2: ["bias"], 3: ["dense"]}.get(features.get("bias", 0), [])
        for kernel in kernels:
            yield Case(ARCH, kernel, one.head, one.name, features)
        if one.head > 128:  # dV in a launch of its own
            yield Case(ARCH, "dkdv", one.head, one.name + " dv", features | {"dk": False, "dv": True})
        alone = tuple(pair for pair in one.features if pair[0] not in ("segments", "dropout"))
        read.add(one._replace(features=alone))
    for one in sorted(read, key=str):
        yield Case(ARCH, "forward", one.head, one.name, dict(one.features))


def failures(wanted: Iterable[Case], cache: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    found = {}
    for case, costs in all_costs(list(wanted)):
        if isinstance(costs, str):
            found[case.name] = costs
        elif costs.spill or costs.shared > SHARED_MEMORY[case.arch] or (costs.serialization or 0) > SERIALIZED:
            found[case.name] = f"{costs.spill} B spilt, {costs.shared} B shared, {costs.serialization} ARRIVE a product"
    return found


@pytest.mark.parametrize(
    ("preset", "order", "features"),
    [
        ("llama3.1-8b", False, {(128, "groups=2 has_right segments")}),
        ("gpt2-124m", True, {(64, "dropout order=1 segments")}),
        ("bert-base", False, {(64, "dropout segments")}),
        ("bloom-560m", False, {(64, "bias=1 has_right segments")}),
        (
            "t5-11b",
            False,
            {
                (128, "bias=2 dropout segments"),
                (128, "bias=2 dropout has_right segments"),
                (128, "dropout segments"),  # from the decoder to the encoder
            },
        ),
        (
            "gemma2-9b",
            False,
            {
                (256, "groups=2 has_right segments softcap"),
                (256, "groups=2 has_left has_right segments softcap"),
            },
        ),
    ],
)
def test_what_a_preset_asks_for(preset: str, order: bool, features: set[tuple[int, str]]) -> None:
    pytest.importorskip("pydantic")
    from preset_features import asked_by, presets

    trained = {(family, None) for family in ("decoder", "encoder", "encoder_decoder")}
    found = asked_by(presets("model")[preset], order, trained)
    assert {(one.head, one.name) for one in found} == features


def test_dropout_of_packed_documents_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests/kernels/test_sass.py leaves out of what runs most."""
    from preset_features import Asked

    asked = Asked(64, (("dropout", True), ("has_right", True), ("segments", True)))
    wanted = [case for case in cases_of([asked]) if "dropout" in case.features and case.name not in KNOWN]
    assert wanted and not failures(wanted, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def asked() -> list[Case]:
    pytest.importorskip("pydantic")
    from preset_features import asked_by_presets

    return list(cases_of(asked_by_presets()))


@pytest.mark.slow
@pytest.mark.parametrize("block", [32, 64, 128, 256])
def test_what_every_preset_asks_for_compiles(
    block: int, asked: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """block: the channels that a kernel takes a head for."""
    assert {block_dim(case.head) for case in asked} == {32, 64, 128, 256}
    wanted = [case for case in asked if block_dim(case.head) == block and case.name not in KNOWN]
    assert not failures(wanted, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="spills, or products wait: see KNOWN")
@pytest.mark.parametrize("name", KNOWN)
def test_known_failure(name: str, asked: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = (case for case in asked if case.name == name)
    assert not failures([case], tmp_path, monkeypatch)
