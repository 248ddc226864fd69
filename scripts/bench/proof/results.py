"""The file of a proof's results: written whole after each row, and read again by the next proof on the same chip."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ("kernels", "trainer", "conf", "scripts/bench", "tests/kernels")
KNOWN = ("measured", "passed", "failed", "skipped")  # not run again; "stopped" is: it had no time
VERSIONS = ("gpu", "driver", "torch", "triton", "cudnn", "python")


def sources_digest(root: Path = ROOT) -> str:
    """16 hex digits over the files that decide what is measured: the same for a commit and a copy without .git."""
    total = hashlib.sha256()
    files = (f for name in SOURCES for f in (root / name).rglob("*") if f.suffix in (".py", ".yaml") and f.is_file())
    for file in sorted(files):
        for part in (file.relative_to(root).as_posix().encode(), file.read_bytes()):
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:16]


def chip_name(gpu: str) -> str:
    """ "NVIDIA H200" -> "h200", as file names have it."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-").removeprefix("nvidia-")


def write_whole(path: Path, text: str) -> None:
    """The file holds all of the text or what it held before, whenever the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".new")
    with open(aside, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


class Results:
    """Rows by name, and what became of each part. `identity` says whose they are: sources, chip and versions."""

    def __init__(self, path: Path, environment: dict[str, Any], sources: str) -> None:
        """Takes up the rows that `path` holds for this identity; those of another are replaced at the first writing."""
        self.path, self.environment = path, environment
        self.identity = {"sources": sources} | {name: environment.get(name) for name in VERSIONS}
        self.rows: dict[str, dict[str, Any]] = {}
        self.parts: dict[str, str] = {}
        self.not_run: list[str] = []  # what there was no time for
        try:
            held = json.loads(path.read_text())
        except (OSError, ValueError):  # none, or a file of something else
            return
        if isinstance(held, dict) and held.get("identity") == self.identity:
            self.rows = {row["name"]: row for row in held["rows"] if row["status"] in KNOWN}

    def has(self, name: str) -> bool:
        return self.rows.get(name, {}).get("status") in KNOWN

    def forget_failures(self) -> None:
        self.rows = {name: row for name, row in self.rows.items() if row["status"] != "failed"}

    def add(self, row: dict[str, Any]) -> None:
        """A row has its name, its part and a status; commit and date are those of this proof."""
        stamp = {"commit": self.environment.get("commit"), "date": self.environment.get("date")}
        self.rows[row["name"]] = row | stamp

    def write(self) -> None:
        """<path>.json, and the same as a page beside it."""
        from proof.page import page
        from proof.ratios import ratios

        data = {
            "environment": self.environment,
            "identity": self.identity,
            "parts": self.parts,
            "not_run": self.not_run,
            "ratios": ratios(self),
            "rows": list(self.rows.values()),
        }
        write_whole(self.path, json.dumps(data, indent=1) + "\n")
        write_whole(self.path.with_suffix(".md"), page(self))
