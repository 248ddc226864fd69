"""One rank of a run: reads the frozen configuration and trains. It knows nothing of Hydra, nor of what started it."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from trainer.books.layout import micro_batch
from trainer.config import Config
from trainer.config.host import threads as threads_of_rank
from trainer.meter.process import begin
from trainer.plugins import load as load_plugins
from trainer.run_folder import RunFolder
from trainer.training.faults.output import outlive_readers
from trainer.training.faults.reporting import cause_of, report_failure
from trainer.training.faults.signals import LAUNCHED, Interrupted, StopRequest, die_with_parent
from trainer.utils.errors import UserError, code_of
from trainer.utils.files import FULL
from trainer.utils.outcomes import DONE, EXIT_CODES, FAILED, HALTED, STOPPED, Status

if TYPE_CHECKING:
    from trainer.training.hooks import Hook

# How often an OpenMP thread looks for work before it sleeps. On a busy host, threads that spin without a bound keep
# each other from the cores (docs/benchmarks/threads.md).
SPINS = "1000"
VERDICT = "ISOFLOP_VERDICT"  # variable: the file for an exit code that an agent must not take for a failure


def work(run: Path, hooks: Sequence[Hook] = (), *, saves: bool = True) -> int:
    """Train this rank's share of the run in this folder; returns the exit code. hooks: of this process, to hear of it.
    saves: false where nobody goes on with the run.

    Raises Interrupted at a stop signal that finds nothing to save: a run of one rank before its first step, or one that
    does not save.
    """
    folder = RunFolder(run)
    rank = int(os.environ.get("RANK", 0))
    stop = StopRequest(run, at_once=not saves or "RANK" not in os.environ, saves=saves)
    try:
        load_plugins()
        config = as_found(folder.load_config())
        lock = folder.lock() if rank == 0 else contextlib.nullcontext()
        with lock, logged(folder, rank):
            threads = threads_of_rank(config)
            os.environ["OMP_NUM_THREADS"] = str(threads)  # both are read when torch is imported
            if "OMP_WAIT_POLICY" not in os.environ:
                os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
            import torch

            from trainer.training.distributed import Unconnected, join
            from trainer.training.loop import train

            torch.set_num_threads(threads)
            try:
                world = join(config.engine.device, config.launch.timeout_seconds, config.launch.rendezvous_seconds)
            except Unconnected as error:
                report_failure(str(error), user=True)
                return FAILED
            outcome = train(config, folder, world, stop, hooks)
            stop.end()
    except UserError as error:
        report_failure(str(error), user=True)
        return code_of(error)
    except BaseException as error:
        if stop.interrupted is not None:  # libraries make errors of their own of what interrupts them
            raise Interrupted(stop.interrupted) from None
        if isinstance(error, OSError) and error.errno in FULL:
            report_failure(f"run.root: the disk of {error.filename or run} is full; {_with_space(folder)}", user=True)
            return FAILED
        report_failure(traceback.format_exc())
        return FAILED
    if outcome.status == Status.HALTED and rank == 0:
        print(f"isoflop: {outcome.reason}", file=sys.stderr)
    if outcome.status == Status.FAILED and (rank == 0 or LAUNCHED in os.environ):  # the agent shows one of them
        report_failure(f"{outcome.reason}; {_with_space(folder)}" if outcome.disk_full else outcome.reason, user=True)
    return EXIT_CODES[outcome.status]


@contextlib.contextmanager
def logged(folder: RunFolder, rank: int) -> Iterator[None]:
    """An error of the first rank that the loop has not told yet is a line of the logbook. One that keeps a finished run
    from going on is not: the run stays finished."""
    before = len(folder.events_read())
    try:
        yield
    except Exception as error:
        from trainer.trackers.jsonl import append_event
        from trainer.trackers.records import Event

        events = folder.events_read()
        told = any(event.get("name") == "lost" for event in events[before:])
        finished = bool(events) and events[-1].get("name") == Status.FINISHED
        if rank == 0 and not told and not finished:
            step = events[-1].get("step", 0) if events else 0
            text, _ = cause_of(rank, error)
            append_event(folder.path, Event("lost", time.time(), step, text, {"rank": rank}, folder.attempts()))
        raise


def _with_space(folder: RunFolder) -> str:
    return f"free some space, then: {folder.command('train', f'resume={folder.path}')}"


def as_found(config: Config) -> Config:
    """The run on as many ranks as there are: fewer than planned where a node was lost for good.

    The global batch stays, and so does what a rank computes at once: it fitted into memory. As many ranks share experts
    as divide both those there are and those that did.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == config.launch.ranks:
        return config
    nodes, rest = divmod(size, config.launch.processes)
    place = {"nodes": nodes} if not rest else {"nodes": 1, "processes": size}
    launch = config.launch.model_copy(update=place)
    sharing = math.gcd(size, config.engine.expert_parallel)
    engine = config.engine.model_copy(update={"micro_batch": micro_batch(config), "expert_parallel": sharing})
    return config.model_copy(update={"launch": launch, "engine": engine})


def leave(code: int) -> NoReturn:
    """End this process. An agent that starts failed ranks again is told where that would be wrong.

    So is one that has stopped its ranks itself, to start them again beside those of a node that came back.
    """
    verdict = os.environ.get(VERDICT)
    if verdict and code in (DONE, STOPPED, HALTED):
        Path(verdict).write_text(str(code))
        code = DONE
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # library threads must not turn a finished run into an abort


if __name__ == "__main__":
    if agent := os.environ.get(LAUNCHED):
        die_with_parent(int(agent))
    begin(reads_host=os.environ.get("LOCAL_RANK", "0") == "0")
    outlive_readers()
    leave(work(Path(sys.argv[1])))
