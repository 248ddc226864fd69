"""No pass is quicker than the host launches its operators: the floor under the time of small models.

How many there are is counted by PyTorch's dispatcher for each kind of model (`scripts/results/operators` writes
`operators.json`); what one takes is the host's, PyTorch's and autograd's time for it. Compiled code launches one kernel
where eager code launches a chain.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from trainer.books import kernels
from trainer.books.layout import micro_batches
from trainer.config import Config
from trainer.config.recomputation import any_block

TABLE = Path(__file__).with_name("operators.json")
HOST_SECONDS = 7.5e-6  # of an operator with its gradient's: 5 to 10 us on hosts of data centres
COMPILED_OPERATORS = 0.4  # of them are left: products, attention, and one kernel for each chain between them
RECOMPUTED = 4 / 3  # times as many, where every block is passed once more: forward is a third
UPDATE = 60  # of clipping and a fused optimizer, whatever the model
NAMES = (
    "family",
    "position",
    "norm",
    "norm_position",
    "gated",
    "bias",
    "qk_norm",
    "parallel",
    "two_stream",
    "generator",
)


def traits(config: Config) -> dict[str, Any]:
    """What of a model's kind decides how many operators it has."""
    model = config.model
    found = {name: getattr(model, name) for name in NAMES if name != "generator"}
    return found | {"generator": model.generator is not None}


@cache
def kinds() -> dict[str, dict[str, Any]]:
    """Preset -> its traits and counts."""
    found: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))["kinds"]
    return found


def kind(config: Config) -> tuple[str, bool]:
    """The counted kind of model that is most like this one, by the first traits first; and whether it is just that."""
    own = traits(config)

    def likeness(name: str) -> tuple[int, ...]:
        counted = kinds()[name]["traits"]
        return (
            sum(counted[trait] == own[trait] for trait in NAMES),
            *(counted[trait] == own[trait] for trait in NAMES),
        )

    alike = [name for name in kinds() if kinds()[name]["traits"]["family"] == own["family"]]
    best = max(alike or list(kinds()), key=likeness)
    return best, kinds()[best]["traits"] == own


def operators(config: Config) -> int:
    """That one rank launches in one step."""
    counted = kinds()[kind(config)[0]]
    passed = counted["layer"] * config.model.depth + counted["around"]
    if any_block(config.engine.activation_checkpointing):
        passed = round(passed * RECOMPUTED)
    if kernels.compiled(config).on:
        passed = round(passed * COMPILED_OPERATORS)
    return micro_batches(config) * passed + UPDATE


def floor_seconds(config: Config) -> float:
    """Of one step's launches; on a processor they are part of what is computed."""
    if kernels.device(config) != "cuda":
        return 0.0
    return operators(config) * HOST_SECONDS
