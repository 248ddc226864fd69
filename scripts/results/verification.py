"""What an imported model computes against transformers, for the odd configurations of the tests, family by family.

    scripts/results/verification [--out docs/verification.md]

Writes a table: models compared, values of logits, the largest difference relative to their spread, and what is refused.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from odd import CASES, build

from trainer.hub import import_run, read_checkpoint
from trainer.hub.check import ALLOWED, LENGTH, ROWS, compare
from trainer.utils.files import write_atomic

ROOT = Path(__file__).resolve().parents[2]
HEAD = f"""\
# Verification

Made by `scripts/results/verification`; torch {torch.__version__}, transformers {transformers.__version__}, on a CPU.
Models of transformers with random weights (every parameter, seed 0) and odd configurations are saved and imported;
{ROWS} rows of up to {LENGTH} random tokens go through both in fp32. The difference is the largest absolute one over all
logits, divided by their standard deviation; {ALLOWED:.0e} is allowed (`isoflop import --check`). It is 0 where both ask
torch for the same operations in the same order, as of BART; of its eager attention in transformers it is 6.6e-07.

| class | models | logits | largest difference | refused by name |
|---|---|---|---|---|
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "verification.md")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    lines, worst = [], 0.0
    for (kind, config), (usual, several) in CASES.items():
        found = [
            difference(kind, config, usual | changes) for changes, refused in [({}, None), *several] if refused is None
        ]
        largest = max((one.relative for one in found), key=lambda value: math.inf if math.isnan(value) else value)
        worst = max(worst, largest) if math.isfinite(largest) else math.inf
        keys = ", ".join(f"`{refused}`" for refused in dict.fromkeys(one for _, one in several if one)) or "none tried"
        lines.append(f"| {kind} | {len(found)} | {sum(one.values for one in found):,} | {largest:.1e} | {keys} |")
    write_atomic(arguments.out, HEAD + "\n".join(lines) + "\n")
    print(f"{arguments.out}: {len(lines)} classes, largest difference {worst:.1e} of the spread")
    return 0 if worst <= ALLOWED else 1


def difference(kind, config, keys):
    """Of the imported model and transformers' own."""
    with tempfile.TemporaryDirectory() as place:
        theirs, run = Path(place) / "theirs", Path(place) / "run"
        build(kind, config, keys).save_pretrained(theirs)
        import_run(theirs, run)
        return compare(theirs, run, read_checkpoint(theirs))


if __name__ == "__main__":
    sys.exit(main())
