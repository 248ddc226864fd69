"""One rank of a run: reads the frozen configuration and trains. It knows neither Hydra nor who started it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from pathlib import Path

from trainer.errors import UserError
from trainer.faults import StopRequest, die_with_parent
from trainer.folder import RunFolder

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 75  # 75: stopped before the end and can be resumed (EX_TEMPFAIL)


def work(run: Path) -> int:
    """Train this rank's share of the run in this folder; returns the exit code."""
    folder = RunFolder(run)
    rank = int(os.environ.get("RANK", 0))
    stop = StopRequest()
    try:
        config = folder.load_config()
        lock = folder.lock() if rank == 0 else contextlib.nullcontext()
        with lock:
            threads = config.engine.threads or max(
                1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
            )
            os.environ["OMP_NUM_THREADS"] = str(threads)
            import torch

            from trainer.distributed import join
            from trainer.loop import train

            torch.set_num_threads(threads)
            world = join(config.engine.device, config.launch.timeout_seconds, config.launch.rendezvous_seconds)
            outcome = train(config, folder, world, stop)
    except UserError as error:
        tell_failure(str(error), user=True)
        return BAD_INPUT
    except BaseException:
        tell_failure(traceback.format_exc(), user=False)
        return FAILED
    if outcome.status == "failed":
        if rank == 0:
            print(f"isoflop: {outcome.reason}", file=sys.stderr)
        return FAILED
    return STOPPED if outcome.status == "stopped" else DONE


def tell_failure(text: str, *, user: bool) -> None:
    """Tell the launcher, if there is one, else the terminal: a failure is shown once, by whoever started the rank."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    launched = os.environ.get("ISOFLOP_LAUNCHED")
    if file:
        # The agent takes the earliest failure for the cause, by whole seconds: who merely lost a peer says so later.
        timestamp = int(time.time()) + (3600 if lost_a_peer(text) else 0)
        Path(file).write_text(json.dumps({"message": text, "timestamp": timestamp}))
    if launched:
        return
    if user:
        for line in text.splitlines():
            print(f"isoflop: {line}", file=sys.stderr)
    elif lost_a_peer(text):  # the rank that failed first shows why
        print(f"isoflop: rank {os.environ.get('RANK', 0)} lost another rank", file=sys.stderr)
    else:
        print(text, file=sys.stderr)


def lost_a_peer(text: str) -> bool:
    """Whether this traceback is of a rank that failed because another one did."""
    last = text.strip().splitlines()[-1]
    return any(
        sign in last
        for sign in ("Connection closed by peer", "Connection reset by peer", "DistNetworkError", "ncclRemoteError")
    )


if __name__ == "__main__":
    if os.environ.get("ISOFLOP_LAUNCHED"):
        die_with_parent()
    code = work(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # library threads must not turn a finished run into an abort
