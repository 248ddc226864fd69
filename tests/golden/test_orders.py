"""What a sample holds is what it held in 0.1.0: a resumed run of today would read other text if this moved."""

from __future__ import annotations

from pathlib import Path

from tests.golden import orders
from tests.golden.files import changes


def test_every_objective_reads_the_same_samples(tmp_path: Path) -> None:
    found, wanted = (
        [f"{name}: {value}" for name, value in facts.items()] for facts in (orders.build(tmp_path), orders.golden())
    )
    assert found == wanted, changes(found, wanted, "orders", orders.FILE)


def test_every_case_that_is_allowed_differs_from_all_others() -> None:
    """Two equal hashes of first batches would mean that a key is not read."""
    firsts = {name: value for name, value in orders.golden().items() if name.endswith(": first")}
    by_hash: dict[str, list[str]] = {}
    for name, value in firsts.items():
        by_hash.setdefault(value, []).append(name)
    doubled = [names for names in by_hash.values() if len(names) > 1]
    assert doubled == []
