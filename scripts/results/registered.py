"""A prediction that was registered before its run was trained.

    scripts/results/registered register [key=value ...]     predict, and write prediction.json, to be committed
    scripts/results/registered train [--jobs 2]             train what it names, and hold the loss against it

`register` refuses where a run that it would predict has begun; `train` refuses where prediction.json is not committed, or
differs from its first commit. So the history of the repository says what was known when.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.books import flops, format_amount, parameters
from trainer.report import read_run
from trainer.run.start import start
from trainer.scaling.fit import format_predictions, predict, read_law
from trainer.scaling.ladder import PlannedRun, planned_runs
from trainer.scaling.outcome import rows
from trainer.scaling.sweep import make_ready, run_all
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic
from trainer.utils.outcomes import STOPPED

LAW = Path("docs/results/ladder/law.json")
OUT = Path("docs/results/registered")
PREDICTION = OUT / "prediction.json"
# Four times the FLOPs of the ladder's largest runs, at a size that it did not try.
WORDS = ("ladder=cpu", "ladder.name=registered", 'ladder.sizes=["model.width=80 model.heads=5 model.depth=2"]')
WORDS += ("ladder.flops=[8e12]", "ladder.seeds=[0,1]")
MACHINERY = ("engine.threads=1", "tracker.console=none", "meter.every_seconds=10")


def register(words: Sequence[str]) -> int:
    """Write what the law says of runs that have not begun."""
    runs = planned_runs([*WORDS, *MACHINERY, *words])
    for run in runs:
        if run.folder.path.exists():
            raise UserError(f"{run.folder.path} is there: a run that has begun cannot be predicted any more")
    places = {(parameters(run.config).total, run.config.curriculum.tokens(_steps(run))) for run in runs}
    law = read_law(LAW)
    predictions = predict(law.ensemble, [{"parameters": size, "tokens": tokens} for size, tokens in sorted(places)])
    facts = {
        "law": {"file": str(LAW), "hash": json.loads(LAW.read_text())["hash"]},
        "words": [*WORDS, *words],
        "runs": {run.name: {"flop": flops(run.config).total} for run in runs},
        "predictions": [one.to_json() for one in predictions],
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    OUT.mkdir(parents=True, exist_ok=True)
    write_atomic(PREDICTION, json.dumps(facts, indent=1) + "\n")
    print("\n".join(format_predictions(predictions, law.ensemble)))
    print(f"wrote {PREDICTION}; commit it, then: scripts/results/registered train")
    return 0


def _steps(run: PlannedRun) -> int:
    return run.config.budget.steps or 0


def train(jobs: int) -> int:
    """Train the runs that the committed prediction names, and write README.md with what came of it."""
    commit, committed = _committed()
    facts = json.loads(PREDICTION.read_text())
    runs = planned_runs([facts["words"][0], *MACHINERY, *facts["words"][1:]])
    make_ready(runs, jobs=jobs)
    _, stopped = run_all(runs, start, jobs=jobs)
    if stopped:
        print("registered: stopped before the end; the same command goes on", file=sys.stderr)
        return STOPPED
    text = report(facts, runs, commit, committed)
    write_atomic(OUT / "README.md", text)
    print(text)
    return 0


def _committed() -> tuple[str, str]:
    """The commit that brought prediction.json as it stands, and its time."""
    if not PREDICTION.is_file():
        raise UserError(f"{PREDICTION} is not there: scripts/results/registered register")
    if _git("status", "--porcelain", "--", str(PREDICTION)):
        raise UserError(f"{PREDICTION} is not committed as it stands: nothing would show that it was there first")
    commits = _git("log", "--format=%h %cI", "--", str(PREDICTION)).splitlines()
    if len(commits) != 1:
        raise UserError(f"{PREDICTION} was committed {len(commits)} times: a registered prediction does not change")
    commit, at = commits[0].split()
    return commit, at


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()


def report(facts: dict[str, Any], runs: Sequence[PlannedRun], commit: str, committed: str) -> str:
    """What was predicted, when, what came of it, and its price."""
    (prediction,) = facts["predictions"]
    loss = prediction["loss"]
    lines = [
        "# A registered prediction",
        "",
        f"`scripts/results/registered register` wrote [prediction.json](prediction.json) from the law of "
        f"[the ladder](../ladder/README.md) (hash {facts['law']['hash'][:12]}); commit {commit} of {committed} holds it. "
        "Then `scripts/results/registered train` trained what it names.",
        "",
        f"Predicted for {prediction['parameters']:,.0f} parameters and {prediction['tokens']:,.0f} tokens: "
        f"a held-out loss of {loss['value']:.4f}, between {loss['low']:.4f} and {loss['high']:.4f}.",
        "",
        "| run | began | loss | off by | in the interval | FLOP | Wh | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run, row in zip(runs, rows(runs), strict=True):
        if row["loss"] is None:
            lines.append(f"| {run.name} | | {row['status']} | | | | | |")
            continue
        found, measured = row["loss"], read_run(run.folder.path)
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(measured.events[0]["time"]))
        inside = "yes" if loss["low"] <= found <= loss["high"] else "no"
        energy = "not stated" if row["kwh"] is None else format_amount(1000 * row["kwh"], "Wh")
        lines.append(
            f"| {run.name} | {began} | {found:.4f} | {found / loss['value'] - 1:+.2%} | {inside} "
            f"| {format_amount(row['flop'], 'FLOP')} | {energy} | {format_amount(row['seconds'], 's')} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("register", "train"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("words", nargs="*", help="of register: further overrides of the runs")
    options = parser.parse_args()
    if options.stage == "register":
        return register(options.words)
    if options.words:
        raise UserError("train: no words; prediction.json names the runs")
    return train(options.jobs)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"registered: {error}", file=sys.stderr)
        sys.exit(2)
