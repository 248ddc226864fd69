"""The ranks of a run on this host: in this process, or as torchrun's workers."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from trainer.config import Config
from trainer.worker import BAD_INPUT, FAILED, STOPPED, work


def run_local(config: Config, run: Path) -> int:
    """Train with `launch.processes` ranks here; returns the exit code. What a rank's failure says is shown once."""
    if config.launch.processes == 1:
        return work(run)
    return _torchrun(config, run)


def _torchrun(config: Config, run: Path) -> int:
    """Through torchrun's own agent. Rank 0 has the terminal; the others write to files under logs/."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    processes = config.launch.processes
    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logs = run / "logs"
    logs.mkdir(exist_ok=True)
    os.environ["ISOFLOP_LAUNCHED"] = "1"
    os.environ["OMP_NUM_THREADS"] = str(config.engine.threads or max(1, (os.cpu_count() or 1) // processes))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=run.name,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects=dict.fromkeys(range(1, processes), Std.ALL)),
    )
    try:
        elastic_launch(settings, sys.executable)("-m", "trainer.worker", str(run))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode == STOPPED:
            return STOPPED
        return _show(rank, failure.exitcode, failure.message)
    except SignalException:
        return STOPPED
    finally:
        os.environ.pop("ISOFLOP_LAUNCHED", None)
    return 0


def _show(rank: int, code: int, message: str) -> int:
    if code == BAD_INPUT:
        for line in message.splitlines():
            print(f"isoflop: {line}", file=sys.stderr)
        return BAD_INPUT
    if code < 0:
        print(f"isoflop: rank {rank} was killed by signal {-code}", file=sys.stderr)
    else:
        print(f"isoflop: rank {rank} failed\n{message}", file=sys.stderr)
    return FAILED
