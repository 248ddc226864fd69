"""`isoflop verify`: a published folder against its own sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.cli.arguments import folder_and_options, split_flags, wants_help
from trainer.utils.errors import UserError

HELP = """\
isoflop verify <published folder> [name=value ...] [--json]

Hashes every file and derives every table, form and page again from the files of the runs. A line for each file that is
not as it was published says what differs; the exit code is then 2.

  rerun=<experiment>/<id>   also train this run again in a temporary folder, and compare it to the bit
  root=<folder>             the runs, where the publication holds only the hashes of their files
  claim=<sha256>            what a paper quotes, or its first digits
"""
OPTIONS = ("rerun", "root", "claim")


def verify(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, HELP, keys=False):
        return 0
    folder, options = folder_and_options("verify", words, OPTIONS)
    if empty := [name for name, value in options.items() if not value]:
        raise UserError(f"verify: {empty[0]}: a value is missing")
    from trainer.publish import verify as verified

    root = Path(options["root"]) if "root" in options else None
    found = verified(folder, root=root, claim=options.get("claim"))
    manifest = found.manifest
    facts: dict[str, Any] = {
        "claim": manifest.claim,
        "sources": len(manifest.sources),
        "derived": len(manifest.derived),
        "notes": found.notes,
    }
    lines = [
        f"{len(manifest.sources)} files of runs are as they were published",
        f"{len(manifest.derived)} files are what these give",
        *found.notes,
        f"claim {manifest.claim}",
    ]
    if "rerun" in options:
        facts["rerun"], more = _again(folder, manifest, options["rerun"], quiet="--json" in flags)
        lines += more
    print(json.dumps(facts, indent=1) if "--json" in flags else "\n".join(lines))
    return 0


def _again(folder: Path, manifest: Any, name: str, *, quiet: bool) -> tuple[dict[str, Any], list[str]]:
    """Of a run that was trained again to the bit: facts, and lines. Raises UserError where it differs."""
    from trainer.publish.rerun import rerun

    found = rerun(folder, manifest, name, quiet=quiet)
    if found.differences:
        where = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise UserError("\n".join(f"rerun: {found.run}: {line}{where}" for line in found.differences))
    weights = f", {found.weights} files of weights" if found.weights else ""
    line = f"{found.run}: {found.steps} steps, {found.evaluations} evaluations{weights}: the same to the bit"
    return vars(found), [line, *found.notes]
