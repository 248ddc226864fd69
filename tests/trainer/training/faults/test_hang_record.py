"""What a hang leaves behind: records of collectives that differ, as PyTorch writes them; recorders that hang too."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch._C import _distributed_c10d
from torch.distributed import HashStore

from trainer.training.faults import flight_record
from trainer.training.faults.flight_record import KEPT, OLD_SIZE, SIZE, differences, keep_record, newest, recorded
from trainer.training.faults.hang_record import HangRecord
from trainer.training.faults.watchdog import found

Entry = dict[str, Any]


def entry(number: int, name: str = "nccl:all_reduce", sizes: Any = ((8, 4),), **more: Any) -> Entry:
    """One collective as the recorder's JSON has it (torch 2.13, FlightRecorderDetail.hpp)."""
    return {
        "record_id": number,
        "pg_id": 0,
        "process_group": ["0", "default_pg"],
        "collective_seq_id": number,
        "p2p_seq_id": 0,
        "op_id": number,
        "profiling_name": name,
        "time_created_ns": 1000 * number,
        "input_sizes": [list(shape) for shape in sizes],
        "input_dtypes": ["Float"],
        "output_sizes": [list(shape) for shape in sizes],
        "output_dtypes": ["Float"],
        "state": "completed",
        "retired": True,
        "is_p2p": False,
        **more,
    }


RUNNING = {"state": "started", "retired": False}


def told(*ranks: list[Entry], library: str = "nccl") -> dict[int, Any]:
    return {rank: newest({library: {"entries": entries}}) for rank, entries in enumerate(ranks)}


def test_a_rank_that_has_not_enqueued_a_collective_is_named() -> None:
    first = [*map(entry, range(1, 37)), entry(37, **RUNNING)]
    second = list(map(entry, range(1, 37)))
    assert differences(told(first, second)) == [
        "rank 1 has not enqueued all_reduce #37 ([8, 4]) of nccl's group 0 default_pg"
    ]
    assert differences(told(first, second, first, second[:36]))[0].startswith("ranks 1, 3 have not enqueued ")


def test_another_collective_or_size_under_one_number_is_named_before_what_follows() -> None:
    first = [entry(1), entry(2), entry(3, **RUNNING)]
    other = [entry(1), entry(2, "nccl:broadcast", **RUNNING)]
    assert differences(told(first, other)) == [
        "collective #2 of nccl's group 0 default_pg differs: rank 0 has all_reduce #2 ([8, 4]), "
        "rank 1 broadcast #2 ([8, 4])"
    ]
    wider = [entry(1), entry(2, sizes=((9, 4),))]
    assert "rank 1 all_reduce #2 ([9, 4])" in differences(told(first[:2], wider))[0]
    parts = [[entry(1, "nccl:all_gather", sizes=((rows,),))] for rows in (3, 4)]  # may differ from rank to rank
    assert differences(told(*parts)) == []


def of_group(name: str, number: int, when: int) -> Entry:
    return entry(number, process_group=[name, "undefined"], time_created_ns=when)


def test_the_group_that_went_wrong_first_comes_first() -> None:
    both = [of_group("1", 1, 10), of_group("2", 1, 20)]
    lines = differences(told([*both, of_group("2", 2, 500), of_group("1", 2, 900)], both))
    assert [line.rpartition("group ")[2] for line in lines] == ["2", "1"]


def test_a_rank_that_never_came_to_its_group_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch knows whose group it is; another one's group says nothing of this rank."""
    ranks = {"1": [0, 1], "2": [0, 2]}
    monkeypatch.setattr(flight_record, "group_ranks", lambda name: ranks.get(name, []))
    lines = differences(told([of_group("1", 1, 10), of_group("2", 1, 20)], [], [of_group("2", 1, 20)]))
    assert lines == ["rank 1 has not enqueued all_reduce #1 ([8, 4]) of nccl's group 1"]
    assert differences(told([of_group("3", 1, 10)], [])) == []


def test_what_all_have_enqueued_and_none_completed() -> None:
    ranks = [[entry(1), entry(2, **RUNNING)], [entry(1), entry(2, **RUNNING)]]
    assert differences(told(*ranks)) == [
        "ranks 0, 1 have not completed all_reduce #2 ([8, 4]) of nccl's group 0 default_pg"
    ]
    assert differences(told([entry(1)], [entry(1)])) == []


def test_what_goes_from_one_rank_to_one_other_is_left_out() -> None:
    ring = entry(9, "nccl:send 0->1", is_p2p=True, collective_seq_id=0, p2p_seq_id=9)
    assert differences(told([entry(1), ring], [entry(1)])) == []


def test_ranks_that_know_different_ends_of_the_record_are_compared_where_both_know() -> None:
    ahead, behind = [entry(number) for number in range(500, 520)], [entry(number) for number in range(480, 505)]
    [line] = differences(told(ahead, behind))
    assert "rank 1 has not enqueued all_reduce #505" in line


def test_the_event_names_the_collective_and_the_files() -> None:
    first, second = told([entry(1), entry(2, **RUNNING)], [entry(1)]).values()
    answers = {
        0: {"position": 7, "stack": "a", "file": "hang-0-rank0.json", "collectives": first},
        1: {"position": 6, "stack": "b", "file": None, "collectives": second},
    }
    answers = json.loads(json.dumps(answers))  # over the store
    text, data = found({int(rank): answer for rank, answer in answers.items()}, 3, "hang: step 3 has taken 9 s")
    assert text == (
        "hang: step 3 has taken 9 s; rank 1 did not arrive, rank 2 does not answer; rank 1 has not enqueued "
        "all_reduce #2 ([8, 4]) of nccl's group 0 default_pg; see hang-0-rank0.json"
    )
    assert (data["late"], data["silent"], data["files"]) == ([1], [2], ["hang-0-rank0.json"])
    assert data["ranks"][1] == {"position": 6, "stack": "b"}


def test_nccls_record_is_asked_for_where_this_pytorch_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"version": "2.10", "entries": [entry(4)]}
    monkeypatch.setattr(_distributed_c10d, "_dump_nccl_trace_json", lambda: json.dumps(kept).encode(), raising=False)
    assert recorded()["nccl"] == kept
    assert [one.number for one in newest({"nccl": kept})] == [4]


def test_gloos_record_is_what_this_process_did() -> None:
    """PyTorch's own recorder, asked for real."""
    import torch

    group = dist.ProcessGroupGloo(HashStore(), 0, 1)
    before = len(recorded().get("gloo", {}).get("entries", []))
    group.allreduce([torch.ones(5)]).wait()
    entries = recorded()["gloo"]["entries"]
    assert len(entries) == before + 1
    assert (entries[-1]["profiling_name"], entries[-1]["input_sizes"]) == ("gloo:all_reduce", [[5]])


@pytest.mark.parametrize(
    ("set_before", "kept"),
    [({}, {SIZE: str(KEPT)}), ({SIZE: "9"}, {SIZE: "9"}), ({OLD_SIZE: "0"}, {OLD_SIZE: "0"})],
)
def test_the_variable_is_set_unless_somebody_did(set_before: dict[str, str], kept: dict[str, str]) -> None:
    keep_record(set_before)
    assert set_before == kept


def written(monkeypatch: pytest.MonkeyPatch, file: Path, dump: Callable[[], bytes]) -> HangRecord:
    monkeypatch.setattr(flight_record, "DUMPS", {"nccl": "_dump_of_a_test"})
    monkeypatch.setattr(_distributed_c10d, "_dump_of_a_test", dump, raising=False)
    return HangRecord(file, {"rank": 0, "stack": "here"})


def test_a_recorder_that_never_answers_keeps_nobody_and_leaves_no_half_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = threading.Event()

    def dump() -> bytes:
        answers.wait(60)
        return b"{}"

    record = written(monkeypatch, tmp_path / "hang-0-rank0.json", dump)
    record.wait(0.05)
    assert record.name is None and record.collectives == [] and list(tmp_path.iterdir()) == []
    answers.set()
    record.wait(60)
    assert json.loads((tmp_path / "hang-0-rank0.json").read_text()) == {
        "rank": 0,
        "stack": "here",
        "flight_recorder": {},
    }


@pytest.mark.parametrize("said", [b"no JSON", b'{"entries": [{"collective_seq_id": 1, "time_created_ns": "x"}]}'])
def test_a_record_that_is_otherwise_than_ours_leaves_the_stacks(
    said: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = written(monkeypatch, tmp_path / "hang-0-rank0.json", lambda: said)
    record.wait(60)
    assert record.name == "hang-0-rank0.json" and record.collectives == []
    assert json.loads((tmp_path / record.name).read_text())["stack"] == "here"


def test_a_folder_that_cannot_be_written_is_no_reason_to_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record = written(
        monkeypatch, tmp_path / "gone" / "hang-0-rank0.json", lambda: json.dumps({"entries": [entry(3)]}).encode()
    )
    record.wait(60)
    assert record.name is None and [one.number for one in record.collectives] == [3]
