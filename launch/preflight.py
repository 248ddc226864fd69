"""Before training: is every node what it should be? A bad one is named.

Every rank inspects its own node and puts its report into the store of all ranks, so that a rank that never arrives is
known by its absence. The first rank evaluates the reports. Only then do they try a collective together.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.links import Link, evaluate_links, measure_links
from launch.node_report import Problem, RankReport, evaluate, evaluate_together
from launch.plan import HOME, booked_at
from trainer.config import Config
from trainer.config.host import precision
from trainer.meter import costs, gpu_of
from trainer.meter.rapl import host_counters
from trainer.run_folder import RunFolder, environment
from trainer.training.faults.output import outlive_readers
from trainer.training.faults.reporting import report_failure
from trainer.training.faults.signals import LAUNCHED, die_with_parent, heeded
from trainer.utils.errors import UserError
from trainer.utils.files import sha256, write_atomic
from trainer.utils.outcomes import BAD_INPUT, DONE, FAILED, STOPPED

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store

SUM_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}  # of the tensor that is all-reduced
MATMUL_WIDTH = {"cpu": 512, "cuda": 8192}
READ_SECONDS = 30.0
ROUNDS = 5  # at least, and until MEASURING_SECONDS are over; the best one counts: a neighbour's load is no fault
MEASURING_SECONDS = 0.5


def check_ranks(run: Path) -> list[Problem]:
    """Check this rank's node, then all ranks together; returns what is wrong with any node, on every rank.

    Rank 0 writes preflight.json into the run folder. Raises UserError where rank 0 cannot be reached.
    """
    config = RunFolder(run).load_config()
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        mine = inspect_rank(config, run, rank)
        return _write_report(run, [mine], evaluate([mine], config), None)

    import torch.distributed as dist

    from trainer.training.distributed import join, meet

    wait = config.launch.rendezvous_seconds
    store = meet(rank, size, wait, wait_for_all=False)
    seal = run / ".preflight"
    if rank == 0:
        seal.write_text(str(time.time_ns()))
        store.set("seal", seal.read_text())
    mine = inspect_rank(config, run, rank, _get(store, "seal", wait))
    store.set(f"report {rank}", json.dumps(mine.to_json()))
    if rank == 0:
        texts = _gather(store, [f"report {other}" for other in range(size)], wait)
        seal.unlink(missing_ok=True)
        reports = [RankReport(**json.loads(text)) if text else _missing_rank(n, config) for n, text in enumerate(texts)]
        found = _write_report(run, reports, evaluate(reports, config), None)
        store.set("verdict", json.dumps([one.to_json() for one in found]))
    problems = [Problem(**one) for one in json.loads(_get(store, "verdict", 2 * wait))]
    if problems:
        store.set(f"read {rank}", "")
        if rank == 0:  # the store ends with this process: let the others read what it says
            _gather(store, [f"read {one.rank}" for one in reports if one.arrived], READ_SECONDS)
        return problems

    world = join(config.engine.device, config.launch.timeout_seconds, store=store)
    seconds, right = _all_reduce(world.device, size)
    world.barrier()
    seen = replace(mine, clock=time.time(), sum_right=right)
    reports = [RankReport(**one) for one in world.gather(seen.to_json())]
    slowest = max(world.gather(seconds))
    problems = evaluate_together(reports, config, slowest, SUM_BYTES[world.device.type])
    links = measure_links(world, [one.node for one in reports])
    problems += evaluate_links(links, config, world.device.type)
    if rank == 0:
        _write_report(run, reports, problems, SUM_BYTES[world.device.type] / slowest, links)
    world.barrier()
    dist.destroy_process_group()
    return problems


def inspect_rank(config: Config, run: Path, rank: int, seal: str | None = None) -> RankReport:
    """The report of this rank on its node; `seal` is what the first rank wrote into the run folder."""
    import torch

    local = int(os.environ.get("LOCAL_RANK", 0))
    cuda = config.engine.device == "cuda" or (config.engine.device == "auto" and torch.cuda.is_available())
    visible = torch.cuda.device_count() if cuda else config.launch.processes
    device = torch.device("cuda", local) if cuda and local < visible else torch.device("cpu")
    costs.uses(gpu_of(device))
    versions: dict[str, Any] = environment()
    right, speed = matmul(device, precision(config))
    return RankReport(
        rank=rank,
        node=node_name(),
        devices=visible,
        device=torch.cuda.get_device_name(local) if device.type == "cuda" else str(versions["cpu"]),
        versions={"isoflop": versions["isoflop"], "python": versions["python"], **versions["packages"]},
        code=code_hash(),
        config=sha256(run / "config.yaml"),
        free_bytes=shutil.disk_usage(run).free,
        folder=_cannot_write(run, rank),
        shared=seal is None or _content(run / ".preflight") == seal,
        matmul_right=right,
        matmul_flop_per_second=speed,
    )


def node_name() -> str:
    """As SLURM calls this node, else its host name."""
    return os.environ.get("SLURMD_NODENAME") or os.environ.get("ISOFLOP_NODE") or socket.gethostname()


def code_hash() -> str:
    """Over every source file of the project, by name and content."""
    digest = hashlib.sha256()
    for package in ("trainer", "kernels", "launch", "conf"):
        for file in sorted([*(HOME / package).rglob("*.py"), *(HOME / package).rglob("*.yaml")]):
            digest.update(str(file.relative_to(HOME)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def matmul(device: torch.device, precision: str) -> tuple[bool, float]:
    """Whether a product of whole numbers is right to the last bit, and the run's precision's speed in FLOP/s.

    Checked by Freivalds' algorithm: (A B) r = A (B r), exact in double precision.
    """
    import torch

    torch.manual_seed(0)
    width = 512
    a, b = (torch.randint(-4, 5, (width, width)).float() for _ in range(2))
    r = torch.randint(-4, 5, (width,)).double()
    product = (a.to(device) @ b.to(device)).cpu().double()
    right = bool(torch.equal(product @ r, a.double() @ (b.double() @ r)))

    width = MATMUL_WIDTH[device.type]
    dtype = torch.bfloat16 if device.type == "cuda" and precision == "bf16" else torch.float32
    left = torch.ones(width, width, dtype=dtype, device=device)
    best, rounds, end = float("inf"), 0, time.perf_counter() + MEASURING_SECONDS
    while rounds < ROUNDS or time.perf_counter() < end:
        _settle(device)
        began = time.perf_counter()
        left @ left
        _settle(device)
        best, rounds = min(best, time.perf_counter() - began), rounds + 1
    return right, 2.0 * width**3 / best


def _all_reduce(device: torch.device, size: int) -> tuple[float, bool]:
    """Seconds of the best round, and whether every number is the sum of all ranks' numbers."""
    import torch
    import torch.distributed as dist

    rank, best, right = dist.get_rank(), float("inf"), True
    for _ in range(ROUNDS):
        numbers = torch.full((SUM_BYTES[device.type] // 4,), float(rank + 1), device=device)
        _settle(device)
        began = time.perf_counter()
        dist.all_reduce(numbers)
        _settle(device)
        best = min(best, time.perf_counter() - began)
        right = right and bool((numbers == size * (size + 1) / 2).all())
    return best, right


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def _cannot_write(run: Path, rank: int) -> str:
    try:
        with tempfile.TemporaryFile(dir=run) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _content(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _gather(store: Store, keys: list[str], seconds: float) -> list[str | None]:
    """The values of all keys; None for those that are not there after `seconds`."""
    deadline = time.monotonic() + seconds
    while not store.check(keys) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [store.get(key).decode() if store.check([key]) else None for key in keys]


def _get(store: Store, key: str, seconds: float) -> str:
    (value,) = _gather(store, [key], seconds)
    if value is None:
        raise UserError(f"preflight: rank 0 said nothing within {seconds:g} s (launch.rendezvous_seconds)")
    return value


def _missing_rank(rank: int, config: Config) -> RankReport:
    """The report of a rank that never arrived; its node is known from where the launch was sent."""
    node = rank // config.launch.processes
    hosts: tuple[str, ...] | list[str] = config.launch.hosts
    nodes = os.environ.get("SLURM_JOB_NODELIST")
    if nodes:
        done = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True)
        hosts = done.stdout.split()
    return RankReport(rank, hosts[node] if node < len(hosts) else f"node {node}", arrived=False)


def _write_report(
    run: Path,
    reports: list[RankReport],
    problems: list[Problem],
    bandwidth: float | None,
    links: Sequence[Link] = (),
) -> list[Problem]:
    """Write preflight.json; returns the problems."""
    kept = {
        "time": time.time(),
        "ranks": [one.to_json() for one in reports],
        "all_reduce_bytes_per_second": bandwidth,
        "links": [one.to_json() for one in links],
        "complaints": [one.to_json() for one in problems],
    }
    write_atomic(run / "preflight.json", json.dumps(kept, indent=1))
    return problems


def format_problems(problems: list[Problem]) -> str:
    """The problems as lines of text, and how to go on without the bad nodes."""
    bad = list(dict.fromkeys(one.node for one in problems if one.node != "all nodes"))
    way = [f"to leave them out: launch.exclude=[{','.join(bad)}]"] if bad and "SLURM_JOB_ID" in os.environ else []
    return "\n".join([*(f"preflight: {one.node}: {one.text}" for one in problems), *way])


def _first_here() -> bool:
    """Whether this is its host's first rank, which reads the host's counters."""
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"


def main(run: Path) -> int:
    """`python -m launch.preflight RUN`, one process a rank; the first one tells what is wrong. What it spends is the
    run's, or, where nothing is to be trained, the root's."""
    from launch.rank import take_place
    from trainer.training.distributed import Unconnected

    outlive_readers()
    if agent := os.environ.get(LAUNCHED):
        die_with_parent(int(agent))
    for number in heeded():  # nothing to save yet, and the run is to go on later
        signal.signal(number, lambda *_: os._exit(STOPPED))
    try:
        take_place(run)
        if _first_here() or not host_counters().found:  # which tell of all processes
            costs.into(booked_at(run), RunFolder(run).load_config())
        problems = check_ranks(run)
    except UserError as error:
        report_failure(str(error), user=True)
        return BAD_INPUT
    except Unconnected as error:
        report_failure(f"preflight: {error}", user=True)
        return FAILED
    if problems and os.environ.get("RANK", "0") == "0":
        report_failure(format_problems(problems), user=True)
    return BAD_INPUT if problems else DONE


if __name__ == "__main__":
    work, words = partial(main, Path(sys.argv[1])), ["preflight", *sys.argv[1:]]
    status = costs.metered("preflight", words, work, whole=True, counters=_first_here())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
