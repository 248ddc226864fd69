"""How the agents of a launch find each other: torch's elastic rendezvous, of which nothing is unpickled.

torch's own handlers listen on all interfaces, and its dynamic one unpickles whatever stands in a store into which
everybody who reaches the port may write. Here a store listens on one address; the state of a rendezvous crosses the
network as JSON under an HMAC-SHA256, whose secret every node finds in its environment.
"""

from __future__ import annotations

import os

from torch.distributed import DistError, HashStore, PrefixStore, TCPStore
from torch.distributed.elastic.rendezvous import (
    RendezvousConnectionError,
    RendezvousError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStateError,
    RendezvousStoreInfo,
    RendezvousTimeoutError,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import RendezvousBackend, create_handler
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

from launch.rendezvous_state import SealedState
from launch.secret import VARIABLE
from trainer.config import LaunchConfig
from trainer.training.store import LOOPBACK, open_store
from trainer.utils.errors import UserError

BACKEND = "isoflop"  # of torch's registry

# What an agent raises where it cannot meet the others. Beside the sealed state they exchange plain text, whose errors
# are the last three where somebody else has written it.
FAILURES = (RendezvousError, DistError, ValueError, TypeError, KeyError)


def explain(error: Exception, launch: LaunchConfig, place: str) -> Exception:
    """One of FAILURES in one line; unchanged where it is that already, and of a node that is alone: it meets nobody."""
    if launch.nodes == 1 or isinstance(error, UserError):
        return error
    wait = f"within {launch.rendezvous_seconds} s (launch.rendezvous_seconds)"
    if isinstance(error, (RendezvousConnectionError, DistError)):
        return UserError(f"launch.hosts: no rendezvous at {place} {wait}, or that host is gone")
    if isinstance(error, RendezvousTimeoutError):
        return UserError(f"launch.nodes: fewer than {launch.min_nodes or launch.nodes} nodes came to {place} {wait}")
    if isinstance(error, RendezvousStateError):
        return UserError(
            f"launch.hosts: what stands at {place} was not written with this node's {VARIABLE}: export the same one on "
            f"every node; where it is the same, somebody else writes there"
        )
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return UserError(f"launch.hosts: the rendezvous at {place} was closed or written by somebody else ({what})")


def register() -> str:
    """Make the handler known to torch; returns the name to ask for.

    Its `rdzv_configs` are `kind` (c10d or static), `node` (which one this is) and `seconds` (to wait for the others).
    """
    rendezvous_handler_registry.register(BACKEND, _create)
    return BACKEND


def _create(params: RendezvousParameters) -> RendezvousHandler:
    """Raises UserError where the store's port cannot be used, DistError or RendezvousConnectionError where the first
    node cannot be reached."""
    if params.max_nodes == 1:
        return FixedNodes(open_store(LOOPBACK, 0, 1, 60, holds=True), params.run_id, 0, 1)
    host, port = parse_rendezvous_endpoint(params.endpoint, -1)
    node, seconds, static = params.get("node"), params.get("seconds"), params.get("kind") == "static"
    try:
        store = open_store(host, port, params.max_nodes, seconds, holds=node == 0, wait_for_all=static)
    except OSError as error:
        raise UserError(f"launch.port: {port} cannot be used on {host} ({error.strerror}); choose another") from None
    if static:
        return FixedNodes(store, params.run_id, node, params.max_nodes)
    params.config["join_timeout"] = seconds
    backend = C10dRendezvousBackend(store, params.run_id)
    return create_handler(store, SealedBackend(backend, SealedState(os.environ[VARIABLE], params.run_id)), params)


class SealedBackend(RendezvousBackend):
    """Torch's backend, which sees sealed states only; torch's handler gets pickles that were made in this process."""

    def __init__(self, backend: RendezvousBackend, state: SealedState) -> None:
        self._backend, self._state = backend, state

    @property
    def name(self) -> str:
        return BACKEND

    def get_state(self) -> tuple[bytes, object] | None:
        """The state as a pickle, and its token. Raises RendezvousStateError where no node of this launch wrote it."""
        found = self._backend.get_state()
        return (self._state.unseal(found[0]), found[1]) if found else None

    def set_state(self, state: bytes, token: object | None = None) -> tuple[bytes, object, bool] | None:
        """Write if nobody wrote since `token`; returns what stands there now. Raises as `get_state`."""
        found = self._backend.set_state(self._state.seal(state), token)
        if found is None:
            return None
        sealed, token, written = found
        return (state if written else self._state.unseal(sealed)), token, written


class FixedNodes(RendezvousHandler):
    """Exactly these nodes, in every round: all of a static rendezvous, or one that is alone.

    Agents exchange plain text through the store. One that is alone asks nobody: its store is for its ranks.
    """

    def __init__(self, store: TCPStore, run_id: str, node: int, nodes: int) -> None:
        self._store, self._run_id, self._node, self._nodes = store, run_id, node, nodes

    def next_rendezvous(self) -> RendezvousInfo:
        agents = PrefixStore(self._run_id, self._store) if self._nodes > 1 else HashStore()
        for_ranks = RendezvousStoreInfo(self._store.host, self._store.port)
        return RendezvousInfo(agents, self._node, self._nodes, for_ranks)

    @property
    def use_agent_store(self) -> bool:
        return True

    def get_backend(self) -> str:
        return BACKEND

    def get_run_id(self) -> str:
        return self._run_id

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        pass

    def num_nodes_waiting(self) -> int:
        return 0

    def shutdown(self) -> bool:
        return True
