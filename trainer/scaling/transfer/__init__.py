"""Whether the best setting of a small model is that of a large one: `isoflop transfer`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.scaling.transfer.points import read_points
from trainer.scaling.transfer.report import Transfer, transfer, transfer_json
from trainer.scaling.transfer.text import format_transfer
from trainer.utils.files import write_atomic

__all__ = ["format_transfer", "read_points", "transfer", "transfer_json", "write_transfer"]


def write_transfer(found: Transfer, folder: Path) -> dict[str, Any]:
    """transfer.json, transfer.png and transfer.svg; returns what transfer.json holds."""
    from trainer.scaling.transfer.picture import picture

    folder.mkdir(parents=True, exist_ok=True)
    svg, png = picture(found)
    facts = transfer_json(found)
    write_atomic(folder / "transfer.svg", svg)
    write_atomic(folder / "transfer.png", png)
    write_atomic(folder / "transfer.json", json.dumps(facts, indent=1) + "\n")
    return facts
