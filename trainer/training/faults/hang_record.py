"""What a rank leaves behind of a hang: a file in the run folder with its stacks and its last collectives."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.training.faults.flight_record import Collective, newest, recorded
from trainer.utils.files import write_atomic


class HangRecord:
    """Asks PyTorch for its record and writes the file, in a thread that nobody has to wait for: where a library or a
    file system hangs, neither may come back."""

    def __init__(self, file: Path, said: Mapping[str, Any]) -> None:
        """said: of this rank, beside its collectives."""
        self.file = file
        self.collectives: list[Collective] = []  # the newest, once they are known
        self._said, self._known = said, threading.Event()
        self._thread = threading.Thread(target=self._make, name="hang record", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Until the file is there, or so long."""
        self._thread.join(seconds)

    @property
    def name(self) -> str | None:
        """Of the file; None where it is not there."""
        return self.file.name if self.file.is_file() else None

    def _make(self) -> None:
        records: dict[str, Any] = {}
        with contextlib.suppress(Exception):  # a record that is otherwise than ours; the stacks are told all the same
            records = recorded()
            self.collectives = newest(records)
        with contextlib.suppress(OSError):
            write_atomic(self.file, json.dumps({**self._said, "flight_recorder": records}, indent=1))
