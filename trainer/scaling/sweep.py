"""Many runs: one after the other or side by side, each once, however often the command is given again."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import connection, get_context
from multiprocessing.context import ForkProcess
from pathlib import Path

from trainer.config.host import threads
from trainer.descriptions.launchers import LAUNCHERS
from trainer.meter import costs
from trainer.report.run_data import read_run
from trainer.run.child_process import exit_with
from trainer.run_folder import RunFolder
from trainer.scaling import outcome
from trainer.scaling.branches import can_begin
from trainer.scaling.ladder import PlannedRun, each
from trainer.scaling.view import View
from trainer.trackers.wandb_variables import forget_names_of_one_run, require_own_ids
from trainer.training.faults.signals import StopRequest, die_with_parent, signal_defaults
from trainer.utils.command_line import same_again
from trainer.utils.errors import UserError
from trainer.utils.outcomes import BAD_INPUT, HALTED, STOPPED, Status

FINAL = (BAD_INPUT, HALTED)  # to start again would end the same
Start = Callable[[list[str]], int]


@dataclass(frozen=True)
class Failure:
    """A run that did not finish, and what it said last."""

    run: PlannedRun
    text: str


@dataclass
class _Job:
    run: PlannedRun
    process: ForkProcess
    log: Path
    attempt: int


def train_all(runs: Sequence[PlannedRun], *, jobs: int = 1, retries: int = 1, as_json: bool = False) -> int:
    """Check and train runs, print the table of what came of them, and write it beside their folders. Returns the exit
    code of the whole: 1 where a run failed, 75 where a signal stopped them."""
    from trainer.run.start import start

    if LAUNCHERS[runs[0].config.launch.name].arrays:
        check(runs, jobs=jobs)
        return _submit([run for run in runs if not finished(run)])
    make_ready(runs, jobs=jobs)
    failures, stopped = run_all(runs, start, jobs=jobs, retries=retries)
    return print_summary(runs, failures, stopped, as_json=as_json)


def check(runs: Sequence[PlannedRun], *, jobs: int) -> None:
    """Raise UserError with all that would keep these runs from starting."""
    from trainer.run.start import check_run

    check_jobs(jobs)
    check_folders(runs)
    forget_names_of_one_run()
    require_own_ids(run.config for run in runs)
    each([run.config for run in runs], check_run)


def check_jobs(jobs: int) -> None:
    """Raise UserError where no run could ever begin."""
    if jobs < 1:
        raise UserError(f"jobs: {jobs} given, 1 or more wanted")


def make_ready(runs: Sequence[PlannedRun], *, jobs: int) -> None:
    """Check the runs, prepare their corpora and import what they need. Raises UserError."""
    from trainer.run.start import prepare_with_progress

    check(runs, jobs=jobs)
    costs.into_root(runs[0].config)
    corpora = {json.dumps(run.config.model_dump(mode="json", include={"data", "tokenizer"})): run for run in runs}
    for run in corpora.values():  # once, and not in several runs at a time
        prepare_with_progress(run.config)
    warm_up()


def print_summary(
    runs: Sequence[PlannedRun], failures: Sequence[Failure], stopped: bool, *, as_json: bool = False
) -> int:
    """Print the table of results, and write it as sweep.csv beside the run folders. Returns the exit code."""
    table = outcome.rows(runs)
    tables: dict[Path, list[outcome.Row]] = {}
    for run, row in zip(runs, table, strict=True):
        tables.setdefault(run.folder.path.parent, []).append(row)
    for folder, part in tables.items():
        outcome.write_csv(folder / "sweep.csv", part)
    print(json.dumps(table, indent=1) if as_json else outcome.format_rows(table))
    for failure in failures:
        print(f"isoflop: {failure.run.name}: {failure.text}", file=sys.stderr)
    if stopped:
        print(f"isoflop: stopped before the end; go on with: {same_again()}", file=sys.stderr)
        return STOPPED
    return 1 if failures else 0


def _submit(runs: Sequence[PlannedRun]) -> int:
    """The runs as one job array; branches whose trunk has no checkpoint yet as another one, which waits for the
    first."""
    from launch import launcher_of
    from trainer.run.many_runs import submit
    from trainer.run.start import ready

    if not runs:
        print("all runs are finished")
        return 0
    launcher_of(runs[0].config.launch.name).require()  # before any folder is made
    folder, after = runs[0].folder.path.parent, list[str]()
    now = [run for run in runs if can_begin(run.config, run.folder)]
    for name, part in ((".array", now), (".branches", [run for run in runs if run not in now])):
        if part:
            given = [*part[0].config.launch.sbatch, *after]
            waits = [f"launch.sbatch={json.dumps(given)}"] if after else []
            frozen = [ready([*run.words, *waits]) for run in part]
            after = [f"--dependency=afterany:{submit(frozen, folder / name, folder)}"]
    return 0


def warm_up() -> None:
    """Import once what every run imports: runs are forked from here. Not with CUDA, which no fork survives."""
    import torch

    if not torch.backends.cuda.is_built():
        from trainer.training.engine import import_deepspeed

        import_deepspeed("cpu")
        drawing = ("matplotlib.backends.backend_svg", "matplotlib.figure")
        for module in ("trainer.training.loop", "torch._dynamo", *drawing):
            import_module(module)


def finished(run: PlannedRun) -> bool:
    """Whether the run is over and accounted for."""
    folder = run.folder
    try:
        return (folder.path / "pricetag.json").is_file() and read_run(folder.path).status == Status.FINISHED
    except ValueError:
        return False


def check_folders(runs: Sequence[PlannedRun]) -> None:
    """Raise UserError where a folder of that name holds a run of another science."""
    from trainer.run.goes_on import same_science

    wrong: list[str] = []
    for run in runs:
        if run.folder.config.is_file():
            try:
                same_science(run.folder.load_config(), run.config, run.folder)
            except UserError as error:
                wrong += str(error).splitlines()
    if wrong:
        more = [f"... and {len(wrong) - 6} more lines"] if len(wrong) > 6 else []
        raise UserError(
            "\n".join([*wrong[:6], *more, "for another sweep beside that one choose another run.experiment"])
        )


def run_all(runs: Sequence[PlannedRun], start: Start, *, jobs: int = 1, retries: int = 1) -> tuple[list[Failure], bool]:
    """Train what is not finished yet, `jobs` at a time; a run that fails is tried again `retries` times, from its last
    checkpoint. Returns those that failed, and whether a signal asked to stop.

    Raises UserError where another sweep holds one of the folders.
    """
    with lock_folders(run.folder.path.parent for run in runs):
        waiting = deque((run, 0) for run in runs if not finished(run))
        with View(len(runs), len(runs) - len(waiting)) as view:
            return WorkerPool(start, jobs, retries, view).work(waiting)


@contextlib.contextmanager
def lock_folders(folders: Iterable[Path]) -> Iterator[None]:
    """Lock the folders of a sweep. Raises UserError where another sweep holds one of them."""
    with contextlib.ExitStack() as held:
        for folder in sorted(set(folders)):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(RunFolder(folder).lock("run.experiment"))
        yield


class WorkerPool:
    """Up to `jobs` runs at a time, each in a process of its own."""

    def __init__(self, start: Start, jobs: int, retries: int, view: View) -> None:
        self.start, self.jobs, self.retries, self.view = start, jobs, retries, view
        self.busy: list[_Job] = []
        self.failures: list[Failure] = []
        self.stop = StopRequest()

    def work(self, waiting: deque[tuple[PlannedRun, int]]) -> tuple[list[Failure], bool]:
        told = False
        while self.busy or (waiting and not self.stop):
            while len(self.busy) < self.jobs and not self.stop and (one := self._next(waiting)):
                self._begin(*one)
            if not self.busy and not self.stop:
                self._give_up(waiting)
                break
            connection.wait([job.process.sentinel for job in self.busy], timeout=0.5)
            if self.stop and not told:
                told = True
                for job in self.busy:
                    job.process.terminate()  # each saves a checkpoint first
            for job in [job for job in self.busy if job.process.exitcode is not None]:
                self.busy.remove(job)
                if (again := self._ended(job)) is not None:
                    waiting.append(again)
            self.view.show([job.run for job in self.busy])
        return self.failures, bool(self.stop)

    def _next(self, waiting: deque[tuple[PlannedRun, int]]) -> tuple[PlannedRun, int] | None:
        """The first that can begin, taken out: branches wait for the checkpoint of their trunk."""
        one = next((one for one in waiting if can_begin(one[0].config, one[0].folder)), None)
        if one is not None:
            waiting.remove(one)
        return one

    def _give_up(self, waiting: deque[tuple[PlannedRun, int]]) -> None:
        """Of branches whose trunk ended before their step."""
        for run, _ in waiting:
            branch = run.config.branch
            text = f"its trunk {Path(str(branch.run)).name} has no checkpoint of step {branch.step}"
            self.view.failed(run, text)
            self.failures.append(Failure(run, text))

    def _begin(self, run: PlannedRun, attempt: int) -> None:
        log = run.folder.path.parent / ".logs" / f"{run.name}.txt"
        log.parent.mkdir(exist_ok=True)
        words = [*run.words]
        if run.config.engine.threads is None:  # share the cores
            words.append(f"engine.threads={threads(run.config, sharing=self.jobs)}")
        process = get_context("fork").Process(target=_train, args=(self.start, words, log))
        process.start()
        self.busy.append(_Job(run, process, log, attempt))
        self.view.began(run)

    def _ended(self, job: _Job) -> tuple[PlannedRun, int] | None:
        """Show how a run ended; returns (run, next attempt) where it is to be tried again."""
        code = job.process.exitcode
        if code == 0:
            self.view.done(job.run)
            return None
        if self.stop:
            return None
        text = _last_words(job.log) or (f"killed by signal {-code}" if code and code < 0 else f"exit code {code}")
        if code not in FINAL and job.attempt < self.retries:
            self.view.say(f"{job.run.name}: {text}; trying again")
            return job.run, job.attempt + 1
        self.view.failed(job.run, text)
        self.failures.append(Failure(job.run, f"{text} ({job.log})"))
        return None


def _train(start: Start, words: list[str], log: Path) -> None:
    """In a process of its own: train one run, with its output in `log`."""
    os.setsid()  # Ctrl-C goes to the sweep, which passes it on
    die_with_parent()
    signal_defaults()  # until the run listens itself
    sys.stdout = sys.stderr = open(log, "w", buffering=1)  # noqa: SIM115 - open until the process ends
    for descriptor in (1, 2):
        os.dup2(sys.stdout.fileno(), descriptor)
    exit_with(partial(start, words))


def _last_words(log: Path) -> str:
    """The line that says why a run failed: ours if there is one, else the last of a traceback."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    ours = [line.removeprefix("isoflop: ") for line in lines if line.startswith("isoflop: ")]
    return (ours or lines or [""])[-1][:300]
