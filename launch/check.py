"""Preflight alone: every node that a launch would use is checked, and nothing is trained."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from launch.launcher import launcher_of
from launch.links import links_said
from launch.plan import ALONE
from trainer.books.formatting import format_amount
from trainer.config import Config
from trainer.meter import costs
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic


def check(config: Config, *, as_json: bool = False) -> int:
    """Check every node with as many ranks as the launch would have, and print what was found; returns an exit code.

    Raises UserError where SLURM refuses, where nodes cannot be reached from here, or where the root cannot be written.
    """
    launcher = launcher_of(config.launch.name)
    launcher.require_reach(config)
    costs.into_root(config)
    root = Path(config.run.root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=ALONE) as name:
            run = Path(name).absolute()
            write_atomic(run / "config.yaml", config.to_yaml())
            code = launcher.preflight(config, run)
            if (run / "preflight.json").is_file():
                kept = json.loads((run / "preflight.json").read_text())
                print(json.dumps(kept, indent=1) if as_json else _table(kept))
            return code
    except OSError as error:
        raise UserError(f"run.root: cannot write to {root} ({error.strerror}); choose another folder") from None


def _table(kept: dict[str, Any]) -> str:
    arrived = [one for one in kept["ranks"] if one["arrived"]]
    rows = [
        f"rank {one['rank']:<4} {one['node']:<20} {one['device']:<32} matrix product "
        f"{'right' if one['matmul_right'] else 'WRONG'}, {format_amount(one['matmul_flop_per_second'], 'FLOP/s')}; "
        f"{format_amount(one['free_bytes'], 'bytes')} free"
        for one in arrived
    ]
    bandwidth = kept["all_reduce_bytes_per_second"]
    if bandwidth is not None:
        right = "right" if all(one["sum_right"] for one in arrived) else "WRONG"
        rows.append(f"all-reduce {right}, {format_amount(bandwidth, 'bytes')}/s")
    rows += links_said(kept["links"])
    return "\n".join([*rows, "every node is fit" if not kept["complaints"] else "not every node is fit"])
