"""A bar for long work outside the training loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yields progress(what, done, total): a live bar on a terminal, else a line when work begins and when it ends."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description:<20}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            tasks: dict[str, int] = {}

            def live(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = int(bar.add_task(what, total=total))
                bar.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

            yield live
        return

    began: dict[str, float] = {}

    def plain(what: str, done: int, total: int) -> None:
        if what not in began:
            began[what] = time.monotonic()
            print(f"{what} ...", file=sys.stderr, flush=True)
        elif done >= total and began[what] >= 0:
            print(f"{what}: done in {time.monotonic() - began[what]:.1f} s", file=sys.stderr, flush=True)
            began[what] = -1.0

    yield plain
