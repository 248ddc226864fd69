"""Ports for processes that a test starts."""

from __future__ import annotations

import random
import socket
from pathlib import Path

GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")  # to sockets that name none
FROM = 10_000


def free_port() -> int:
    """One that is free, as the next one is, and stays so until a process that has yet to import torch binds it: the
    system gives it to no socket that asks for any port, as one it has just had bound may be given to another."""
    chance, lowest = random.SystemRandom(), int(GIVEN.read_text().split()[0])
    while True:
        port = chance.randrange(FROM, max(FROM + 1000, lowest - 1))
        try:
            for one in (port, port + 1):
                with socket.socket() as probe:
                    probe.bind(("", one))
        except OSError:
            continue
        return port
