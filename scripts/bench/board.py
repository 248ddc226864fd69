"""How the board stands up to many runs: makes them, and times a first paint, all curves, a zoom and a look for news.

    python scripts/bench/board.py [runs=1000] [points=10000] [root=folder]

The records are as wide as those of real runs (700 bytes a step). Needs chromium and playwright.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder: it has modules of our packages' names

from trainer.config import Config  # noqa: E402
from trainer.trackers.records import EvaluationRecord, StepRecord  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
MODELS = ("gpt-mini", "bert-mini", "bart-mini")


def write_root(root: Path, runs: int, points: int) -> None:
    """Run folders of that many steps each, of a few sizes, rates and seeds."""
    for number in range(runs):
        folder = root / MODELS[number % 3] / f"run-{number:04}"
        folder.mkdir(parents=True)
        chance = random.Random(number)
        rate, width = 10 ** chance.uniform(-4, -2), chance.choice((64, 128, 256, 512))
        _write_heads(folder, number, points, rate, width)
        form = _form(rate, width)
        with open(folder / "metrics.jsonl", "w") as file:
            for step in range(1, points + 1):
                loss = 2 + 400 * rate + 50 / width + 5 * step**-0.3
                spent = (loss + chance.gauss(0, 0.05), 0.7 * step, 6.2e-05 * step)
                file.write(form % (step, 16 * step, 4096 * step, 2.4e10 * step * width, *spent))
                if step % (points // 5 or 1) == 0:
                    file.write(_line(EvaluationRecord(step, step * 4096, loss, loss / 3, 2.9, 4096, 1.0)))


def _write_heads(folder: Path, number: int, points: int, rate: float, width: int) -> None:
    config = Config()
    changed = {
        "model": config.model.model_copy(update={"name": folder.parent.name, "width": width}),
        "optim": config.optim.model_copy(update={"lr": float(f"{rate:.3g}")}),
        "seed": number % 5,
    }
    (folder / "config.yaml").write_text(config.model_copy(update=changed).to_yaml())
    planned = {"model": {"parameters": 12 * width * width * 4}, "data": {"steps": points, "tokens": points * 4096}}
    (folder / "plan.json").write_text(json.dumps({"planned": planned, "rows": []}))
    begin = 1.7e9 + 60 * number
    events = [("start", 0, "start"), ("checkpoint", points // 2, "saved"), ("finished", points, "finished")]
    lines = (
        {"name": name, "time": begin + place, "step": step, "text": text, "data": {}, "attempt": 0}
        for place, (name, step, text) in enumerate(events)
    )
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _form(rate: float, width: int) -> str:
    """A step's line, to be filled with step, samples, tokens, FLOPs, loss, seconds and kWh."""
    numbers = {901: "%d", 902: "%d", 903: "%d", 904: "%r", 905: "%r", 906: "%r", 907: "%r"}
    step, samples, tokens, flop, loss, seconds, kwh = numbers
    record = StepRecord(
        step=step,
        samples=samples,
        tokens=tokens,
        targets=4096,
        flop=flop,
        loss=loss,
        grad_norm=0.8279872536659241,
        lr=rate,
        tokens_per_second=81234.123456789,
        flop_per_second=1731696973.153725,
        mfu=0.312345678,
        peak_flop_per_second=1e13,
        memory_peak_bytes=519172096,
        seconds={"other": 0.03336443500, "data": 0.0001719860, "forward_backward": 0.568, "optimizer": 0.037},
        wall_seconds=seconds,
        sources={"stdlib": 265216},
        joules={"gpu": 56.39151, "cpu": 12.25123},
        price={"kwh": kwh, "gco2e": 0.0236, "money": 1.9e-05},
        waiting=0.0123456,
    )
    line = _line(record)
    for number, form in numbers.items():
        line = line.replace(f":{number},", f":{form},")
    return line


def _line(record: StepRecord | EvaluationRecord) -> str:
    return json.dumps(record.to_json(), separators=(",", ":")) + "\n"


def serve(root: Path) -> tuple[subprocess.Popen[str], str, float]:
    """The server, its address, and the seconds from its start until it listened."""
    began = time.monotonic()
    words = [sys.executable, "-m", "isoflop", "board", str(root), "open=false"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    return server, line.split()[1], time.monotonic() - began


def timed(work: Callable[[], Any]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def first_paint(page: Page, address: str) -> float:
    """Seconds from the request to the first paint that shows the table's rows."""
    page.goto(address)
    paints = page.evaluate("() => performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)")
    return float(paints[0]) / 1000


def settled(page: Page) -> None:
    """Wait until every curve that is asked for is whole."""
    page.locator("#drawn[data-left='0']").wait_for(timeout=600_000)


def measure(page: Page, address: str) -> Iterator[tuple[str, float]]:
    """Seconds of each thing that a person waits for."""

    def act(button: str) -> None:
        page.evaluate("() => { document.querySelector('#drawn').dataset.left = 'waiting' }")
        page.click(f"[data-do={button}]")
        page.locator("#drawn:not([data-left='waiting'])").wait_for(timeout=600_000)

    yield "first paint, server just started", first_paint(page, address)
    yield "until every row is read", timed(lambda: page.locator("#live", has_text="live").wait_for(timeout=60_000))
    settled(page)
    yield "first paint again", first_paint(page, address)
    yield "until 8 curves are drawn", timed(lambda: settled(page))
    page.locator("#live", has_text="live").wait_for()
    count = page.locator("#runs tbody tr").count()
    began = time.monotonic()
    page.click("#all")
    page.locator("#drawn", has_text=f"{count:,} runs").wait_for(timeout=600_000)
    yield "all curves, as sketches", time.monotonic() - began
    yield "zoom of all curves", timed(lambda: act("in"))
    yield "back to the whole", timed(lambda: act("reset"))
    page.click("#none")
    page.locator("#runs .pick").first.check()
    settled(page)
    yield "zoom of one curve", timed(lambda: act("in"))
    act("reset")
    page.click("#all")
    page.locator("#drawn", has_text=f"{count:,} runs").wait_for(timeout=600_000)
    yield "all curves, every line read", timed(lambda: settled(page))
    yield "zoom of all curves after that", timed(lambda: act("in"))


def main(words: list[str]) -> None:
    given = dict(word.split("=", 1) for word in words)
    runs, points = int(given.get("runs", 1000)), int(given.get("points", 10_000))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(given.get("root", folder)) / f"{runs}x{points}"
        if not root.exists():
            print(
                f"{runs:,} runs of {points:,} steps in {timed(lambda: write_root(root, runs, points)):.0f} s",
                flush=True,
            )
        size = sum(path.stat().st_size for path in root.rglob("metrics.jsonl"))
        server, address, listening = serve(root)
        try:
            with sync_playwright() as play:
                browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1400, "height": 900})
                print(f"{runs:,} runs, {runs * points:,} steps, {size / 1e9:.2f} GB of metrics.jsonl")
                print(f"{'isoflop board until it listens':<36} {listening:8.2f} s")
                for name, seconds in measure(page, address):
                    print(f"{name:<36} {seconds:8.2f} s", flush=True)
                browser.close()
        finally:
            server.terminate()
            server.wait()
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{'memory of the largest child':<36} {memory:8.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
