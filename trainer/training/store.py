"""TCPStores that listen on one address instead of on all interfaces, and the interface of ranks that share a host."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import MutableMapping
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import TCPStore

LOOPBACK = "127.0.0.1"


def on_one_host() -> bool:
    """Whether all ranks run on this host, as far as their launcher says (torchrun's variables)."""
    size = os.environ.get("WORLD_SIZE", "1")
    return size == "1" or os.environ.get("LOCAL_WORLD_SIZE") == size


def keep_on_loopback(environment: MutableMapping[str, str]) -> None:
    """Let gloo and NCCL listen on the loopback interface only, unless the environment names another one.

    Without this, gloo listens on what the host's name resolves to, and NCCL on the first network interface.
    """
    interface = "lo0" if sys.platform == "darwin" else "lo"
    environment.setdefault("GLOO_SOCKET_IFNAME", interface)
    environment.setdefault("NCCL_SOCKET_IFNAME", f"={interface}")  # =: this name, not all that begin so


def open_store(host: str, port: int, size: int, seconds: float, *, holds: bool, wait_for_all: bool = True) -> TCPStore:
    """The store at host:port, held by this process or by another one; port 0: any free one.

    Raises OSError where its holder cannot listen there, DistError where not all `size` processes come, or none
    answers, within so many seconds.
    """
    listener = _listener(host, port) if holds else None
    port = listener.getsockname()[1] if listener else port
    try:
        return TCPStore(
            host,
            port,
            size,
            holds,
            timedelta(seconds=seconds),
            wait_for_workers=wait_for_all,
            master_listen_fd=listener.detach() if listener else None,  # the store closes it
        )
    except dist.DistNetworkError as error:
        if "EADDRINUSE" in str(error):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        raise


def _listener(host: str, port: int) -> socket.socket | None:
    """A socket bound to the address that `host` means on this machine. None: to be reached, listen on all interfaces.

    That is so for an address that is none of this machine's own (behind NAT), and for a name that is the loopback
    only to its bearer (127.0.1.1 in many a /etc/hosts).
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    if ipaddress.ip_address(address[0]).is_loopback and host not in (address[0], "localhost"):
        return None
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            return None
        raise
    return listener
