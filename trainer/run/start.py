"""A run from its command to its report: compose, check, prepare, freeze the folder, launch, account."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from trainer.books.cost_records import PREPARATION
from trainer.books.window import require_opening
from trainer.compose import change, compose
from trainer.config import Config
from trainer.config.curve_file import keep_curve
from trainer.config.host import half_wire, no_triton
from trainer.config.numerics import known_before
from trainer.config.placement import crossing_line
from trainer.descriptions.evaluations import evaluations_on
from trainer.descriptions.launchers import LAUNCHERS
from trainer.descriptions.registry import imported
from trainer.descriptions.trackers import trackers_on
from trainer.meter import costs
from trainer.meter.probe import measure_once
from trainer.objectives import check_family
from trainer.plugins import changed_sources, read_plugins, record, require_implementations, sources, write_plugins
from trainer.run.continued import write_initial
from trainer.run.disk import require_room
from trainer.run.finetune_config import tuned
from trainer.run.goes_on import same_science, states_fit, weights_fit
from trainer.run.next_steps import next_steps
from trainer.run.place import torchrun_rank, under_torchrun
from trainer.run_folder import RunFolder, find_run, read_entries
from trainer.trackers import check as check_trackers
from trainer.trackers import notes_on, settled
from trainer.training.dataset import Source, check, prepare
from trainer.training.faults.output import outlive_readers
from trainer.training.faults.signals import go_on_with, resumable
from trainer.utils.errors import DiskFull, UserError
from trainer.utils.files import FULL, write_atomic
from trainer.utils.outcomes import STOPPED, TRAINED, ExitCode
from trainer.utils.progress import progress_bar
from trainer.utils.secrets import refuse_secrets


def start(words: list[str], *, as_json: bool = False) -> int:
    """Train the run that these overrides describe, or go on with the one that `resume=` names. Returns an exit code."""
    outlive_readers()
    if under_torchrun():
        return _start_under_torchrun(words)
    from launch import run_local
    from trainer.report import report_attempt, reserve_ledger

    with printed_aside() if as_json else contextlib.nullcontext():
        config, folder, given = described(words)
        _trained_here(config)
        with resumable(folder):
            make_ready(config, folder, given)
            reserve_ledger(folder.path)
            code = run_local(config, folder.path)
    tunes = config.task.kind is not None
    if code in TRAINED:
        with printed_aside() if as_json and tunes else contextlib.nullcontext():  # one JSON a command
            report_attempt(folder.path, code, as_json=as_json and not tunes)
    if code == STOPPED:
        print(f"isoflop: {go_on_with(folder.path)}", file=sys.stderr)
    if code == ExitCode.DONE and not (tunes or as_json) and (steps := next_steps(config, folder.path, given)):
        print(steps)
    if code == ExitCode.DONE and tunes:
        from trainer.evaluate.task_scores import format_scores, score_task

        with costs.phase("evaluation"):
            scores = score_task(folder.path)
        print(json.dumps(scores, indent=1) if as_json else f"\n{format_scores(scores)}")
    return code


@contextlib.contextmanager
def printed_aside() -> Iterator[None]:
    """What this process and its ranks print goes to standard error; standard output is kept for the JSON."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def launch(words: list[str], *, dry_run: bool = False) -> int:
    """Start the run that these overrides describe where `launch=` says, or only print what would be run."""
    from launch import plan_launch, run_launch, show
    from trainer.report import report_attempt, reserve_ledger

    if dry_run:
        config, folder, _ = described(words)
        _say_what_crosses(config)
        show(plan_launch(config, folder.path))
        return 0
    outlive_readers()
    under_torchrun()  # what only looks so is forgotten: ranks inherit it
    config, folder, given = described(words)
    _say_what_crosses(config)
    launcher = LAUNCHERS[config.launch.name]
    verb = "train" if launcher.trains else "launch"
    with contextlib.nullcontext() if launcher.queues else resumable(folder, verb):
        make_ready(config, folder, given)
        reports = config.launch.is_here and not launcher.queues
        if reports:
            reserve_ledger(folder.path)
        code = run_launch(config, folder.path)
    if reports and code in TRAINED:
        report_attempt(folder.path, code)
    if code == STOPPED:
        print(f"isoflop: {go_on_with(folder.path, verb)}", file=sys.stderr)
    return code


def _say_what_crosses(config: Config) -> None:
    """Groups of ranks that no host holds as a whole."""
    if (said := crossing_line(config)) is not None:
        print(f"isoflop: {said}", file=sys.stderr)


def ready(words: list[str], processes: int | None = None) -> tuple[Config, RunFolder]:
    """Everything that can be wrong is found here, before any worker starts. The folder is frozen on return."""
    ranks = [] if processes is None else [f"launch.processes={processes}"]
    config, folder, given = described([*words, *ranks])
    make_ready(config, folder, given)
    return config, folder


def ready_config(config: Config) -> RunFolder:
    """As `ready`, of a configuration that was composed before; its folder, by `run.id` or a new one."""
    folder = _new_folder(config)
    before = folder.load_config() if folder.config.is_file() else None
    if before is not None:
        same_science(before, config, folder)
    config = settled(config, before)
    check_run(config)
    make_ready(config, folder, [])
    return folder


def _trained_here(config: Config) -> None:
    """Raise UserError where another verb starts such runs."""
    name = config.launch.name
    if not LAUNCHERS[name].trains:
        ways = " or ".join(f"launch={one.name}" for one in LAUNCHERS.values() if one.trains)
        raise UserError(f"launch={name}: isoflop launch starts it; isoflop train runs on this host, with {ways}")


def make_ready(config: Config, folder: RunFolder, words: list[str]) -> None:
    """Prepare what the run learns from, check that it can, and freeze the folder. Raises UserError."""
    require_room(config, folder.path)
    costs.for_now(config)
    source = prepare_with_progress(config)
    notes = [*check(source, config), *notes_on(config)]
    if (measured := measure_once(config)) is not None:
        notes.append(measured)
    _freeze(config, folder, words, source, notes)
    costs.into(folder.path, config)


def described(words: list[str]) -> tuple[Config, RunFolder, list[str]]:
    """As `composed`, for a run that is to start here."""
    config, folder, overrides = composed(words)
    check_run(config)
    return config, folder, overrides


def composed(words: list[str]) -> tuple[Config, RunFolder, list[str]]:
    """The run that these words describe, its folder, and the overrides among the words; nothing is written yet."""
    resume, parent = (_runs_named(words, name) for name in ("resume", "from"))
    new_science = _new_science(words, resume)
    words = [word for word in words if not word.startswith(("resume=", "from=", "new_science="))]
    if resume and parent:
        raise UserError("from: a run that is resumed has its parent already; give one of resume and from")
    if (resume or parent) and any(word.lstrip("+~").startswith(("init=", "init.")) for word in words):
        one, why = ("resume", "has its weights already") if resume else ("from", "begins from those weights")
        raise UserError(f"init: a run that {'is resumed' if resume else 'is tuned'} {why}; give one of {one} and init")
    if (resume or parent) and any(word.lstrip("+~").startswith(("branch=", "branch.")) for word in words):
        raise UserError("branch: a run that is resumed or tuned goes on from a run already; leave it out")

    before: Config | None
    if resume:
        folder = find_run(resume, "runs")
        before = folder.load_config()
        config = change(before, words)
    else:
        config = tuned(find_run(parent, "runs"), words) if parent else compose(words)
        folder = _new_folder(config)
        before = folder.load_config() if folder.config.is_file() else None
    if before is not None:
        same_science(before, config, folder, new_science)
        states_fit(before, config)
        if before.model != config.model:
            weights_fit(config, folder)
    return settled(config, before), folder, words


def check_run(config: Config) -> None:
    """What the schema cannot know: whether objective and model fit, the device is there, DeepSpeed takes its keys."""
    if config.engine.deepspeed:
        from trainer.training.engine import check as check_engine

        check_engine(config)
    check_family(config)
    if config.launch.is_here:
        require_implementations(config.taking_part)
        _device_exists(config)
        half_wire(config)
        if config.engine.linear == "fp8":
            from trainer.training.engine import fp8_here

            fp8_here(config)
        for one in evaluations_on(config.evaluation):
            if one.check is not None:
                imported(one.check)(config)
    check_trackers(config)
    require_opening(config, time.time())


def _runs_named(words: list[str], key: str) -> str | None:
    """The run that `key=<run>` names, if any."""
    named = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    if len(named) > 1:
        raise UserError(f"{key}: name one run, got {' and '.join(named)}")
    if named == [""]:  # as of an unset variable of the shell: a new run is not what was meant
        raise UserError(f"{key}: name a run, e.g. {key}=runs/<experiment>/<id>; got none")
    return named[0] if named else None


def _new_science(words: list[str], resume: str | None) -> bool:
    """Whether a resumed run may change its science. Raises UserError where that is said unclearly or of no run."""
    given = [word.partition("=")[2] for word in words if word.startswith("new_science=")]
    if given and resume is None:
        raise UserError("new_science: a new run needs no leave; it is for resume=<run>")
    for value in given:
        if value.lower() not in ("true", "false"):
            raise UserError(f"new_science: {value!r} given, true or false wanted")
    return bool(given) and given[-1].lower() == "true"


def _new_folder(config: Config) -> RunFolder:
    run_id = config.run.id or f"{datetime.now():%Y%m%d-%H%M%S}-{config.science_hash()[:6]}"
    return RunFolder((Path(config.run.root) / config.experiment / run_id).absolute())


def _device_exists(config: Config) -> None:
    if config.engine.device == "cuda":
        import torch

        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if found < config.launch.processes:
            raise UserError(f"engine.device: cuda given, {found} CUDA devices found, {config.launch.processes} wanted")
    asked = config.engine.compile is True
    if asked and config.engine.device == "cuda" and (reason := no_triton()):
        raise UserError(f"engine.compile: true given, and {reason}; auto compiles where it can")
    if asked and config.engine.device != "cuda" and not (shutil.which("g++") or shutil.which("clang++")):
        raise UserError(
            "engine.compile: torch.compile on a CPU needs a C++ compiler (g++ or clang++), and there is none"
        )
    if (wanted := config.kernels.need_gpu) and config.engine.device != "cuda":
        import torch

        if not torch.cuda.is_available():
            keys = ", ".join(f"kernels.{name}" for name in wanted)
            raise UserError(
                f"{keys}: triton given, but there is no GPU here; kernels=auto, torch or reference run anywhere"
            )


def prepare_with_progress(config: Config) -> Source:
    """What the run learns from, with a bar while it is made."""
    with costs.phase(PREPARATION), progress_bar() as progress:
        return prepare(config, progress)


def _freeze(config: Config, folder: RunFolder, words: list[str], source: Source, notes: list[str]) -> None:
    """Write down what was decided. The folder is locked for that moment: a live run in it is left alone."""
    from trainer.books import format_price_tag, plan

    refuse_secrets({"config.yaml": config.to_yaml(), "overrides.json": json.dumps(words)})
    tag, plugins = plan(config), record(config.taking_part)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        with folder.lock():
            _same_data(folder, source)
            for line in changed_sources(sources(read_plugins(folder.path)), sources(plugins)):
                print(f"isoflop: {line}", file=sys.stderr)
            write_plugins(folder.path, plugins)
            _keep_settings(folder, config)
            keep_curve(config.site, folder.path)
            notes = [*write_initial(config, folder, source), *notes]
            write_atomic(folder.plan, json.dumps(tag.to_json(), indent=1))
            folder.write_overrides(words)
            write_atomic(folder.config, config.to_yaml(numerics=known_before(config)))
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(f"run.root: the disk of {folder.path} is full; free some space") from None
        raise UserError(f"run.root: cannot write to {folder.path} ({error.strerror}); choose another folder") from None
    if any(tracker.prints for tracker in trackers_on(config.tracker)):
        print("\n".join([str(folder.path), *notes, format_price_tag(tag), ""]), flush=True)


def _keep_settings(folder: RunFolder, config: Config) -> None:
    """What the model's parent came with from transformers goes along, so that it leaves as it came; not where another
    tokenizer takes the place of its own."""
    parent = config.task.parent or (config.init.run if config.init.tokenizer else None)
    settings = RunFolder(Path(parent)).hub if parent else None
    if settings is not None and settings.is_dir() and not folder.hub.exists():
        aside = folder.hub.with_name(".hub.new")
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(settings, aside)
        aside.rename(folder.hub)


def _same_data(folder: RunFolder, source: Source) -> None:
    """A run goes on with the very tokens that it began with."""
    entries = reversed(read_entries(folder.environment))
    before = next((entry["data"] for entry in entries if "data" in entry), source.fingerprint)
    if before != source.fingerprint:
        raise UserError(
            "data: the corpus or tokenizer changed since this run began "
            f"(tokens {source.fingerprint[:12]} now, {before[:12]} then); restore it, or start a new run"
        )


def _start_under_torchrun(words: list[str]) -> int:
    """`torchrun ... -m trainer train ...`: rank 0 composes and freezes the folder, the others wait for its name."""
    from trainer.report import report_attempt, reserve_ledger
    from trainer.worker import work

    here = torchrun_rank()
    path = here.folder(lambda ranks: ready(words, processes=ranks)[1].path)
    if path is None:  # rank 0 said what is wrong
        return ExitCode.BAD_INPUT
    if here.is_first:
        reserve_ledger(path)
    with costs.handed_over():
        code = work(path)
    if here.is_first and code in TRAINED:
        report_attempt(path, code)
    if here.is_first and code == STOPPED:
        several = here.size > int(os.environ.get("LOCAL_WORLD_SIZE", here.size))
        ours = shlex.join(["train", f"resume={path}"])
        again = f"stopped before the end; go on with torchrun as before, and these words for isoflop: {ours}"
        print(f"isoflop: {again if several else go_on_with(path)}", file=sys.stderr)
    return code
