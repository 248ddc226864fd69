"""The measured speeds of our attention over SDPA's best, in the form of kernels/speed.json, by which `auto` decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proof.plan import cases

if TYPE_CHECKING:
    from proof.results import Results

KINDS = {"full": "plain", "causal": "causal", "packed": "segments", "window": "window", "t5": "t5", "order": "order"}
PEERS = ("flash", "cudnn", "sdpa mask", "sdpa bias")  # what `kernels.attention=sdpa` can run
LENGTH = 8192  # of the case that speaks for a kind and head size; the nearest where it was not measured

Table = dict[str, dict[str, dict[str, dict[str, Any]]]]


def ratios(results: Results) -> Table:
    """chip -> kind -> head size -> {"triton_over_sdpa": seconds of SDPA's best over ours, "source": "measured: ..."}.

    Forward and backward together. Empty where nothing was measured.
    """
    where = results.environment
    best: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
    for case in cases():
        row, kind = results.rows.get(case.name), KINDS.get(case.settings.get("kind", ""))
        if case.part != "attention" or kind is None or row is None or "isoflop" not in row.get("who", {}):
            continue
        peers = {name: row["who"][name]["both_seconds"] for name in PEERS if name in row["who"]}
        if not peers:
            continue
        peer, length = min(peers, key=peers.__getitem__), case.settings["length"]
        speed = peers[peer] / row["who"]["isoflop"]["both_seconds"]
        versions = ", ".join(f"{name} {where.get(name) or 'not stated'}" for name in ("torch", "triton", "cudnn"))
        source = f"measured: over {peer} at {length:,} tokens on {where['gpu']}, commit {row['commit']}, {versions}"
        entry = {"triton_over_sdpa": round(speed, 3), "source": source}
        key = (kind, str(case.settings["head"]))
        if key not in best or abs(length - LENGTH) < abs(best[key][0] - LENGTH):
            best[key] = (length, entry)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (kind, head), (_, entry) in best.items():
        found.setdefault(kind, {})[head] = entry
    return {where["architecture"]: found} if found else {}


def adopted(table: Table, measured: Table) -> Table:
    """The table with the measured ratios in the place of those that it holds for the same chip, kind and head size."""
    merged = {chip: {kind: dict(heads) for kind, heads in kinds.items()} for chip, kinds in table.items()}
    for chip, kinds in measured.items():
        for kind, heads in kinds.items():
            merged.setdefault(chip, {}).setdefault(kind, {}).update(heads)
    return merged


def as_text(table: Table) -> str:
    """JSON, an entry a line."""
    chips = []
    for chip, kinds in table.items():
        lines = []
        for kind, heads in kinds.items():
            entries = ",\n".join(f"      {json.dumps(head)}: {json.dumps(entry)}" for head, entry in heads.items())
            lines.append(f"    {json.dumps(kind)}: {{\n{entries}\n    }}")
        chips.append(f"  {json.dumps(chip)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(chips) + "\n}\n"


def adopt(results: Path, table: Path) -> int:
    """Put the ratios of a file of results into `table`; returns how many. Raises ValueError where they are none."""
    from proof.results import write_whole

    try:
        measured, held = json.loads(results.read_text())["ratios"], json.loads(table.read_text())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{results} and {table} must be results of the proof and a table of ratios: {error}") from None
    write_whole(table, as_text(adopted(held, measured)))
    return sum(len(heads) for kinds in measured.values() for heads in kinds.values())
