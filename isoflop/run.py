"""Runs: start them, read what they left, and use what they learned."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from isoflop.given import a_config, a_path
from isoflop.planning import Config, Price
from isoflop.plugins import use
from isoflop.table import Table
from trainer.utils.errors import UserError
from trainer.utils.outcomes import ExitCode
from trainer.utils.own_packages import search_path

if TYPE_CHECKING:
    from torch import nn

    from trainer.data import Tokenizer
    from trainer.generation.loaded_model import Trained
    from trainer.run_folder import RunFolder

LINES_KEPT = 30  # of what a run says, for the text of RunFailed


class RunFailed(RuntimeError):
    """A run that ended with another exit code than 0; `run` is its folder, from which it can go on."""

    def __init__(self, run: Run, code: int, said: str) -> None:
        super().__init__(f"{run.path}: ended with exit code {code}\n{said}".rstrip())
        self.run, self.code = run, code


class Run:
    """A run by its folder: `Run("runs/gpt-mini-causal-stdlib/20260101-120000-abcdef")`.

    Raises UserError where that is no run folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        use()
        self.path = a_path("Run", path).absolute()
        self._folder.load_config()

    def __repr__(self) -> str:
        steps = self.metrics()
        at = f", step {steps['step'][-1]}, loss {steps['loss'][-1]:.4f}" if "loss" in steps else ""
        return f"Run({str(self.path)!r}): {self.status}{at}"

    @property
    def _folder(self) -> RunFolder:
        from trainer.run_folder import RunFolder

        return RunFolder(self.path)

    @property
    def config(self) -> Config:
        """As it is frozen in the folder."""
        return self._folder.load_config()

    @property
    def status(self) -> str:
        """running, finished, stopped, failed, halted or interrupted."""
        from trainer.report import read_run

        return "running" if self._folder.holder() is not None else str(read_run(self.path).status)

    def metrics(self, kind: str = "step") -> Table:
        """The records of its steps, or of its evaluations (kind="evaluation"), of the attempts that count."""
        from trainer.trackers import read_metrics

        kinds = ("step", "evaluation")
        if kind not in kinds:
            raise UserError(f"metrics: kind: {kind!r} given, {' or '.join(kinds)} wanted")
        return Table([record for record in read_metrics(self.path) if record.get("kind") == kind])

    def events(self) -> Table:
        """What happened to it, in its order: starts, checkpoints, faults, its end."""
        from trainer.trackers import read_events

        return Table(read_events(self.path))

    def price(self) -> Price:
        """What it cost, planned and measured: `print(run.price())`."""
        from trainer.report import read_run

        return Price.of(read_run(self.path).tag)

    def scores(self) -> dict[str, Any]:
        """Of a tuned run what `isoflop finetune --json` prints: metrics of its task, intervals, baselines, its folder.

        Raises UserError where there are none.
        """
        try:
            found: dict[str, Any] = json.loads((self.path / "task.json").read_text())
        except (OSError, ValueError):
            raise UserError(
                f"{self.path}: no scores of a task; this makes them: {self._folder.command('eval', str(self.path))}"
            ) from None
        return found

    def resume(self, *overrides: str, quiet: bool = False) -> Run:
        """Go on from its newest checkpoint, with overrides such as "budget.steps=800"; returns when it has ended.

        Raises UserError as `isoflop train resume=` does, and RunFailed.
        """
        from trainer.run.start import ready

        with contextlib.redirect_stdout(io.StringIO()):  # the process that trains says it again
            ready([f"resume={self.path}", *overrides])
        self.__dict__.pop("_trained", None)  # there will be a newer checkpoint
        return _train(self, quiet)

    @cached_property
    def _trained(self) -> Trained:
        from trainer.generation.loaded_model import Trained

        return Trained.load(self.path)

    def model(self, *, step: int | None = None, average: str | None = None) -> nn.Module:
        """The weights of its newest intact checkpoint, or of that of a step, or an average of them: plain PyTorch, in
        evaluation mode.

        Raises UserError where there is none.
        """
        from trainer.generation.loaded_model import load_model
        from trainer.utils.which_weights import Which

        return load_model(self.path, which=Which(step, average))[0]

    @property
    def tokenizer(self) -> Tokenizer:
        from trainer.data import Tokenizer

        return Tokenizer(self._folder.tokenizer, self.config.tokenizer.special_ids)

    @overload
    def generate(
        self, prompt: str, *, stop: Sequence[str] = (), language: str | None = None, **decoding: Any
    ) -> str: ...

    @overload
    def generate(
        self, prompt: Sequence[str], *, stop: Sequence[str] = (), language: str | None = None, **decoding: Any
    ) -> list[str]: ...

    def generate(
        self, prompt: str | Sequence[str], *, stop: Sequence[str] = (), language: str | None = None, **decoding: Any
    ) -> str | list[str]:
        """The text that follows a prompt, or the prompt with its <mask>s filled; of a list of prompts, a list.

        decoding: tokens=200, temperature=0.8, top_k=50, top_p=1, repetition_penalty=1, beams=1, length_penalty=1,
        seed=0, as `isoflop generate` has them. The model is kept for the next call. Raises UserError.
        """
        from trainer.generation import Decoding, answer_prompts

        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        chosen = Decoding.of("generate", **decoding)
        ends = [stop] if isinstance(stop, str) else list(stop)
        texts = [one.text for one in answer_prompts(self._trained.for_language(language), prompts, chosen, ends)]
        return texts[0] if isinstance(prompt, str) else texts


def train(config: Config, *, quiet: bool = False) -> Run:
    """Train the run of a configuration; returns when it has ended, of a job of SLURM when it is submitted.

    All checks come first, in this process. The training is a process of its own, which an interruption (Ctrl-C, a
    notebook's stop button) lets save before KeyboardInterrupt is raised here. What it says is printed unless `quiet`.
    A `run.id` that is there already goes on. Raises UserError, and RunFailed where it ends otherwise than finished.
    """
    from trainer.run.start import ready_config

    with contextlib.redirect_stdout(io.StringIO()):  # the process that trains says it again
        folder = ready_config(a_config("train", config))
    return _train(Run(folder.path), quiet)


def finetune(
    run: Run | str | os.PathLike[str],
    task: str | None = None,
    *overrides: str,
    steps: int | None = None,
    seed: int | None = None,
    quiet: bool = False,
) -> Run:
    """Tune a run on a task and score it (`scores`): an option of the group `task`, or what the overrides describe.

    Raises UserError for what `isoflop finetune` refuses, and RunFailed.
    """
    from trainer.run.start import ready

    use()
    words = [f"from={a_path('finetune', run)}", *([] if task is None else [f"task={task}"])]
    words += [] if steps is None else [f"budget.steps={steps}"]
    words += [] if seed is None else [f"seed={seed}"]
    with contextlib.redirect_stdout(io.StringIO()):
        _, folder = ready([*words, *overrides])
    return _train(Run(folder.path), quiet)


def _train(run: Run, quiet: bool) -> Run:
    """Let another process train a run whose folder is frozen. Raises RunFailed, and KeyboardInterrupt once it saved."""
    from trainer.descriptions.launchers import LAUNCHERS

    verb = "train" if LAUNCHERS[run.config.launch.name].trains else "launch"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer", verb, f"resume={run.path}"],
        env={**os.environ, "PYTHONPATH": search_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,  # what a terminal sends comes here, and is passed on once
    )
    said: deque[str] = deque(maxlen=LINES_KEPT)
    try:
        _repeat(process, said, quiet)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        _repeat(process, said, quiet)
        raise
    if process.returncode != ExitCode.DONE:
        raise RunFailed(run, process.returncode, "".join(said))
    return run


def _repeat(process: subprocess.Popen[str], said: deque[str], quiet: bool) -> None:
    """Print what a process says until it has ended."""
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if not quiet:
            print(line, end="", flush=True)
    process.wait()
