"""The state of torch's dynamic rendezvous as authenticated JSON."""

from __future__ import annotations

import hmac
import pickle  # what is loaded is made in this process  # nosec B403
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from torch.distributed.elastic.rendezvous import RendezvousStateError
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import _NodeDesc, _RendezvousState

from trainer.utils.errors import UserError

MAC_BYTES = 32  # of SHA-256

Node = tuple[str, int, int]  # address, process, number of the handler in its process


class _State(BaseModel):
    """The fields of torch's state, as they are written."""

    model_config = ConfigDict(strict=True, extra="forbid")

    round: int
    complete: bool
    deadline: AwareDatetime | None
    closed: bool
    participants: list[tuple[Node, int]]  # with their ranks
    wait_list: list[Node]
    redundancy_list: list[Node]
    last_heartbeats: list[tuple[Node, AwareDatetime]]


class SealedState:
    """Turns pickles made in this process into what may cross a network, and back.

    Sealed is a MAC of 32 bytes and then JSON. The MAC covers the run's id: a state of another run is none of this one.
    An earlier state of the same run and secret is accepted again (a replay): it can end the run or disturb who takes
    part, no more.
    """

    def __init__(self, secret: str, run_id: str) -> None:
        self._secret, self._run_id = secret.encode(), run_id.encode()

    def seal(self, pickled: bytes) -> bytes:
        """From a pickle that this process has made itself."""
        text = to_json(pickle.loads(pickled)).encode()  # of this process  # nosec B301
        return self._mac(text) + text

    def unseal(self, sealed: bytes) -> bytes:
        """A pickle, made here. Raises RendezvousStateError for what `seal` did not make of this secret and run."""
        mac, text = sealed[:MAC_BYTES], sealed[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(text)):
            raise RendezvousStateError("no node with this secret wrote the state")
        try:
            return pickle.dumps(from_json(text.decode()))
        except (ValidationError, UnicodeDecodeError) as error:
            raise RendezvousStateError(f"a state that is none: {error}") from None

    def _mac(self, text: bytes) -> bytes:
        purpose = b"isoflop rendezvous %d:%s" % (len(self._run_id), self._run_id)
        return hmac.digest(self._secret, purpose + text, "sha256")


def to_json(state: _RendezvousState) -> str:
    """Raises UserError for the state of a torch that has other fields than those known here."""
    if odd := set(vars(state)) ^ set(_State.model_fields):
        names = ", ".join(sorted(odd))
        raise UserError(f"launch.rendezvous: c10d is not known of this torch ({names}); take launch.rendezvous=static")
    fields = {
        **vars(state),
        "participants": [(_words(node), rank) for node, rank in state.participants.items()],
        "wait_list": [_words(node) for node in sorted(state.wait_list)],
        "redundancy_list": [_words(node) for node in sorted(state.redundancy_list)],
        "last_heartbeats": [(_words(node), time) for node, time in state.last_heartbeats.items()],
    }
    return _State(**fields).model_dump_json()


def from_json(text: str) -> _RendezvousState:
    """Raises ValidationError for what is no state."""
    written = _State.model_validate_json(text)
    state = _RendezvousState()
    state.round, state.complete, state.closed = written.round, written.complete, written.closed
    state.deadline = written.deadline and _utc(written.deadline)
    state.participants = {_NodeDesc(*node): rank for node, rank in written.participants}
    state.wait_list = {_NodeDesc(*node) for node in written.wait_list}
    state.redundancy_list = {_NodeDesc(*node) for node in written.redundancy_list}
    state.last_heartbeats = {_NodeDesc(*node): _utc(time) for node, time in written.last_heartbeats}
    return state


def _words(node: _NodeDesc) -> Node:
    return node.addr, node.pid, node.local_id


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC)
