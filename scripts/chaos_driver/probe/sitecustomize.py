"""Found on PYTHONPATH by the ranks of a run: notes which samples each update was made of, and changes nothing.

<ISOFLOP_CHAOS_READS>/<attempt>-<rank>.jsonl: {"step": updates before this one, "rows": [fingerprint of each sample]}
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
from pathlib import Path
from typing import Any


class Finder(importlib.abc.MetaPathFinder):
    """Gets at trainer.training.engine once it is loaded."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "trainer.training.engine":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def loaded(module: Any) -> None:
                load(module)
                observe(module.Engine)

            spec.loader.exec_module = loaded  # type: ignore[method-assign]
        return spec


def observe(engine: Any) -> None:
    load, update, forward_backward = engine.load, engine.update, engine.forward_backward

    def loading(self: Any, step: int, *arguments: Any) -> None:
        load(self, step, *arguments)
        self.chaos_updates = step

    def passing(self: Any, micro_batches: Any, targets: float) -> Any:
        self.chaos_rows = [
            hashlib.sha256(row.astype("<i8").tobytes()).hexdigest()[:16]
            for batch in micro_batches
            for row, aims in zip(batch["tokens"], batch["targets"], strict=True)
            if (aims >= 0).any()  # the others are padding
        ]
        return forward_backward(self, micro_batches, targets)

    def updating(self: Any, *settings: Any) -> None:
        done = getattr(self, "chaos_updates", 0)
        name = f"{os.environ['ISOFLOP_CHAOS_ATTEMPT']}-{self.world.rank}.jsonl"
        with open(Path(os.environ["ISOFLOP_CHAOS_READS"]) / name, "a") as file:
            file.write(json.dumps({"step": done, "rows": self.chaos_rows}) + "\n")
        update(self, *settings)
        self.chaos_updates = done + 1

    engine.load, engine.update, engine.forward_backward = loading, updating, passing


if "ISOFLOP_CHAOS_READS" in os.environ:
    sys.meta_path.insert(0, Finder())
