"""What agents tell each other crosses the network as JSON under a MAC, and nothing else is believed."""

from __future__ import annotations

import base64
import json
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed import HashStore
from torch.distributed.elastic.rendezvous import RendezvousStateError
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import _NodeDesc, _RendezvousState

from launch.rendezvous import SealedBackend
from launch.rendezvous_state import SealedState, to_json
from tests.launch.stranger import Boom
from trainer.utils.errors import UserError

SECRET = "0123456789abcdef" * 4
NODES = st.builds(_NodeDesc, st.text(max_size=8), st.integers(0, 2**22), st.integers(0, 9))
TIMES = st.datetimes(timezones=st.just(UTC))


@st.composite
def states(draw: st.DrawFn) -> _RendezvousState:
    state = _RendezvousState()
    state.round, state.complete, state.closed = draw(st.integers(0, 99)), draw(st.booleans()), draw(st.booleans())
    state.deadline = draw(st.none() | TIMES)
    state.participants = draw(st.dictionaries(NODES, st.integers(0, 9), max_size=3))
    state.wait_list, state.redundancy_list = (draw(st.sets(NODES, max_size=3)) for _ in range(2))
    state.last_heartbeats = draw(st.dictionaries(NODES, TIMES, max_size=3))
    return state


def example() -> _RendezvousState:
    state = _RendezvousState()
    node = _NodeDesc("10.0.0.1", 17, 0)
    state.participants, state.wait_list = {node: 0}, {node}
    state.last_heartbeats = {node: datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)}
    return state


@given(states())
def test_a_state_comes_back_as_torch_pickled_it(state: _RendezvousState) -> None:
    sealed = SealedState(SECRET, "run")
    wire = sealed.seal(pickle.dumps(state))
    assert vars(pickle.loads(sealed.unseal(wire))) == vars(state)
    json.loads(wire[32:])  # no pickle is in it


@pytest.mark.parametrize(
    "wrong",
    [
        lambda wire: SealedState("another secret" * 3, "run").seal(pickle.dumps(example())),
        lambda wire: SealedState(SECRET, "another run").seal(pickle.dumps(example())),
        lambda wire: wire[:-1],
        lambda wire: wire + b" ",
        lambda wire: wire[:32],
        lambda wire: wire[:31],
        lambda wire: wire[32:],
        lambda wire: b"",
        lambda wire: bytes([wire[0] ^ 1]) + wire[1:],
        lambda wire: wire.replace(b'"round":0', b'"round":1'),
        lambda wire: pickle.dumps(example()),
    ],
    ids=["secret", "run", "shorter", "longer", "no text", "part of a MAC", "no MAC", "empty", "MAC", "text", "pickle"],
)
def test_what_no_node_of_this_launch_wrote_is_refused(wrong: Any) -> None:
    sealed = SealedState(SECRET, "run")
    wire = sealed.seal(pickle.dumps(example()))
    with pytest.raises(RendezvousStateError, match="no node with this secret"):
        sealed.unseal(wrong(wire))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("round", "0"),
        ("round", True),
        ("complete", 0),
        ("deadline", "soon"),
        ("deadline", "2026-01-02T03:04:05"),  # of no time zone: torch compares it with one that has a zone
        ("participants", [["10.0.0.1", 0]]),
        ("participants", {"10.0.0.1": 0}),
        ("wait_list", [["10.0.0.1", "17", 0]]),
        ("last_heartbeats", [[["10.0.0.1", 17, 0], None]]),
        ("unknown", 1),
    ],
)
def test_fields_of_wrong_types_are_refused_under_a_right_mac(field: str, value: Any) -> None:
    sealed = SealedState(SECRET, "run")
    text = json.dumps({**json.loads(to_json(example())), field: value}).encode()
    with pytest.raises(RendezvousStateError, match=field):
        sealed.unseal(sealed._mac(text) + text)


def test_a_torch_whose_state_has_more_fields_is_noticed() -> None:
    state = example()
    state.leader = 0  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"\(leader\); take launch.rendezvous=static"):
        to_json(state)


def test_the_backend_never_hands_over_what_a_stranger_wrote(tmp_path: Path) -> None:
    store = HashStore()
    backend = SealedBackend(C10dRendezvousBackend(store, "run"), SealedState(SECRET, "run"))
    assert backend.get_state() is None
    state = example()
    _, token, written = backend.set_state(pickle.dumps(state)) or pytest.fail()
    assert written
    later = pickle.dumps(_changed(state))
    found, _, written = backend.set_state(later) or pytest.fail()  # without the token of what stands there
    assert not written
    assert vars(pickle.loads(found)) == vars(state)
    found, token, written = backend.set_state(later, token) or pytest.fail()
    assert written
    assert found == later

    marker = tmp_path / "boom"
    (key,) = (name for name in store.list_keys() if name.startswith("torch.rendezvous"))
    store.set(key, base64.b64encode(pickle.dumps(Boom(str(marker)))))
    for touch in (backend.get_state, lambda: backend.set_state(later, token)):
        with pytest.raises(RendezvousStateError):
            touch()
    assert not marker.exists()


def _changed(state: _RendezvousState) -> _RendezvousState:
    after = _RendezvousState()
    vars(after).update(vars(state))
    after.deadline = datetime.now(UTC) + timedelta(seconds=5)
    return after
