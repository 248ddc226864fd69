"""Progress for the person at the terminal: a live bar, or plain lines where there is no terminal."""

from __future__ import annotations

import atexit
import math
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainer.books.records import PADDING_IS_MUCH
from trainer.books.run_length import known_steps, run_tokens
from trainer.config import Config, TrackerConfig
from trainer.trackers.records import EvaluationRecord, Event, StepRecord
from trainer.trackers.scores import lines
from trainer.trackers.tracker import RunContext, due

WINDOW = 20  # steps over which the shown speed is averaged
REFRESH_PER_SECOND = 4
WAITING_SECONDS, WAITING_IS_MUCH = 10.0, 0.2  # how long threads are watched, share of waiting from which on it is said


class ConsoleTracker:
    """Shows step, loss, learning rate, speed, MFU, time left and held-out bits per byte."""

    name = "console"

    def __init__(self, config: TrackerConfig, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._every = config.every_steps
        self._live_wanted = config.console == "live" or (config.console == "auto" and _is_terminal(self._stream))
        self._live: Live | None = None
        self._gradient_noise: dict[str, Any] = {}  # the last gradient noise scale that was measured
        self._recent: deque[StepRecord] = deque(maxlen=WINDOW)
        self._waiting: list[float] | None = []  # shares since the first step; None: it is told
        self._steps, self._padding = 0, 0.0  # of this attempt: steps, and the sum of their shares of padding
        self._first: StepRecord | None = None
        self._last: StepRecord | None = None
        self._shown = -1  # last step that has a plain line
        self._evaluation: EvaluationRecord | None = None

    def start(self, context: RunContext) -> None:
        self._context = context
        config = context.config
        processes = f"{context.world_size} process{'es' * (context.world_size > 1)}"
        self._print(
            f"{config.model.name}, {_count(context.parameters)} parameters, on {config.data.name}: "
            f"{self._length()}, {processes}"
        )
        self._print(f"run folder {context.run}")
        for note in context.notes:
            self._print(note)
        if context.resumed_from:
            self._print(f"going on from step {context.resumed_from}")
        if self._live_wanted:
            console = Console(file=self._stream, force_terminal=True, highlight=False)
            self._live = Live(console=console, get_renderable=self._bar, refresh_per_second=REFRESH_PER_SECOND)
            self._live.start()
            atexit.register(self._live.stop)  # gives the terminal its cursor back even if finish is never called

    def step(self, record: StepRecord) -> None:
        self._first = self._first or record
        self._last, self._gradient_noise = record, record.gradient_noise or self._gradient_noise
        self._recent.append(record)
        self._steps, self._padding = self._steps + 1, self._padding + record.padding
        self._tell_waiting(record)
        if self._live is None and due(record.step, self._every, self._context):
            self._print_step()

    def evaluation(self, record: EvaluationRecord) -> None:
        self._evaluation = record
        said = f"loss {record.loss:.4f}"
        if record.bits_per_byte is not None:
            said = f"{record.bits_per_byte:.4f} bits per byte (unigram {record.unigram_bits_per_byte:.4f}), {said}"
        elif record.unigram_loss is not None:
            said += f" (unigram {record.unigram_loss:.4f})"
        if self._context is not None and (tasks := self._context.config.data.tasks):
            losses = {name: one["loss"] for name, one in record.sources.items() if name in tasks}
            said += "; tasks: " + ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        if record.averages:
            said += "; averages: " + ", ".join(f"{name} {loss:.4f}" for name, loss in record.averages.items())
        self._print(f"held-out after step {record.step}: {said}")
        for line in lines(record.scores):
            self._print(f"  {line}")

    def event(self, event: Event) -> None:
        self._print(f"step {event.step}: {event.text}")

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        if self._live is not None:
            self._live.transient = True  # the bar makes room for the last line
            self._live.stop()
            atexit.unregister(self._live.stop)
            self._live = None
        last = self._last
        if last is None:
            self._print(status)
            return
        if last.step != self._shown:
            self._print_step()
        of = "" if self._context.total_steps is None else f" of {self._context.total_steps}"
        padding = said_padding(self._padding / self._steps)
        said = [f"{status} after step {last.step}{of}", f"{_count(last.tokens)} tokens{padding}"]
        said.append(f"{_clock(last.wall_seconds)} in this attempt" if last.attempt else _clock(last.wall_seconds))
        if (held_out := self._evaluation) is not None:
            said.append(f"held-out {_held_out(held_out)}")
            if (below := held_out.below_unigram) is not None:
                said[-1] += f" ({abs(below):.0%} {'below' if below >= 0 else 'above'} unigram)"
        self._print(", ".join(said))
        rest = {name: value for name, value in summary.items() if name != "step"}  # which the line above says
        width = max(map(len, rest), default=0)
        for name, value in rest.items():
            self._print(f"  {name:<{width}}  {_value(value)}")

    # What is shown

    def _tell_waiting(self, record: StepRecord) -> None:
        """Once, where threads keep waiting for cores that others have."""
        if self._waiting is None or self._first is None or record.waiting is None:
            return
        self._waiting.append(record.waiting)
        if record.wall_seconds - self._first.wall_seconds >= WAITING_SECONDS:
            if (share := sum(self._waiting) / len(self._waiting)) > WAITING_IS_MUCH:
                self._print(
                    f"this host is busy: threads waited {share:.0%} of their time for a core so far; tokens/s are "
                    "lower than it could give"
                )
            self._waiting = None

    def _print_step(self) -> None:
        assert self._last is not None
        self._shown = self._last.step
        left = [self._left()] if self._last.step != self._context.total_steps else []
        self._print("  ".join([self._place(), *self._figures(), *left]))

    def _length(self) -> str:
        """How long the run is, and which budgets may end it earlier."""
        config = self._context.config
        steps = known_steps(config)
        length = [] if steps is None else [f"{steps} steps, {_count(run_tokens(config))} tokens"]
        return ", ".join([*length, *(f"until budget.{k}={most:g}" for k, most in config.budget.measured.items())])

    def _place(self) -> str:
        """Where the run is: its step, and how far its measured budgets are used up."""
        last, total = self._last, self._context.total_steps
        step = last.step if last else self._context.resumed_from
        used = f" ({max(last.budget.values()):.0%} of the budget)" if last and last.budget else ""
        return f"step {step}{'' if total is None else f'/{total}'}{used}"

    def _done(self) -> float:
        """Share of the run that is done: of its steps or of its budget, whichever is further."""
        last, total = self._last, self._context.total_steps
        step = last.step if last else self._context.resumed_from
        return max(step / total if total else 0.0, *(last.budget.values() if last else ()), 0.0)

    def _figures(self) -> list[str]:
        last = self._last
        if last is None:
            return ["waiting for the first step"]
        seconds = sum(sum(record.seconds.values()) for record in self._recent)
        tokens = sum(record.tokens_per_second * sum(record.seconds.values()) for record in self._recent)
        speed = tokens / seconds if seconds > 0 else last.tokens_per_second
        padding = said_padding(sum(record.padding for record in self._recent) / len(self._recent))
        figures = [f"loss {last.loss:.4f}", *said_policy(last.policy), f"lr {last.lr:.2e}"]
        figures.append(f"{_count(speed)} tokens/s{padding}")
        figures.append(f"MFU {last.mfu:.1%}" if last.mfu is not None else "MFU n/a")
        if (spent := last.price.get("money")) is not None:
            figures.append(f"{spent:.3g} {self._context.config.site.currency}")
        elif (kwh := last.price.get("kwh")) is not None:
            figures.append(f"{kwh:.3g} kWh")
        if last.experts:
            figures.append(said_experts(last.experts))
        if self._gradient_noise:
            figures.append(f"noise scale {said_noise(self._gradient_noise)}")
        if self._evaluation is not None:
            figures.append(f"held-out {_held_out(self._evaluation)}")
        return figures

    def _left(self) -> str:
        """Time left at the pace of this attempt, evaluations and checkpoints included, the slow first step left out."""
        first, last = self._first, self._last
        if first is None or last is None or last.step <= first.step:
            return "ETA n/a"
        pace = (last.wall_seconds - first.wall_seconds) / (last.step - first.step)
        done = self._done()
        return f"ETA {_clock(pace * last.step * (1 - done) / done)}" if done else "ETA n/a"

    def _bar(self) -> Group:
        row = Table.grid(expand=True, padding=(0, 1))
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        done = self._done()
        row.add_row(ProgressBar(total=1, completed=done), f"{self._place()}  {done:4.0%}  {self._left()}")
        return Group(row, Text("  ".join(self._figures())))

    def _print(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(Text(text))
        else:
            print(text, file=self._stream, flush=True)


def make(config: Config, run: Path, resumed_from: int) -> ConsoleTracker:
    return ConsoleTracker(config.tracker)


def _held_out(record: EvaluationRecord) -> str:
    return f"loss {record.loss:.4f}" if record.bits_per_byte is None else f"{record.bits_per_byte:.4f} bits per byte"


def said_padding(share: float) -> str:
    """Behind a number of tokens, where much of it is padding."""
    return f" ({share:.0%} padding)" if share > PADDING_IS_MUCH else ""


def said_experts(experts: dict[str, float]) -> str:
    """How even the loads of experts are (docs/experts.md), what was dropped, and experts that no token chose."""
    said = f"load entropy {experts['load_entropy']:.1%}"
    if experts["dropped_share"]:
        said += f", {experts['dropped_share']:.1%} dropped"
    return said + (f", {experts['dead_experts']:.0f} dead" if experts["dead_experts"] else "")


def said_policy(policy: dict[str, float]) -> list[str]:
    """What a policy's answers earned, and how far it is from its reference."""
    return [f"reward {policy['reward']:.4f}", f"KL {policy['kl']:z.4f}"] if policy else []


def said_noise(noise: dict[str, Any]) -> str:
    """The gradient noise scale with its interval."""
    scale, low, high = (noise.get(f"noise_scale{end}") for end in ("", "_low", "_high"))
    if scale is None:
        return "n/a"
    return f"{scale:.3g}" + ("" if low is None else f" ({low:.3g} to {high:.3g})") + " sequences"


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _count(number: float) -> str:
    """Three significant digits and a suffix: 4.92M."""
    if not math.isfinite(number):
        return "n/a"
    number = float(f"{number:.3g}")  # first, so that 999,950 is 1M and not 1e+03k
    for suffix, unit in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= unit:
            return f"{number / unit:.3g}{suffix}"
    return f"{number:.3g}"


def _clock(seconds: float) -> str:
    """h:mm:ss, or m:ss below an hour."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"


def _value(value: Any) -> str:
    if value is None:
        return "not stated"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
