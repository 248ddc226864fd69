from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Tests are no package (--import-mode=importlib): load the neighbour by its path.
_spec = importlib.util.spec_from_file_location("isoflop_test_cluster", Path(__file__).parent / "cluster.py")
assert _spec is not None
assert _spec.loader is not None
cluster = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = cluster
_spec.loader.exec_module(cluster)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A SLURM with the nodes n1 and n2."""
    reason = cluster.missing()
    if reason:
        pytest.skip(reason)
    running = cluster.Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        running.start()
        yield running
    finally:
        running.stop()
