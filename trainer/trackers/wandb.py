"""Weights & Biases, at arm's length: all of it happens in one background thread that the run never waits for.

The loop's thread only puts records into a queue. The worker finds out whether the server can be reached, imports wandb,
starts the run (seconds, or a time-out), and then logs what has gathered. `finish` waits for it, but not for ever.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import queue
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from trainer.config import Config
from trainer.descriptions.evaluations import evaluations_on
from trainer.trackers import wandb_server
from trainer.trackers.metrics import AXES, TEXT, MetricTracker, cost_metrics, evaluation_metrics, facts, step_metrics
from trainer.trackers.records import Alert, Event, TextSample
from trainer.trackers.tracker import IMPORTS, RunContext, warn
from trainer.trackers.wandb_variables import group_of, leave_to_configuration, print_unless_silent, project_of
from trainer.utils.command_line import command_line
from trainer.utils.home import expanded
from trainer.utils.outcomes import Status

__all__ = ["WandbTracker", "begin", "cost_metrics", "evaluation_metrics", "run_id", "step_metrics", "sync_line"]

ID = Path("wandb", "id")  # in a run's folder
INIT_SECONDS = 15.0  # for the server to accept the run; in the background
FINISH_SECONDS = 20.0  # for the rest of the upload, after the last step
LATE_SECONDS = 3.0  # that the client may take beyond those which it was given

AXIS_OF = {"train/*": "tokens", "val/*": "tokens", "val/loss": "tokens", "val/bits_per_byte": "tokens"}
BEST = {"val/loss": "min,last", "val/bits_per_byte": "min,last"}


class WandbTracker(MetricTracker):
    """Logs to one W&B run per run folder, each step once, however often the run is killed and resumed."""

    name = "wandb"

    def __init__(self, config: Config, run: Path) -> None:
        super().__init__(config)
        self._folder = run
        self._queue: queue.SimpleQueue[Callable[[Any], None] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="wandb-tracker", daemon=True)
        self._row: tuple[int, dict[str, Any]] | None = None  # of the newest step, which may get more
        self._skip_below = 1  # first step that W&B has not heard of
        self._offline_folder: str | None = None
        self._finish_seconds = FINISH_SECONDS
        self._given_up = False
        self._failed = False

    # The loop's side: nothing here waits, except finish.

    def start(self, context: RunContext) -> None:
        super().start(context)
        self._worker.start()

    def event(self, event: Event) -> None:
        """The logbook stays in events.jsonl: W&B has no place for a line of text at a step."""

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        if not self._worker.is_alive():
            return
        self._queue.put(self._hand_over)
        self._queue.put(lambda run: run.summary.update({"status": status, **_plain(summary)}))
        self._failed = status not in (Status.FINISHED, Status.STOPPED)
        self._queue.put(None)
        self._worker.join(2)
        if self._worker.is_alive():
            print_unless_silent(f"waiting for W&B, {self._finish_seconds:.0f} s at most")
            self._worker.join(self._finish_seconds + LATE_SECONDS)
        if self._worker.is_alive():
            self._given_up = True
            warn(f"wandb: not done after {self._finish_seconds:.0f} s; the run ends without it")

    def log(self, step: int, metrics: dict[str, float], ratios: list[float]) -> None:
        self._later(lambda run: self._add(run, step, _with_histogram(metrics, ratios)))

    def samples(self, samples: list[TextSample]) -> None:
        """As a table that W&B shows at each step."""
        self._later(lambda run: self._add(run, samples[0].step, {TEXT: _table(samples)}))

    def alert(self, alert: Alert) -> None:
        self._later(lambda run: run.alert(alert.title, alert.text, alert.level, wait_duration=0.001))

    def _later(self, call: Callable[[Any], None]) -> None:
        if not self._given_up:
            self._queue.put(call)

    # The worker's side.

    def _add(self, run: Any, step: int, values: dict[str, Any]) -> None:
        """To the row of a step: its record, its evaluation, its texts. W&B takes a row once, so it gets one whole, when
        the next begins: what a kill takes with it is then made up by the next attempt, and no row lacks a part."""
        if step < self._skip_below:  # a roll-back takes steps again that were logged
            return
        if self._row is not None and step > self._row[0]:
            self._hand_over(run)
        if self._row is None or step < self._row[0]:
            self._row = (step, {})
        self._row[1].update(values)

    def _hand_over(self, run: Any) -> None:
        if self._row is not None:
            step, values = self._row
            self._row, self._skip_below = None, step + 1
            run.log(values, step=step, commit=True)

    def _work(self) -> None:
        try:
            if (run := self._begin()) is not None:
                self._make_up(run)
                while (call := self._queue.get()) is not None:
                    call(run)
                self._end(run)
        except Exception as error:  # nothing that wandb raises may reach the run
            self._given_up = True
            warn(f"wandb: {_brief(error)}; the run goes on without it")
        _tear_down()
        if self._offline_folder:
            print_unless_silent(f"upload to W&B with: {sync_line(self._offline_folder, self._context.config)}")

    def _make_up(self, run: Any) -> None:
        """Log what an earlier attempt recorded and could not log."""
        first, last = self._skip_below, self._context.resumed_from
        records = ((step, _with_histogram(known, ratios)) for step, known, ratios in self.missed(first, first))
        texts = ((step, {TEXT: _table(some)}) for step, some in self.missed_samples(first))
        for step, values in heapq.merge(records, texts, key=itemgetter(0)):
            self._add(run, step, values)
        self._hand_over(run)
        self._skip_below = max(self._skip_below, last + 1)

    def _begin(self) -> Any:
        """The W&B run: online if that can be had, else offline, else (W&B is switched off) None."""
        wandb_server.tidy_environment()
        leave_to_configuration(self._context.config)
        with IMPORTS:
            mode, reason = wandb_server.choose_mode(self._config.wandb)
            if mode == "disabled":
                self._given_up = True
                return None
            import wandb  # noqa: F401
        if mode == "online":
            try:
                run = self._init("online")
                print_unless_silent(f"W&B run {run.url}")
                return run
            except Exception as error:  # refused key, dead server, whatever else
                reason = _brief(error)
                _tear_down()  # the client still holds the id for the run that it could not start
        if reason:
            warn(f"wandb: {reason}; logging offline")
        run = self._init("offline")
        self._offline_folder = str(Path(run.settings.sync_dir))
        return run

    def _init(self, mode: Literal["online", "offline"]) -> Any:
        context, config = self._context, self._context.config
        logged_before = (
            last_logged_step(files_of(self._folder, config), run_id(self._folder, self._config.run_id))
            if mode == "offline"
            else 0
        )
        known = {**config.model_dump(mode="json"), **facts(context)}
        run = begin(self._folder, config, mode, self._finish_seconds, known)
        for axis in AXES:
            run.define_metric(axis, hidden=True)
        asked = {f"{one.name}/*": "tokens" for one in evaluations_on(config.evaluation)}
        for metric, axis in {**AXIS_OF, **asked}.items():
            run.define_metric(metric, step_metric=axis, summary=BEST.get(metric))
        unheard = run.starting_step if mode == "online" else logged_before + 1
        self._skip_below = max(self._skip_below, unheard)
        return run

    def _end(self, run: Any) -> None:
        try:
            run.finish(exit_code=int(self._failed))
        except TimeoutError:
            self._offline_folder = str(Path(run.settings.sync_dir))
            warn(f"wandb: the server did not take everything in {self._finish_seconds:.0f} s; the data is safe on disk")


def make(config: Config, run: Path, resumed_from: int) -> WandbTracker:
    return WandbTracker(config, run)


def begin(
    folder: Path,
    config: Config,
    mode: Literal["online", "offline"],
    finish_seconds: float = FINISH_SECONDS,
    facts: dict[str, Any] | None = None,
) -> Any:
    """Start or continue the W&B run of a run folder. Raises what the client raises, after INIT_SECONDS at most."""
    import wandb

    tracker, goes_on = config.tracker, (folder / ID).is_file()
    wandb.setup(settings=wandb.Settings(silent=True))  # what there is to say is said here
    return wandb.init(
        id=run_id(folder, tracker.run_id),
        resume="allow" if goes_on else tracker.resume or "allow",
        mode=mode,
        dir=files_of(folder, config).parent,
        project=project_of(config),
        entity=tracker.entity,
        tags=list(tracker.tags) or None,
        name=tracker.name or folder.name,
        group=group_of(config),
        job_type=tracker.job_type,
        notes=tracker.notes,
        config=facts,
        settings=wandb.Settings(
            silent=True,
            console="off",  # the terminal's text stays here
            disable_code=True,
            save_code=False,
            init_timeout=INIT_SECONDS,
            finish_timeout=finish_seconds,
            finish_timeout_raises=True,
        ),
    )


def sync_line(files: str, config: Config) -> str:
    """The line for a shell that uploads what was logged offline."""
    url = config.tracker.base_url
    line = command_line("sync", files, program="wandb")
    return line if url is None else f"WANDB_BASE_URL={shlex.quote(url)} {line}"


def _tear_down() -> None:
    """End the client's own process here, where its failures are caught, and not at the exit of the interpreter."""
    if wandb := sys.modules.get("wandb"):
        with contextlib.suppress(Exception):
            wandb.teardown(exit_code=1)


def run_id(folder: Path, wanted: str | None = None) -> str:
    """The W&B id of a run folder: as wanted, else drawn, and kept in it, so that every attempt continues the same W&B
    run.

    It is not derived from the folder's name: a name that is used again, here or on another machine, is another run.
    """
    path = folder / ID
    kept = path.read_text().strip() if path.exists() else None
    if kept is not None and wanted in (None, kept):
        return kept
    path.parent.mkdir(exist_ok=True)
    chosen = wanted or secrets.token_hex(6)
    aside = path.with_name("id.part")
    aside.write_text(chosen + "\n")
    aside.replace(path)
    return chosen


def files_of(folder: Path, config: Config) -> Path:
    """Where the client keeps its files of this run: `wandb` in tracker.dir, else in the run's folder."""
    below = folder if config.tracker.dir is None else expanded(config.tracker.dir).absolute()
    with contextlib.suppress(OSError):  # then the client takes a folder of its own, and says which in `sync_dir`
        below.mkdir(parents=True, exist_ok=True)
    return below / "wandb"


def last_logged_step(files: Path, run: str) -> int:
    """Last step that an earlier attempt left in this run's W&B files; 0 if there is none.

    `wandb sync` sends the folders of all attempts one after another, and moves a step that it has already sent to the
    next free number: so no attempt may log a step again.
    """
    tool = [sys.executable, "-P", "-m", "wandb", "leet", "inspect", "--summary", "--json"]
    written = [path.parent for path in files.glob(f"*run-*-{run}/*.wandb")]
    for attempt in sorted(written, key=lambda path: path.stat().st_mtime, reverse=True):
        done = subprocess.run([*tool, str(attempt)], capture_output=True, text=True, timeout=60, check=False)
        with contextlib.suppress(ValueError):
            if step := json.loads(done.stdout).get("step"):
                return int(step)
    return 0


def _table(samples: list[TextSample]) -> Any:
    import wandb

    rows = [[one.step, one.tokens_seen, one.prompt, one.text] for one in samples]
    return wandb.Table(columns=["step", "tokens_seen", "prompt", "text"], data=rows)


def _with_histogram(metrics: dict[str, float], ratios: list[float]) -> dict[str, Any]:
    if not ratios:
        return metrics
    import wandb

    return {**metrics, "updates/ratio": wandb.Histogram(ratios)}


def _plain(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if isinstance(value, (bool, int, float, str))}


def _brief(error: Exception) -> str:
    text = " ".join(wandb_server.redact(str(error)).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
