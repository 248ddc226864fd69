"""How long `isoflop --help` takes, and a run from its command to its first step, by phase.

    scripts/bench/start [--rounds 5] [--write]

Every round is a new process with the files of the first one in the page cache. Of a run: until its folder is frozen
(imports, configuration, checks, prepared data), until its ranks begin (DeepSpeed, the model, the hashes of the data are
asked for) and until the first step is done. Imports are measured alone, in processor seconds, which a busy host
lengthens less. --write makes docs/benchmarks/start.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks" / "start.md"
COMMANDS = {
    "isoflop --help": ["--help"],
    "isoflop --version": ["--version"],
    "isoflop help attention": ["help", "attention"],
}
STEPS = ["budget.steps=3", "evaluation.every_steps=null"]
IMPORTS = {
    "torch": "import torch",
    "trainer.run.start, with torch": "import trainer.run.start",
    "deepspeed, after torch": "import torch; begin(); from trainer.training.engine import import_deepspeed; "
    "import_deepspeed('cpu')",
    "torch._dynamo, after both (torch's optimizers import it)": "from trainer.training.engine import import_deepspeed; "
    "import_deepspeed('cpu'); begin(); import torch._dynamo",
}
TIMED = """import time
b = time.process_time()
def begin():
    global b
    b = time.process_time()
{}
print(time.process_time() - b)"""


def seconds_of(words: list[str]) -> float:
    """Wall seconds of a command."""
    began = time.perf_counter()
    subprocess.run([ROOT / ".venv/bin/isoflop", *words], check=True, capture_output=True)
    return time.perf_counter() - began


def phases_of(folder: Path, number: int) -> dict[str, float]:
    """Wall seconds of a run's phases, from the start of its process."""
    words = ["train", *STEPS, f"run.root={folder}", "run.experiment=start", f"run.id={number}"]
    began = time.time()
    subprocess.run([ROOT / ".venv/bin/isoflop", *words], check=True, capture_output=True)
    run = folder / "start" / str(number)
    frozen = (run / "config.yaml").stat().st_mtime - began
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ranks = next(one["time"] for one in events if one["name"] == "start") - began
    first = ranks + next(one["wall_seconds"] for one in steps if one["kind"] == "step")
    return {"until the folder is frozen": frozen, "until its ranks begin": ranks, "until the first step is done": first}


def import_seconds(code: str) -> float:
    """Processor seconds of an import."""
    done = subprocess.run(
        [sys.executable, "-c", TIMED.format(code)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    rows = {f"`{line}`": [seconds_of(line.split()[1:]) for _ in range(given.rounds)] for line in COMMANDS}
    with tempfile.TemporaryDirectory() as name:
        phases_of(Path(name), 0)  # prepares the data, and reads every file once
        runs = [phases_of(Path(name), number + 1) for number in range(given.rounds)]
    rows |= {f"`isoflop train`, {phase}": [run[phase] for run in runs] for phase in runs[0]}
    lines = ["| what | median, s | least, s |", "|---|---|---|"]
    lines += [f"| {what} | {statistics.median(times):.2f} | {min(times):.2f} |" for what, times in rows.items()]
    lines += ["", "| import | least, processor seconds |", "|---|---|"]
    for what, code in IMPORTS.items():
        lines.append(f"| {what} | {min(import_seconds(code) for _ in range(min(3, given.rounds))):.2f} |")
    text = "\n".join(lines)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    said = f"Python {platform.python_version()}, {os.cpu_count()} cores, load (1, 5, 15 minutes) at the end {load}"
    print(f"{text}\n\n{said}")
    if given.write:
        begin, mark, rest = PAGE.read_text().partition("<!-- scripts/bench/start -->\n")
        _, end, after = rest.partition("<!-- end -->")
        made = f"`scripts/bench/start --rounds {given.rounds} --write`, {said}."
        PAGE.write_text(f"{begin}{mark}\n{made}\n\n{text}\n\n{end}{after}")


if __name__ == "__main__":
    main()
