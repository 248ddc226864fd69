"""Preflight alone: every node that a launch would use is checked, and nothing is trained."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from launch.nodes import plan_nodes, start_over_ssh
from launch.plan import Resources
from launch.slurm import plan_job
from launch.submit import cancel_jobs, is_live, job_states, submit
from trainer.books.formatting import format_amount
from trainer.config import Config
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic
from trainer.utils.outcomes import BAD_INPUT, DONE

JOB_MINUTES = "15"  # asked for, so that the check need not wait for a place in the queue as long as the run will
POLL_SECONDS = 2.0  # between two queries of the queue
ABSENT_POLLS = 3  # queries in a row that did not find the job: it has ended


def check(config: Config, *, as_json: bool = False) -> int:
    """Check every node with as many ranks as the launch would have, and print what was found; returns an exit code.

    Raises UserError where SLURM refuses, where nodes cannot be reached from here, or where the root cannot be written.
    """
    if config.launch.name == "torchrun" and config.launch.hosts and not config.launch.ssh:
        raise UserError(
            "preflight reaches other hosts over ssh: add launch.ssh=true; without ssh, a launch checks every node "
            "before it trains"
        )
    root = Path(config.run.root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".preflight-") as name:
            run = Path(name).absolute()
            write_atomic(run / "config.yaml", config.to_yaml())
            code = _everywhere(config, run)
            if (run / "preflight.json").is_file():
                kept = json.loads((run / "preflight.json").read_text())
                print(json.dumps(kept, indent=1) if as_json else _table(kept))
            return code
    except OSError as error:
        raise UserError(f"run.root: cannot write to {root} ({error.strerror}); choose another folder") from None


def _everywhere(config: Config, run: Path) -> int:
    from launch.agent import Rendezvous, run_agent

    if config.launch.name == "slurm":
        return _as_a_job(config, run)
    if config.launch.hosts:
        return start_over_ssh(plan_nodes(config, run, Resources(), only_preflight=True), config.launch)
    return run_agent(config, run, Rendezvous(), module="launch.preflight")


def _as_a_job(config: Config, run: Path) -> int:
    """As a batch job with the partition, container and set-up lines of the run; waits for its end."""
    short = {"time": JOB_MINUTES, "chain": 1, "requeues": 0}
    config = config.model_copy(update={"launch": config.launch.model_copy(update=short)})
    (run / "logs").mkdir()
    (job,) = submit(plan_job(config, run, Resources(), run / "job.sh", only_preflight=True))
    nodes = f"{config.launch.nodes} node{'s' * (config.launch.nodes > 1)}"
    print(f"job {job} checks {nodes} as soon as SLURM starts it; Ctrl-C cancels it", file=sys.stderr)
    try:
        _wait_for(job)
    except KeyboardInterrupt:
        cancel_jobs([job])
        raise
    said = "".join(log.read_text(errors="replace") for log in sorted((run / "logs").glob("*.out"))).splitlines()
    problems = [line for line in said if line.startswith("isoflop: ")]
    if not problems and (run / "preflight.json").is_file():
        return DONE
    print("\n".join(problems or [f"isoflop: job {job} ended before it had checked its nodes", *said]), file=sys.stderr)
    return BAD_INPUT


def _wait_for(job: str) -> None:
    absent = 0
    while absent < ABSENT_POLLS:
        time.sleep(POLL_SECONDS)
        state = job_states([job]).get(job)
        if state is not None and not is_live(state):
            return
        absent = absent + 1 if state is None else 0


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
    return "\n".join([*rows, "every node is fit" if not kept["complaints"] else "not every node is fit"])
