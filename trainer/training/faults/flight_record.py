"""PyTorch's flight recorder: the last collectives of this rank, and on which of them the ranks differ.

Each of the two recorders, of NCCL and of gloo, keeps the last collectives that this process enqueued: their numbers
within their group of ranks, names, sizes and states. What is read of it is JSON; its other form is a pickle, which is
neither made nor read here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

SIZE = "TORCH_FR_BUFFER_SIZE"  # variable: how many collectives are kept
OLD_SIZE = "TORCH_NCCL_TRACE_BUFFER_SIZE"  # what it was called before
KEPT = 2000
DUMPS = {"nccl": "_dump_nccl_trace_json", "gloo": "_dump_fr_trace_json"}  # of torch._C._distributed_c10d
TOLD = 16  # newest collectives of each group that ranks tell each other
SHAPED_ALIKE = ("all_reduce", "allreduce", "broadcast")  # whose numbers are as many on every rank


class Collective(NamedTuple):
    """One that a rank has enqueued."""

    library: str  # nccl or gloo
    group: str  # of ranks, by torch's name and what it is for
    number: int  # how many collectives of the group there were with this one
    name: str  # as all_reduce
    sizes: str  # shapes of what goes in
    completed: bool
    created_ns: int  # by this rank's clock
    ranks: Sequence[int] = ()  # of the group, said with its newest one; none where that is not known

    @property
    def text(self) -> str:
        return f"{self.name} #{self.number}"


Told = Mapping[int, Sequence[Collective]]  # by rank
Known = Mapping[int, Mapping[int, Collective]]  # by rank and number, all of one group


def keep_record(environment: MutableMapping[str, str]) -> None:
    """Let collectives be recorded, unless the environment says how many; before the first process group is made."""
    if SIZE not in environment and OLD_SIZE not in environment:
        environment[SIZE] = str(KEPT)


def recorded() -> dict[str, Any]:
    """By library what its recorder holds, as PyTorch's JSON has it; none where this build of PyTorch has no recorder,
    or it holds nothing."""
    from torch._C import _distributed_c10d

    found = {}
    for library, name in DUMPS.items():
        dump = getattr(_distributed_c10d, name, None)
        record = json.loads(dump()) if dump is not None else {}
        if record.get("entries"):
            found[library] = record
    return found


def newest(records: Mapping[str, Any]) -> list[Collective]:
    """The newest collectives of each group, at most TOLD of each, without what goes from one rank to one other."""
    found: dict[tuple[str, str], dict[int, Collective]] = {}
    for library, record in records.items():
        for entry in record.get("entries", ()):
            one = _collective(library, entry)
            if one is not None:
                found.setdefault((library, one.group), {})[one.number] = one
    told = [[one for _, one in sorted(of_group.items())[-TOLD:]] for of_group in found.values()]
    for of_group in told:
        of_group[-1] = of_group[-1]._replace(ranks=group_ranks(of_group[-1].group.partition(" ")[0]))
    return [one for of_group in told for one in of_group]


def _collective(library: str, entry: Mapping[str, Any]) -> Collective | None:
    """None for what is no collective of all ranks of a group."""
    number = entry.get("collective_seq_id")
    if entry.get("is_p2p") or not isinstance(number, int):
        return None
    name = str(entry.get("profiling_name", "")).partition(":")[2] or str(entry.get("profiling_name"))
    group = " ".join(str(part) for part in entry.get("process_group", ()) if part not in ("", "undefined"))
    sizes = ", ".join(str(shape) for shape in entry.get("input_sizes", ()))
    completed = entry.get("state") == "completed" or bool(entry.get("retired"))  # gloo's have no state but the first
    return Collective(library, group, number, name, sizes, completed, int(entry.get("time_created_ns", 0)))


def group_ranks(name: str) -> list[int]:
    """The ranks of the group that torch calls so; none where this process has no such group."""
    from torch.distributed import distributed_c10d

    called: Any = name
    try:
        return distributed_c10d.get_process_group_ranks(distributed_c10d._resolve_process_group(called))
    except (RuntimeError, ValueError, KeyError):
        return []


def differences(told: Told) -> list[str]:
    """On which collective ranks differ, by what each told of its newest ones: a line a group, the one that went wrong
    first before the others. Where they differ on none, which one is not complete, if any.

    A group's ranks are those that told of it, and those that these know of; of the latter only who told anything.
    """
    groups: dict[tuple[str, str], dict[int, dict[int, Collective]]] = {}
    for rank, collectives in told.items():
        for one in collectives:
            known = groups.setdefault((one.library, one.group), {})
            for member in {rank, *one.ranks} & told.keys():
                known.setdefault(member, {})
            known[rank][one.number] = one
    found = [line for known in groups.values() for line in _differs(known)]
    if not found:
        found = [line for known in groups.values() for line in _incomplete(known)]
    return [text for _, text in sorted(found)]


def _differs(known: Known) -> Iterator[tuple[int, str]]:
    """When, and how, the first collective of a group that is not the same on its ranks."""
    for number in sorted({number for of_rank in known.values() for number in of_rank}):
        here = {rank: of_rank[number] for rank, of_rank in sorted(known.items()) if number in of_rank}
        first, one = next(iter(here.items()))
        other = next((rank for rank, that in here.items() if _kind(that) != _kind(one)), None)
        if other is not None:
            said = f"rank {first} has {_shaped(one)}, rank {other} {_shaped(here[other])}"
            yield one.created_ns, f"collective #{number} of {_of(one)} differs: {said}"
            return
        late = [rank for rank, of_rank in sorted(known.items()) if max(of_rank, default=0) < number]
        if late:
            yield one.created_ns, f"{_ranks(late)} not enqueued {_shaped(one)} of {_of(one)}"
            return


def _incomplete(known: Known) -> Iterator[tuple[int, str]]:
    """When, and which, the first collective of a group that all have enqueued and some not completed."""
    for number in sorted({number for of_rank in known.values() for number in of_rank}):
        here = {rank: of_rank[number] for rank, of_rank in sorted(known.items()) if number in of_rank}
        waiting = [rank for rank, one in here.items() if not one.completed]
        if waiting:
            one = here[waiting[0]]
            yield one.created_ns, f"{_ranks(waiting)} not completed {_shaped(one)} of {_of(one)}"
            return


def _kind(one: Collective) -> tuple[str, str]:
    """What is the same on all ranks."""
    return one.name, one.sizes if one.name in SHAPED_ALIKE else ""


def _shaped(one: Collective) -> str:
    return f"{one.text} ({one.sizes})" if one.sizes else one.text


def _of(one: Collective) -> str:
    return f"{one.library}'s group {one.group}".rstrip()


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]} has" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))} have"
