"""Roots of runs as trackers write them, and a board that serves one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from trainer.board.board import opened
from trainer.board.server import BoardServer, bound
from trainer.config import Config
from trainer.trackers.jsonl import JsonLines
from trainer.trackers.records import EvaluationRecord, Event, StepRecord

Written = Callable[..., Path]
Serving = Callable[[Path], AbstractContextManager[str]]


def step_record(step: int, loss: float, attempt: int = 0, **changed: Any) -> StepRecord:
    """A step of 1,000 tokens that took half a second and 2 Wh."""
    given: dict[str, Any] = {
        "step": step,
        "samples": 4 * step,
        "tokens": 1000 * step,
        "targets": 1000,
        "flop": 1.5e12 * step,
        "loss": loss,
        "grad_norm": 1.25,
        "lr": 0.003,
        "tokens_per_second": 2000.0,
        "flop_per_second": 3e12,
        "mfu": None,
        "peak_flop_per_second": None,
        "memory_peak_bytes": 1 << 30,
        "seconds": {"data": 0.1, "forward_backward": 0.4},
        "wall_seconds": 0.5 * step,
        "attempt": attempt,
        "sources": {"stdlib": 1000 * step},
        "joules": {"cpu": 7200.0 * step},
        "price": {"kwh": 0.002 * step, "gco2e": 0.7 * step, "money": 0.0006 * step},
    }
    return StepRecord(**(given | changed))


def append_steps(run: Path, losses: list[float], begin: int = 1, attempt: int = 0) -> None:
    """As the tracker of a run does."""
    lines = JsonLines(run / "metrics.jsonl")
    for place, loss in enumerate(losses):
        lines.append(step_record(begin + place, loss, attempt).to_json())
    lines.close()


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """write(name, losses, events=..., held=..., model=..., lr=..., seed=...): the folder of a run below tmp_path."""

    def write(
        name: str,
        losses: list[float],
        events: list[tuple[str, int, str]] | None = None,
        held: dict[int, float] | None = None,
        **science: Any,
    ) -> Path:
        run = tmp_path / name
        run.mkdir(parents=True)
        config = Config()
        model = config.model.model_copy(update={"name": science.get("model", "gpt-mini")})
        optim = config.optim.model_copy(update={"lr": science.get("lr", 0.003)})
        changed = {"model": model, "optim": optim, "seed": science.get("seed", 0)}
        (run / "config.yaml").write_text(config.model_copy(update=changed).to_yaml())
        planned = {"model": {"parameters": 1_234_567}, "data": {"steps": 100}, "energy": {"kwh": 0.5}}
        (run / "plan.json").write_text(json.dumps({"planned": planned, "rows": []}))
        append_steps(run, losses)
        metrics, logbook = JsonLines(run / "metrics.jsonl"), JsonLines(run / "events.jsonl")
        for step, loss in (held or {}).items():
            metrics.append(EvaluationRecord(step, 1000 * step, loss, loss / 2, 3.0, 1000, 0.1).to_json())
        for place, (word, step, text) in enumerate(events or [("start", 0, "start")]):
            logbook.append(Event(word, 1.7e9 + place, step, text).to_json())
        metrics.close()
        logbook.close()
        return run

    return write


@contextmanager
def serving_board(root: Path) -> Iterator[BoardServer]:
    with bound(opened(root), None, 18642) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def serving() -> Serving:
    """serving(root): the address of a board while it is entered."""

    @contextmanager
    def serve(root: Path) -> Iterator[str]:
        with serving_board(root) as server:
            yield f"http://127.0.0.1:{server.server_port}"

    return serve
