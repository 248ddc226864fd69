"""The measured speeds of our attention over SDPA's best, in the form that the choice of a backend reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proof.plan import cases

if TYPE_CHECKING:
    from proof.results import Results

KINDS = {"full": "plain", "gqa": "gqa"}  # else as plan.py names it
PEERS = ("flash", "cudnn", "sdpa mask", "sdpa bias")


def ratios(results: Results) -> dict[str, Any]:
    """{"source", "commit", "versions", chip: {kind: {head: {"triton_over_sdpa": ..., "length": ...}}}}.

    triton_over_sdpa: seconds of the fastest that SDPA has for it over ours, forward and backward, at the longest length
    that was measured; peer: which that was.
    """
    chip = results.environment.get("architecture")
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for case in cases():
        row = results.rows.get(case.name)
        if case.part != "attention" or row is None or "isoflop" not in row.get("who", {}):
            continue
        peers = {name: row["who"][name]["both_seconds"] for name in PEERS if name in row["who"]}
        if not peers:
            continue
        kind = KINDS.get(case.settings["kind"], case.settings["kind"])
        head, length = str(case.settings["head"]), case.settings["length"]
        held = found.setdefault(kind, {}).get(head)
        if held is None or length > held["length"]:
            peer = min(peers, key=peers.__getitem__)
            speed = peers[peer] / row["who"]["isoflop"]["both_seconds"]
            found[kind][head] = {"triton_over_sdpa": round(speed, 3), "peer": peer, "length": length}
    versions = {name: results.environment.get(name) for name in ("torch", "triton", "cudnn", "driver")}
    return {"source": "measured", "commit": results.environment.get("commit"), "versions": versions, chip: found}
