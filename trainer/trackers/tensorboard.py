"""TensorBoard: event files in `tensorboard/` of the run's folder, written without TensorFlow and without torch.

A file is a sequence of records: length, checksum, a serialized `Event`, checksum (TensorBoard's RecordWriter). Numbers
are float32 there. Each attempt writes a file of its own; its first step is announced as a restart (SessionLog.START),
upon which readers drop what earlier attempts wrote from that step on, as `read_metrics` does.
"""

from __future__ import annotations

import io
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.trackers.background import BackgroundTracker
from trainer.trackers.metrics import HELD_OUT, LOSS, TEXT, facts
from trainer.trackers.records import Alert, TextSample
from trainer.trackers.tracker import IMPORTS, RunContext
from trainer.trackers.wandb_variables import group_of, project_of

FOLDER = "tensorboard"


def make(config: Config, run: Path, resumed_from: int) -> BackgroundTracker:
    return BackgroundTracker("tensorboard", config, EventFile)


class EventFile:
    """The event file of one attempt. Raises OSError where the disk refuses a record, and leaves no part of it."""

    def __init__(self, context: RunContext) -> None:
        with IMPORTS:
            from tensorboard.backend.event_processing import event_file_loader  # noqa: F401 - for newest_steps
            from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
            from tensorboard.plugins.text.metadata import create_summary_metadata
            from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary, self._record_writer = event_pb2, summary_pb2, RecordWriter
        self._tensor = lambda text: tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING,
            string_val=[text.encode()],
            tensor_shape={"dim": []},
        )
        self._text_plugin = create_summary_metadata(None, None)
        folder = context.run / FOLDER
        folder.mkdir(exist_ok=True)
        first, (last, evaluation) = not any(folder.iterdir()), newest_steps(folder)
        # Step of the newest record: the first step of a later attempt supersedes what others wrote from there on.
        self._newest, self.unheard = last, (last + 1, evaluation + 1)
        # In the order of their names files are read: by time, then attempt.
        name = f"events.out.tfevents.{int(time.time()):010d}.{context.attempt:06d}.{socket.gethostname()}.{os.getpid()}"
        self._file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        if first:
            for tag, text in texts_of(context).items():
                self._text(0, tag, text)

    def log(self, step: int, metrics: dict[str, float], ratios: list[float], seconds: float) -> None:
        if LOSS in metrics:
            if step <= self._newest:
                log = self._event.SessionLog(status=self._event.SessionLog.START)
                self._write(self._event.Event(wall_time=seconds, step=step, session_log=log))
            self._newest = step
        values = [self._summary.Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
        if ratios:
            values.append(self._summary.Summary.Value(tag="updates/ratio", histo=self._histogram(ratios)))
        self._add(step, values, seconds)

    def samples(self, samples: list[TextSample]) -> None:
        for number, one in enumerate(samples):
            self._text(one.step, f"{TEXT}/{number}", f"{_block(one.prompt)}\n\n{_block(one.text)}")

    def alert(self, alert: Alert) -> None:
        self._text(alert.step, f"alerts/{alert.kind}", alert.text)

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        os.close(self._file)

    def _text(self, step: int, tag: str, text: str) -> None:
        value = self._summary.Summary.Value(tag=tag, metadata=self._text_plugin, tensor=self._tensor(text))
        self._add(step, [value], time.time())

    def _histogram(self, values: list[float]) -> Any:
        """A bucket for each value: they are few."""
        limits = sorted(set(values))
        return self._summary.HistogramProto(
            min=limits[0],
            max=limits[-1],
            num=len(values),
            sum=sum(values),
            sum_squares=sum(value * value for value in values),
            bucket_limit=limits,
            bucket=[values.count(limit) for limit in limits],
        )

    def _add(self, step: int, values: list[Any], seconds: float) -> None:
        self._write(self._event.Event(wall_time=seconds, step=step, summary=self._summary.Summary(value=values)))

    def _write(self, event: Any) -> None:
        buffer = io.BytesIO()
        self._record_writer(buffer).write(event.SerializeToString())
        data, before = buffer.getvalue(), os.fstat(self._file).st_size
        if os.write(self._file, data) < len(data):  # what follows half a record cannot be read
            os.ftruncate(self._file, before)
            raise OSError(28, os.strerror(28))


def newest_steps(folder: Path) -> tuple[int, int]:
    """The newest step, and the newest evaluation, that stand in files of earlier attempts; 0 where there is none."""
    newest = dict.fromkeys((LOSS, HELD_OUT), 0)
    superseded = math.inf  # from this step on by later files
    for file in sorted(folder.glob("events.out.tfevents.*"), reverse=True):
        steps, first = _standing_steps(file)
        for tag, found in steps.items():
            newest[tag] = newest[tag] or max((step for step in found if step < superseded), default=0)
        if all(newest.values()):
            break
        superseded = min(superseded, first)
    return newest[LOSS], newest[HELD_OUT]


def _standing_steps(file: Path) -> tuple[dict[str, list[int]], float]:
    """Of each tag the steps that stand within a file; and from which step on it supersedes what was written before."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    from tensorboard.compat.proto.event_pb2 import SessionLog

    steps: dict[str, list[int]] = {LOSS: [], HELD_OUT: []}
    first = math.inf
    for event in LegacyEventFileLoader(str(file)).Load():
        if event.session_log.status == SessionLog.START:
            first = min(first, event.step)
            steps = {tag: [step for step in found if step < event.step] for tag, found in steps.items()}
        for value in event.summary.value:
            if value.tag in steps:
                steps[value.tag].append(event.step)
    return steps, first


def texts_of(context: RunContext) -> dict[str, str]:
    """What a person reads of a run: what it is called, and its configuration."""
    tracker, config = context.config.tracker, context.config
    named = {
        "project": project_of(config),
        "group": group_of(config),
        "name": tracker.name or context.run.name,
        "job type": tracker.job_type,
        "tags": ", ".join(tracker.tags),
        "notes": tracker.notes,
        **facts(context),
    }
    lines = [f"- {name}: {value}" for name, value in named.items() if value not in (None, "")]
    return {"run": "\n".join(lines), "config": _block(config.to_yaml())}


def _block(text: str) -> str:
    """As it is, in Markdown."""
    return "\n".join(f"    {line}" for line in text.split("\n"))
