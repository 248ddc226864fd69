"""What the benchmarks on a GPU share: where they ran, and how their tables are written."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from proof.results import write_whole

ROOT = Path(__file__).resolve().parents[2]


def environment(*folders: str) -> dict[str, Any]:
    """What a table of figures must name. `folders` of the repository: whose uncommitted changes count.

    A copy without its .git is told the commit by the variable COMMIT.
    """
    import triton

    from kernels.configs import architecture
    from kernels.table import TIMED

    def said(*command: str) -> str | None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""

    here = torch.cuda.is_available()
    arch = architecture(torch.device("cuda")) if here else "no GPU"
    changes = said("git", "status", "--porcelain", "--", *folders)
    return {
        "gpu": torch.cuda.get_device_name() if here else "no GPU",
        "architecture": arch,
        "tiles": "timed on such a GPU" if arch in TIMED else "chosen by compiling only",
        "driver": said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "power_limit": said("nvidia-smi", "--query-gpu=power.limit", "--format=csv,noheader"),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "python": sys.version.split()[0],
        "commit": said("git", "rev-parse", "HEAD") or os.environ.get("COMMIT"),
        "uncommitted_changes": None if changes is None else bool(changes),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python " + " ".join([f"scripts/bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }


def rows_apart(arguments: list[str], seconds: float) -> tuple[list[dict[str, Any]], str | None]:
    """Run this script with `arguments` in a process of its own, so that a crash or a hang takes nothing else along.

    Returns the rows that it printed as JSON lines, also before it failed, and what went wrong.
    """
    command = [sys.executable, sys.argv[0], *arguments]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=max(1.0, seconds), check=False)
        printed, wrong = done.stdout, f"ended with exit code {done.returncode}" if done.returncode else None
    except subprocess.TimeoutExpired as late:
        printed, wrong = late.stdout or b"", f"stopped after {seconds:.0f} s"
    whole = printed[: printed.rfind(b"\n") + 1].decode()
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")], wrong


def share(end: float, left: int) -> float:
    """Seconds for the next of `left` parts until `end` (of the monotonic clock): at most twice its equal share, so that
    one that hangs leaves time for the others."""
    remaining = end - time.monotonic()
    return min(remaining, 2 * remaining / left)


def reason(error: Exception) -> str:
    """The first line of an error, as tables state it."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def write_report(folder: Path, what: str, data: dict[str, Any], text: str) -> Path:
    """<gpu>-<what>.json and .md in `folder`, complete or absent; returns the latter."""
    stem = re.sub(r"[^a-z0-9]+", "-", data["environment"]["gpu"].lower()).strip("-") + f"-{what}"
    for suffix, content in ((".json", json.dumps(data, indent=1)), (".md", text)):
        write_whole(folder / (stem + suffix), content)
    return folder / (stem + ".md")
