"""What a sample holds is what it held in 0.1.0: a resumed run of today would read other text if this moved."""

from __future__ import annotations

from pathlib import Path

from tests.golden import orders
from tests.golden.files import same


def test_every_objective_reads_the_same_samples(tmp_path: Path) -> None:
    found, wanted = (
        [f"{name}: {value}" for name, value in facts.items()] for facts in (orders.build(tmp_path), orders.golden())
    )
    same(found, wanted, "orders", orders.FILE)


def test_every_case_is_a_case_of_its_own() -> None:
    """Two that read the same would mean that a key is not read; of pairs of texts the packing is not."""
    pairs = ("albert", "bert", "unilm")
    cases: dict[str, list[str]] = {}
    for name, value in orders.golden().items():
        case, _, place = name.partition(": ")
        if place and not (case.startswith(pairs) and case.endswith("padded")):
            cases.setdefault(case, []).append(value)
    assert len(set(map(tuple, cases.values()))) == len(cases) > 100
