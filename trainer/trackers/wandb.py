"""Weights & Biases, at arm's length: all of it happens in one background thread that the run never waits for.

The loop's thread only puts records into a queue. The worker finds out whether the server can be reached, imports wandb,
starts the run (seconds, or a time-out), and then logs what has gathered. `finish` waits for it, but not for ever.
"""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from trainer.books import flops, parameters
from trainer.books.costs import JOULES_PER_KWH
from trainer.books.run_length import run_tokens
from trainer.config import Config
from trainer.descriptions.evaluations import evaluations_on
from trainer.trackers import wandb_server
from trainer.trackers.records import EvaluationRecord, Event, StepRecord
from trainer.trackers.scores import flat
from trainer.trackers.tracker import RunContext, due, warn
from trainer.trackers.wandb_variables import group_of, leave_to_configuration, print_unless_silent, project_of
from trainer.utils.command_line import command_line
from trainer.utils.outcomes import Status

ID = Path("wandb", "id")  # in a run's folder
INIT_SECONDS = 15.0  # for the server to accept the run; in the background
FINISH_SECONDS = 20.0  # for the rest of the upload, after the last step
GIB = 2**30

# The axes people compare runs over, beside the step: what was read, and what it cost.
AXES = ("samples", "tokens", "flop", "kwh", "gco2e")
AXIS_OF = {"train/*": "tokens", "val/*": "tokens", "val/loss": "tokens", "val/bits_per_byte": "tokens"}
BEST = {"val/loss": "min,last", "val/bits_per_byte": "min,last"}


class WandbTracker:
    """Logs every `tracker.every_steps` steps, the first, the last and those that diagnostics measured, to one W&B run
    per run folder.

    Each step is logged once, however often the run is killed and resumed.
    """

    name = "wandb"

    def __init__(self, config: Config, run: Path, *, resumed_from: int = 0) -> None:
        self._config = config.tracker
        self._folder = run
        self._queue: queue.SimpleQueue[Callable[[Any], None] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="wandb-tracker", daemon=True)
        self._places: dict[str, float] = {}  # of the last step on every axis, for the evaluation that follows it
        self._skip_below = resumed_from + 1  # first step that W&B has not heard of
        self._offline_folder: str | None = None
        self._finish_seconds = FINISH_SECONDS
        self._given_up = False
        self._failed = False

    # The loop's side: nothing here waits, except finish.

    def start(self, context: RunContext) -> None:
        self._context = context
        self._worker.start()

    def step(self, record: StepRecord) -> None:
        metrics = step_metrics(record) | cost_metrics(record, self._context.config)
        self._places = {axis: metrics[axis] for axis in AXES if axis in metrics}
        measured = record.gradient_noise or record.updates  # at intervals of their own
        if measured or due(record.step, self._config.every_steps, self._context):
            self._log(record.step, metrics)

    def evaluation(self, record: EvaluationRecord) -> None:
        self._log(record.step, self._places | evaluation_metrics(record))

    def event(self, event: Event) -> None:
        """The logbook stays in events.jsonl: W&B has no place for a line of text at a step."""

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        if not self._worker.is_alive():
            return
        self._queue.put(lambda run: run.summary.update({"status": status, **_plain(summary)}))
        self._failed = status not in (Status.FINISHED, Status.STOPPED)
        self._queue.put(None)
        self._worker.join(2)
        if self._worker.is_alive():
            print_unless_silent(f"waiting for W&B, {self._finish_seconds:.0f} s at most")
            self._worker.join(self._finish_seconds + 3)
        if self._worker.is_alive():
            self._given_up = True
            warn(f"wandb: not done after {self._finish_seconds:.0f} s; the run ends without it")

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        def log(run: Any) -> None:
            if step >= self._skip_below:
                self._skip_below = step  # a roll-back takes steps again that were logged
                run.log(metrics, step=step)

        if not self._given_up:
            self._queue.put(log)

    # The worker's side.

    def _work(self) -> None:
        try:
            if (run := self._begin()) is not None:
                while (call := self._queue.get()) is not None:
                    call(run)
                self._end(run)
        except Exception as error:  # nothing that wandb raises may reach the run
            self._given_up = True
            warn(f"wandb: {_brief(error)}; the run goes on without it")
        _tear_down()
        if self._offline_folder:
            print_unless_silent(f"upload to W&B with: {sync_line(self._offline_folder, self._context.config)}")

    def _begin(self) -> Any:
        """The W&B run: online if that can be had, else offline, else (W&B is switched off) None."""
        wandb_server.tidy_environment()
        leave_to_configuration(self._context.config)
        mode, reason = wandb_server.choose_mode(self._config.wandb)
        if mode == "disabled":
            self._given_up = True
            return None
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
        facts = {"science_hash": config.science_hash(), **_facts(context)}
        run = begin(self._folder, config, mode, self._finish_seconds, {**config.model_dump(mode="json"), **facts})
        for axis in AXES:
            run.define_metric(axis, hidden=True)
        asked = {f"{one.name}/*": "tokens" for one in evaluations_on(config.evaluation)}
        for metric, axis in {**AXIS_OF, **asked}.items():
            run.define_metric(metric, step_metric=axis, summary=BEST.get(metric))
        known = run.starting_step if mode == "online" else logged_before + 1
        self._skip_below = max(self._skip_below, known)
        return run

    def _end(self, run: Any) -> None:
        try:
            run.finish(exit_code=int(self._failed))
        except TimeoutError:
            self._offline_folder = str(Path(run.settings.sync_dir))
            warn(f"wandb: the server did not take everything in {self._finish_seconds:.0f} s; the data is safe on disk")


def make(config: Config, run: Path, resumed_from: int) -> WandbTracker:
    return WandbTracker(config, run, resumed_from=resumed_from)


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


def step_metrics(record: StepRecord) -> dict[str, float]:
    """A StepRecord under the names that people expect in W&B; what is not known has no entry."""
    metrics: dict[str, float | None] = {
        "samples": record.samples,
        "tokens": record.tokens,
        "flop": record.flop,
        "train/loss": record.loss,
        "optim/lr": record.lr,
        "optim/grad_norm": record.grad_norm,
        "throughput/tokens_per_second": record.tokens_per_second,
        "throughput/padding": record.padding,
        "throughput/waiting_for_cores": record.waiting,
        "throughput/flop_per_second": record.flop_per_second,
        "perf/mfu": record.mfu,
        "memory/peak_gib": record.memory_peak_bytes / GIB,
        "time/step_seconds": sum(record.seconds.values()),
        "time/wall_seconds": record.wall_seconds,
    }
    metrics |= {f"time/{phase}_seconds": seconds for phase, seconds in record.seconds.items()}
    metrics |= {f"train/{name}": value for name, value in record.sums.items()}
    metrics |= {f"optim/{name}": value for name, value in record.scheduled.items()}
    metrics |= {f"experts/{name}": value for name, value in record.experts.items()}
    metrics |= {f"policy/{name}": value for name, value in record.policy.items()}
    metrics |= {f"data/{name}_tokens": tokens for name, tokens in record.sources.items()}
    metrics |= {
        f"gradient_noise/{name}": value for name, value in record.gradient_noise.items() if not isinstance(value, str)
    }
    for part, figures in record.updates.items():
        metrics |= {f"updates/{part}/{name}": value for name, value in figures.items()}
    metrics |= {f"energy/{part}_kwh": j / JOULES_PER_KWH for part, j in record.joules.items() if j is not None}
    return {name: value for name, value in metrics.items() if value is not None}


def cost_metrics(record: StepRecord, config: Config) -> dict[str, float]:
    """What the run has cost so far: the axes kwh (with the PUE where one is stated) and gco2e, and their sections."""
    axes = {"kwh": "energy/kwh", "gco2e": "carbon/gco2e"}
    price = {name: value for name, value in record.price.items() if value is not None}
    costs = {name: price[name] for name in axes if name in price}
    costs |= {axes[name]: value for name, value in costs.items()}
    if "money" in price:
        costs[f"cost/{config.site.currency}"] = price["money"]
    return costs


def evaluation_metrics(record: EvaluationRecord) -> dict[str, float]:
    """An EvaluationRecord under W&B's names."""
    metrics: dict[str, float | None] = {
        "tokens": record.tokens,
        "val/loss": record.loss,
        "val/bits_per_byte": record.bits_per_byte,
        "val/unigram_bits_per_byte": record.unigram_bits_per_byte,
        "val/unigram_loss": record.unigram_loss,
        "time/evaluation_seconds": record.seconds,
    }
    metrics |= {f"val/loss_{name}": loss for name, loss in record.averages.items()}
    metrics |= flat(record.scores)
    return {name: value for name, value in metrics.items() if value is not None}


def _facts(context: RunContext) -> dict[str, Any]:
    """What W&B should know of an attempt beside its configuration."""
    config = context.config
    return {
        "parameters": context.parameters,
        "parameters_without_embeddings": parameters(config).non_embedding,
        "planned_tokens": run_tokens(config),
        "planned_flop": flops(config).total,
        "total_steps": context.total_steps,
        "world_size": context.world_size,
    }


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
    below = folder if config.tracker.dir is None else Path(config.tracker.dir).expanduser().absolute()
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


def _plain(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if isinstance(value, (bool, int, float, str))}


def _brief(error: Exception) -> str:
    text = " ".join(wandb_server.redact(str(error)).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
