"""A failure is shown once, by the process that started the rank."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from trainer.training.faults.signals import LAUNCHED
from trainer.utils.errors import UserError

FAR = 3600  # seconds


def report_failure(text: str, *, user: bool = False) -> None:
    """Tell the launcher, if there is one, else the terminal; the latter too where a full disk takes no file for it.
    `user`: the text is meant as it is, a line per error."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    launched = LAUNCHED in os.environ
    if file:
        # The agent takes the earliest failure for the cause, by whole seconds: one that lost a peer is dated later.
        timestamp = int(time.time()) + (FAR if lost_a_peer(text) else 0)
        try:
            Path(file).write_text(json.dumps({"message": text, "timestamp": timestamp}))
        except OSError:
            Path(file).unlink(missing_ok=True)  # the agent would stumble over half a file
            launched = False
    if launched:
        return
    if user:
        for line in text.splitlines():
            print(f"isoflop: {line}", file=sys.stderr, flush=True)
    elif lost_a_peer(text):  # the rank that failed first shows why
        print(f"isoflop: rank {os.environ.get('RANK', 0)} lost another rank", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def cause_of(rank: int, error: BaseException) -> tuple[str, bool]:
    """What the logbook says of an error that ended an attempt, and whether the cause is another rank's."""
    lines = str(error).strip().splitlines()
    cause = "; ".join(lines) if isinstance(error, UserError) else ": ".join([type(error).__name__, *lines[-1:]])
    sign = lost_a_peer(cause)
    text = f"rank {rank} lost another rank ({sign})" if sign else f"rank {rank}: {cause}"
    return f"{text}; this attempt ends", sign is not None


SIGNS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Timed out waiting",
    "DistNetworkError",
    "ncclRemoteError",
)


WRITING = "Broken pipe"  # of gloo, where the other end goes between two writes; a terminal that closes says so too


def lost_a_peer(text: str) -> str | None:
    """What in the last line of this traceback says that the rank failed because another one did, if so."""
    last = text.strip().rpartition("\n")[2]
    if "gloo/transport" in last and WRITING in last:
        return WRITING
    return next((sign for sign in SIGNS if sign in last), None)
