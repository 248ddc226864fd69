"""What the benchmarks on a GPU share: where they ran, and how their tables are written."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]


def environment(folder: str) -> dict[str, Any]:
    """What a table of figures must name. `folder` of the repository: whose uncommitted changes count."""
    import triton

    from kernels.configs import architecture
    from kernels.table import TIMED

    def said(*command: str) -> str | None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""

    arch = architecture(torch.device("cuda"))
    return {
        "gpu": torch.cuda.get_device_name(),
        "architecture": arch,
        "tiles": "timed on such a GPU" if arch in TIMED else "chosen by compiling only",
        "driver": said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "power_limit": said("nvidia-smi", "--query-gpu=power.limit", "--format=csv,noheader"),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "commit": said("git", "rev-parse", "HEAD"),
        "uncommitted_changes": bool(said("git", "status", "--porcelain", "--", folder)),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python " + " ".join([f"scripts/bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }


def write_report(folder: Path, what: str, data: dict[str, Any], text: str) -> Path:
    """<gpu>-<what>.json and .md in `folder`, complete or absent; returns the latter."""
    stem = re.sub(r"[^a-z0-9]+", "-", data["environment"]["gpu"].lower()).strip("-") + f"-{what}"
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in ((".json", json.dumps(data, indent=1)), (".md", text)):
        aside = folder / (stem + suffix + ".new")
        aside.write_text(content)
        aside.replace(folder / (stem + suffix))
    return folder / (stem + ".md")
