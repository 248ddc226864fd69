"""A tracker whose library is slow to import, or to answer: all that it does happens on a thread of its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from trainer.config import Config
from trainer.trackers.metrics import MetricTracker
from trainer.trackers.records import Alert, Event, TextSample
from trainer.trackers.tracker import RunContext, brief, say, warn

FINISH_SECONDS = 60.0  # for what is left after the last step; a library alone may take many to import


class Sink(Protocol):
    """What a library writes to. Only the thread of its tracker calls it; it may raise."""

    unheard: tuple[int, int]  # the first step, and the first evaluation, that it has not heard of in earlier attempts

    def log(self, step: int, metrics: dict[str, float], ratios: list[float], seconds: float) -> None:
        """seconds: since the epoch, when the record was made."""

    def samples(self, samples: list[TextSample]) -> None: ...
    def alert(self, alert: Alert) -> None: ...
    def finish(self, status: str, summary: dict[str, Any]) -> None: ...


class BackgroundTracker(MetricTracker):
    """Opens a sink and feeds it, while the loop only puts calls into a queue.

    After an `OSError` (full disk, no network) the sink is tried again with the next call; anything else ends it, and
    the run goes on without. Either is told once. `finish` waits for what is left, but not for ever.
    """

    def __init__(self, name: str, config: Config, open_sink: Callable[[RunContext], Sink]) -> None:
        super().__init__(config)
        self.name, self._open = name, open_sink
        self._calls: queue.SimpleQueue[Callable[[Sink], None] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name=f"{name}-tracker", daemon=True)
        self._given_up, self._lost = False, 0

    def start(self, context: RunContext) -> None:
        super().start(context)
        self._worker.start()

    def log(self, step: int, metrics: dict[str, float], ratios: list[float]) -> None:
        seconds = time.time()
        self._later(lambda sink: sink.log(step, metrics, ratios, seconds))

    def samples(self, samples: list[TextSample]) -> None:
        self._later(lambda sink: sink.samples(samples))

    def alert(self, alert: Alert) -> None:
        self._later(lambda sink: sink.alert(alert))

    def event(self, event: Event) -> None:
        """The logbook stays in events.jsonl."""

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        self._later(lambda sink: sink.finish(status, summary))
        self._calls.put(None)
        self._worker.join(2)
        if self._worker.is_alive():
            say(f"waiting for {self.name}, {FINISH_SECONDS:.0f} s at most")
            self._worker.join(FINISH_SECONDS)
        if self._worker.is_alive():
            self._given_up = True
            warn(f"{self.name}: not done after {FINISH_SECONDS:.0f} s; the run ends without it")

    def _later(self, call: Callable[[Sink], None]) -> None:
        if not self._given_up:
            self._calls.put(call)

    def _work(self) -> None:
        try:
            sink = self._open(self._context)
            self._do(self._make_up, sink)
            while (call := self._calls.get()) is not None:
                self._do(call, sink)
        except BaseException as error:  # nothing that a library raises may reach the run
            self._given_up = True
            warn(f"{self.name}: {brief(error)}; the run goes on without it")
        if self._lost:
            warn(f"{self.name}: {self._lost} records are missing")

    def _make_up(self, sink: Sink) -> None:
        """Log what an earlier attempt could not."""
        for step, metrics, ratios in self.missed(*sink.unheard):
            sink.log(step, metrics, ratios, time.time())
        for _, samples in self.missed_samples(sink.unheard[0]):
            sink.samples(samples)

    def _do(self, call: Callable[[Sink], None], sink: Sink) -> None:
        try:
            call(sink)
        except OSError as error:
            if not self._lost:
                warn(f"{self.name}: {brief(error)}; the run goes on, {self.name} is tried again")
            self._lost += 1
