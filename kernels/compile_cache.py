"""Keep torch.compile from reusing, after an upgrade, a backward pass that it compiled from older kernels.

torch.compile keys its cache on disk by the graph of the forward pass. The backward that an operator registers is
Python, which that key does not see: change it alone, and the code compiled from the old one is still found and run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch.compiler.config


def digest(package: Path) -> str:
    """16 hex digits over the names and contents of a package's Python files."""
    total = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        for part in (file.relative_to(package).as_posix().encode(), file.read_bytes()):
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:16]


def tag() -> None:
    """Make this package's sources part of the key under which torch.compile keeps what it compiles (once a process)."""
    ours = f"isoflop-{digest(Path(__file__).parent)}"
    before = torch.compiler.config.cache_key_tag
    if ours not in before:
        torch.compiler.config.cache_key_tag = f"{before}-{ours}" if before else ours
