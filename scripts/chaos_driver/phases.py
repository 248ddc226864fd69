"""Where an attempt is, seen from outside: the lines that it prints, its run folder, nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

ENDS = ("finished", "stopped", "halted", "failed")  # not `lost`, which is also told of the attempt before


class Lines:
    """The complete lines that a file got since this was made; each is given once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def new(self) -> list[str]:
        try:
            if self.path.stat().st_size <= self._offset:
                return []
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode(errors="replace").splitlines()

    def records(self) -> list[dict[str, Any]]:
        """JSON objects; what a kill has torn is left out."""
        found = []
        for line in self.new():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return [record for record in found if isinstance(record, dict)]


class Watch:
    """Follows one attempt. Make it before the attempt is started."""

    def __init__(self, run: Path, cache: Path, console: Path, steps: int, evaluate_every: int) -> None:
        self.run, self.steps, self.evaluate_every, self.console = run, steps, evaluate_every, str(console)
        self._tokens, self._began = cache / "tokens", time.time_ns()
        self.checkpoints = run / "checkpoints"
        self.said: list[str] = []  # on the console
        self.events: list[dict[str, Any]] = []
        self.made: list[int] = []  # steps of this attempt
        self._evaluated = 0
        self._stage = "setup"
        self._console, self._events = Lines(console), Lines(run / "events.jsonl")
        self._metrics = Lines(run / "metrics.jsonl")

    def phase(self) -> str:
        """The phase that the attempt is in, or was in when it ended. `reading`: what else prepares the corpus."""
        self._look()
        if self._stage == "reading" and self._is_encoding():
            return "encoding"
        if self._stage != "training":
            return self._stage
        if self.event(*ENDS) is not None:
            return "report"
        last, saving = self.made[-1] if self.made else 0, self.is_saving()
        if last > self._evaluated and (last % self.evaluate_every == 0 or (last == self.steps and not saving)):
            return "evaluation"
        return "saving" if saving else "steps"

    def _is_encoding(self) -> bool:
        """The lock of a corpus's tokens is opened where its encoding begins."""
        return any(lock.stat().st_mtime_ns > self._began for lock in self._tokens.glob("*.lock"))

    def is_saving(self) -> bool:
        return any(self.checkpoints.glob(".step-*.partial"))

    def event(self, *names: str) -> dict[str, Any] | None:
        """The first of this attempt with one of these names."""
        return next((event for event in self.events if event.get("name") in names), None)

    def says(self, text: str) -> bool:
        """Whether a line of the console has this in it."""
        return any(text in line for line in self.said)

    def _look(self) -> None:
        for line in self._console.new():
            self.said.append(line)
            self._stage = self._after(line)
        self.events += self._events.records()
        if self._stage == "loading" and self.event("start", "resume") is not None:
            self._stage = "training"
        for record in self._metrics.records():
            if record.get("kind") == "step":
                self.made.append(record["step"])
            else:
                self._evaluated = record["step"]

    def _after(self, line: str) -> str:
        """The stage that a line of the console begins."""
        if line.startswith(("reading corpus", "training tokenizer: done")):
            return "reading"
        if line == "training tokenizer ...":
            return "tokenizer"
        return "loading" if line == str(self.run) and self._stage != "training" else self._stage
