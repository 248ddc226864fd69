"""Run folders as this version leaves them: of every family one that finished and one that was interrupted.

`run_folders/golden/<family>-finished` ended by itself. `<family>-interrupted` was killed (the encoder's: stopped by
TERM, which saves first) and can be resumed. Both are the golden curve's run on one rank at ZeRO 0.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.golden import text
from tests.golden.curves import FAMILIES, STEPS, words
from tests.golden.files import HERE, read_json, read_lines, write_json
from tests.golden.process import Commands, environment
from tests.golden.product import COMMAND

RUNS, ANSWERS = HERE / "run_folders", HERE / "answers.json"
STOPPED_BY_TERM = ("encoder",)
NEUTRAL = "host"
LEFT_OUT = (".lock", "report.html", "logs")  # a process id, a page that `isoflop report` writes anew, and nothing
PROMPTS = {
    "decoder": ["prompt=ebjhca ieidd", "tokens=120", "temperature=1", "seed=3"],
    "encoder": ["prompt=ebjhca <mask> gaeih"],
    "encoder_decoder": ["prompt=ebjhca ieidd. gaeih", "tokens=8", "temperature=1", "seed=1"],
}


def run_of(folder: Path, family: str, state: str) -> Path:
    return folder / "runs" / "golden" / f"{family}-{state}"


def place(folder: Path) -> None:
    """A working folder with corpus, tokenizer and all run folders, as a user would have it."""
    text.place(folder)
    shutil.copytree(RUNS, folder / "runs")


# --- what is asked of a finished run, besides its resume ---


def generated(commands: Commands, folder: Path, family: str) -> dict[str, Any]:
    run = run_of(folder, family, "finished")
    found = json.loads(commands.succeed(folder, "generate", str(run), *PROMPTS[family], "--json"))
    return {name: value for name, value in found.items() if name != "run"}


def compared(commands: Commands, folder: Path) -> dict[str, Any]:
    """What `isoflop compare` says differs between two runs."""
    runs = [str(run_of(folder, family, "finished")) for family in ("decoder", "encoder")]
    found = json.loads(commands.succeed(folder, "compare", *runs, f"out={folder / 'comparison'}", "--json"))
    for group in found["groups"]:
        group["runs"] = [Path(run).name for run in group["runs"]]
    return dict(found)


def ledger(commands: Commands, folder: Path) -> Any:
    return json.loads(commands.succeed(folder, "ledger", "runs", "--json"))


def resumed(commands: Commands, folder: Path) -> list[str]:
    """Names of the last two events after a run that had finished was resumed. Changes the run."""
    run = run_of(folder, "decoder", "finished")
    commands.succeed(folder, "train", f"resume={run}")
    return [event["name"] for event in read_lines(run / "events.jsonl")][-2:]


# --- making them ---


def make(folder: Path) -> None:
    """Train anew in this empty folder, and keep the run folders without anything that tells of this machine."""
    text.place(folder)
    for family in FAMILIES:
        _finish(folder, family)
        _interrupt(folder, family)
    for run in sorted((folder / "runs" / "golden").iterdir()):
        _neutralise(run)
    (folder / "runs" / "ledger.jsonl").unlink()
    with Commands() as commands:  # written anew, of the folders as they are kept
        for run in sorted((folder / "runs" / "golden").iterdir()):
            commands.succeed(folder, "report", str(run))
            for name in LEFT_OUT:
                path = run / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.rmtree(RUNS, ignore_errors=True)
        shutil.copytree(folder / "runs", RUNS)


def make_answers(folder: Path) -> None:
    """Ask `generate`, `compare`, `ledger` and `train resume=` about the folders as they are kept."""
    place(folder)
    with Commands() as commands:
        found: dict[str, Any] = {f"generate {family}": generated(commands, folder, family) for family in FAMILIES}
        found |= {"compare": compared(commands, folder), "ledger": ledger(commands, folder)}
        write_json(ANSWERS, {**found, "resume of finished": resumed(commands, folder)})


def _command(family: str, run_id: str) -> list[str]:
    keys = [*words(family), "run.experiment=golden", f"run.id={run_id}"]
    return [sys.executable, *COMMAND, "train", *keys]


def _finish(folder: Path, family: str) -> None:
    command = _command(family, f"{family}-finished")
    subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True)


def _interrupt(folder: Path, family: str) -> None:
    """Stop a run between its first checkpoint and its last step. What is quicker than the signal is tried again."""
    run, by_term = run_of(folder, family, "interrupted"), family in STOPPED_BY_TERM
    for _ in range(30):
        shutil.rmtree(run, ignore_errors=True)
        process = subprocess.Popen(
            _command(family, run.name),
            cwd=folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and not _is_time(run, by_term):
            time.sleep(0.0005)
        process.send_signal(signal.SIGTERM if by_term else signal.SIGKILL)
        code = process.wait()
        kept = sorted(path.name for path in (run / "checkpoints").glob("step-*"))
        if code == (75 if by_term else -signal.SIGKILL) and len(kept) == 1 and kept[0] < f"step-{STEPS:08d}":
            return
    raise RuntimeError(f"{run}: it was never interrupted in time; try again on a machine with less to do")


def _is_time(run: Path, by_term: bool) -> bool:
    """After the first step where the signal itself saves, else as soon as a checkpoint is there."""
    if by_term:
        return (run / "metrics.jsonl").is_file() and (run / "metrics.jsonl").stat().st_size > 0
    return (run / "checkpoints" / "step-00000004").exists()


def _neutralise(run: Path) -> None:
    """Take host, processor, platform and boot out of a run's files. Raises RuntimeError where a trace is left."""
    host = socket.gethostname()
    entries = json.loads((run / "environment.json").read_text())
    for entry in entries:
        entry |= {"host": NEUTRAL, "cpu": "processor", "platform": "Linux", "command": ["isoflop", "train"]}
    (run / "environment.json").write_text(json.dumps(entries, indent=1))
    for file in run.glob("energy-*.jsonl"):
        records = read_lines(file)
        for record in records:
            if "boot" in record:
                record["boot"] = NEUTRAL
        lines = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
        file.unlink()
        (run / f"energy-{NEUTRAL}.jsonl").write_text(lines)
    here = (re.escape(str(path)).encode() for path in (Path.home(), run.parents[2]))
    traces = [rb"\b" + re.escape(host).encode() + rb"\b", *here]
    for file in run.rglob("*"):
        if file.suffix in (".json", ".jsonl", ".yaml") and any(re.search(one, file.read_bytes()) for one in traces):
            raise RuntimeError(f"{file} tells of the machine that it was made on")


def golden() -> dict[str, Any]:
    """What was answered of the folders. The test fails where it is missing."""
    return read_json(ANSWERS, "answers")
