"""One node's ranks under torchrun's own agent: alone, or with the agents of other nodes.

Why not the program `torchrun`: it turns a worker's exit code 75 (saved, go on later) into 1 and shows every rank's
traceback of a lost peer beside the one that matters.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from launch.plan import booked_at
from launch.secret import require_secret
from launch.stopping import stopping_ranks
from trainer.config import Config
from trainer.config.host import threads
from trainer.descriptions.launchers import LAUNCHERS
from trainer.meter.costs import into, metered
from trainer.plugins import load as load_plugins
from trainer.report import report_attempt, reserve_ledger
from trainer.training.faults.output import outlive_readers
from trainer.training.faults.reporting import lost_a_peer
from trainer.training.faults.signals import LAUNCHED, Interrupted, go_on_with, interrupt_on_signals, interrupted
from trainer.utils.errors import UserError, code_of
from trainer.utils.outcomes import BAD_INPUT, DONE, FAILED, HALTED, STOPPED
from trainer.utils.own_packages import search_path
from trainer.worker import VERDICT

NOTHING_TO_SAVE = ("launch.preflight", "trainer.run.profiled_rank")  # ranks that a signal ends at once
FULL_BYTES = 1 << 16  # that a disk has left when not even a line can be relied on


@dataclass(frozen=True)
class Rendezvous:
    """Where the agents of all nodes find each other, and which of them this one is."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free one, for a node that is alone
    node: int = 0
    address: str = "127.0.0.1"  # of this node, as the others reach it


def run_agent(
    config: Config, run: Path, rendezvous: Rendezvous, module: str = "trainer.worker", restarts: int = 0
) -> int:
    """Start this node's ranks as `python -P -m module run` and wait for them; returns the exit code.

    What a rank's failure says is shown once. A node's first rank has the terminal, the others write to logs/.
    Raises UserError where the port is taken, the first host cannot be reached, or this node lacks the launch's secret,
    and Interrupted at a signal that finds no rank to save.
    """
    require_secret(config.launch)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is imported
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    from launch.rendezvous import FAILURES, explain

    launch = config.launch
    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ[LAUNCHED] = str(os.getpid())
    os.environ["PYTHONPATH"] = search_path()
    os.environ["OMP_NUM_THREADS"] = str(threads(config))
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(launch.save_seconds)
    if launch.nodes > 1:  # the agents' own store would stay where it was in the first round, be that node gone or not
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    os.environ.update(launch.environment)
    settings = _settings(config, run, rendezvous, module, restarts)
    try:
        save_seconds = None if module in NOTHING_TO_SAVE else launch.save_seconds
        verb = "train" if LAUNCHERS[launch.name].trains else "launch"
        with stopping_ranks(save_seconds, run, verb, alone=launch.nodes == 1) as stop:
            os.environ[VERDICT] = str(stop.verdict)
            try:
                elastic_launch(settings, sys.executable)("-P", "-m", module, str(run))
            except Interrupted:
                if not stop.verdict.read_text():
                    raise
            return int(stop.verdict.read_text() or DONE)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        # Without a file of its own the rank said nothing: another one did, or a signal ended it.
        return _show(run, rank, failure.exitcode, failure.message if Path(failure.error_file).is_file() else "")
    except FAILURES as error:
        raise explain(error, launch, f"{rendezvous.host}:{rendezvous.port}") from None
    finally:
        os.environ.pop(LAUNCHED, None)
        os.environ.pop(VERDICT, None)


def _settings(config: Config, run: Path, rendezvous: Rendezvous, module: str, restarts: int):  # type: ignore[no-untyped-def]
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    from launch.rendezvous import register

    launch = config.launch
    logs = run / "logs"
    logs.mkdir(exist_ok=True)
    return LaunchConfig(
        min_nodes=launch.min_nodes or launch.nodes,
        max_nodes=launch.nodes,
        nproc_per_node=launch.processes,
        run_id=f"{run.name}-{module}",
        rdzv_backend=register(),
        rdzv_endpoint=f"{rendezvous.host}:{rendezvous.port}",
        rdzv_configs={"kind": launch.rendezvous, "node": rendezvous.node, "seconds": launch.rendezvous_seconds},
        local_addr=rendezvous.address,
        max_restarts=restarts,
        monitor_interval=0.1,
        signals_to_handle="",  # launch.stopping does
        # The first rank of the run may be on any node, and has its terminal; on the other nodes a first rank is silent.
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects=dict.fromkeys(range(1, launch.processes), Std.ALL)),
    )


def _show(run: Path, rank: int, code: int, message: str) -> int:
    if code == BAD_INPUT:
        for line in message.splitlines():
            print(f"isoflop: {line}", file=sys.stderr)
        return BAD_INPUT
    if code < 0:
        why = " (a file that it reads became shorter: see isoflop data verify)" if -code == signal.SIGBUS else ""
        print(f"isoflop: rank {rank} was killed by signal {-code}{why}", file=sys.stderr)
    elif lost_a_peer(message):  # the node where it began shows why
        print(f"isoflop: rank {rank} lost a rank of another node", file=sys.stderr)
    elif not message.strip():
        print(f"isoflop: rank {rank} {_why_silent(run)}", file=sys.stderr)
    elif "\n" not in message.strip():  # no traceback but what is meant for a person
        print(f"isoflop: {message}", file=sys.stderr)
    else:
        print(f"isoflop: rank {rank} failed\n{message}", file=sys.stderr)
    return FAILED


def _why_silent(run: Path) -> str:
    """What to say of a rank that failed and left no word: its words are files too."""
    disk = os.statvfs(run)
    if disk.f_bavail * disk.f_frsize < FULL_BYTES:
        from trainer.run_folder import RunFolder

        again = RunFolder(run).command("train", f"resume={run}")
        return f"failed, and the disk of {run} is full; free some space, then: {again}"
    return f"failed and left no word; see {run / 'logs'}"


def own_address(host: str, port: int) -> str:
    """This node's address on the way to another one; no packet is sent. Raises UserError for a name nobody knows."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port or 1))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise UserError(f"launch.hosts: {host}: {error.strerror or error}") from None


def check_nodes(config: Config, run: Path, here: Rendezvous) -> int:
    """Preflight of this node with all others, or alone where they have done that already: this one was away."""
    if here.node and _answers(here.host, here.port):
        alone = config.launch.model_copy(update={"nodes": 1, "min_nodes": None, "rendezvous": "c10d"})
        return run_agent(config.model_copy(update={"launch": alone}), run, Rendezvous(), module="launch.preflight")
    # On the next port: the first agent's store ends with it, and a slower node must not meet the old one.
    return run_agent(config, run, replace(here, port=here.port and here.port + 1), module="launch.preflight")


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def main(arguments: list[str]) -> int:
    """`python -m launch.agent RUN [--host H --port P --node N --address A] [--only-preflight]`.

    Under srun, SLURM numbers the nodes.
    """
    from trainer.run_folder import RunFolder

    outlive_readers()
    interrupt_on_signals()
    parser = argparse.ArgumentParser("launch.agent")
    parser.add_argument("run", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--node", type=int, default=int(os.environ.get("SLURM_NODEID", 0)))
    parser.add_argument("--address")
    parser.add_argument("--only-preflight", action="store_true")
    given = parser.parse_args(arguments)
    try:
        load_plugins()
        config = RunFolder(given.run).load_config()
        into(booked_at(given.run), config)
        address = given.address or own_address(given.host, given.port)
        here = Rendezvous(given.host, given.port, given.node, address)
        if config.launch.hosts:  # complaints call a node as the person does
            os.environ["ISOFLOP_NODE"] = config.launch.hosts[given.node]
        if config.launch.preflight or given.only_preflight:
            code = check_nodes(config, given.run, here)
            if code != DONE or given.only_preflight:
                return code
        if given.node == 0:
            reserve_ledger(given.run)
        code = run_agent(config, given.run, here, restarts=config.launch.restarts)
        if given.node == 0 and code in (DONE, FAILED, HALTED, STOPPED):
            report_attempt(given.run, code)
            if code == STOPPED and config.launch.hosts and not config.launch.ssh:  # else whoever started it says so
                print(f"isoflop: {go_on_with(given.run, 'launch')}", file=sys.stderr)
        return code
    except KeyboardInterrupt as error:
        return interrupted(Interrupted(getattr(error, "number", signal.SIGINT), go_on_with(given.run, "launch")))
    except UserError as error:
        for line in str(error).splitlines():
            print(f"isoflop: {line}", file=sys.stderr)
        return code_of(error)


if __name__ == "__main__":
    status = metered("launch", sys.argv[1:], partial(main, sys.argv[1:]), whole=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
