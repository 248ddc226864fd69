"""What the program writes: names of files, JSON keys of files and of every `--json`.

One fact a line, sorted: `<where> | <fact>`. A JSON key is a path, `rows[].name`; keys that are data, as the name of a
source, are `<name>`. Values are not recorded, but for those of `key`, by which the rows of a price tag are found.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.golden import folders
from tests.golden.curves import words
from tests.golden.files import HERE, read_lines, read_text
from tests.golden.process import Commands

FILE = HERE / "outputs.txt"

# Parents whose keys are data: names of sources, devices, tasks, parameters, settings, packages.
NAMED = (
    *("sources", "languages", "averages", "joules", "segments", "origins", "specials", "packages", "baselines"),
    *("shapes", "weights", "files", "seconds", "peak_flops"),
)
PLACEHOLDERS = (
    (r"step-\d{8}", "step-<step>"),
    (r"-\d{5}-of-\d{5}", "-<part>-of-<parts>"),
    (r"-\d{5}\.", "-<number>."),
    (r"\d{8}-\d{6}", "<time>"),
    (r"[0-9a-f]{16}", "<hash>"),
    (r"energy-[^/]+\.jsonl", "energy-<host>.jsonl"),
    (r"cost-(\w+)-[^/]+\.jsonl", r"cost-\1-<time>.jsonl"),
    (r"host/[^/]+\.json", "host/<machine>.json"),
    (r"launches/\d+/", "launches/<number>/"),
    (r"attempt_\d+/\d+/", "attempt_<number>/<rank>/"),
    (r"logs/[^/]+_\w{8}/", "logs/<launch>/"),
    (r"calibrations?/[^/]+\.json", "calibration/<machine>.json"),
)


def paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a JSON value as a path; of `git` without what it holds, which only a checkout knows."""
    if prefix.endswith(".git"):
        return
    if isinstance(value, dict):
        named = prefix.rpartition(".")[2] in NAMED
        for name, inner in value.items():
            here = f"{prefix}.{'<name>' if named else name}".lstrip(".")
            yield f"{here}={inner}" if here.endswith("rows[].key") else here
            yield from paths(inner, here)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{prefix}[]")


def plain(file: Path, folder: Path) -> str:
    """A file's name below a folder, with placeholders for what differs from run to run."""
    name = file.relative_to(folder).as_posix()
    for pattern, placeholder in PLACEHOLDERS:
        name = re.sub(pattern, placeholder, name)
    return name


def names(folder: Path) -> Iterator[str]:
    """Every file below a folder, but the difference of the code to its commit: there may be none."""
    return (plain(path, folder) for path in folder.rglob("*") if path.is_file() and path.name != "code.diff")


def keys_of_files(folder: Path, pattern: str = "*.json", called: str = "") -> Iterator[str]:
    """JSON keys of every such file below a folder."""
    for file in folder.rglob(pattern):
        yield from (f"keys of {called}{plain(file, folder)} | {path}" for path in paths(json.loads(file.read_text())))


def run_files(run: Path) -> Iterator[str]:
    """Names and JSON keys of all files of a run folder. Records of a JSON-lines file are told apart by their kind."""
    yield from (f"file of a run | {name}" for name in names(run))
    yield from keys_of_files(run)
    for file in sorted(run.glob("*.jsonl")):
        for record in read_lines(file):
            kind = record.get("kind") or record.get("name")
            yield from (f"keys of {plain(file, run)} {kind} | {path}" for path in paths(record))


@dataclass
class Place:
    """A working folder with the golden runs in it, and a way to run commands there."""

    folder: Path
    commands: Commands

    def run(self, family: str) -> str:
        return str(folders.run_of(self.folder, family, "finished"))

    def json(self, *command: str) -> Any:
        return json.loads(self.commands.succeed(self.folder, *command, "--json"))

    def keys(self, name: str, *command: str) -> Iterator[str]:
        """JSON keys of a command's standard output."""
        yield from (f"keys of isoflop {name} --json | {path}" for path in paths(self.json(*command)))


SMALL = words("decoder")


def plans(place: Place) -> Iterator[str]:
    """Verbs that train nothing and import no torch."""
    yield from place.keys("plan", "plan", *SMALL)
    yield from place.keys("plan -m", "plan", "-m", *SMALL, "seed=0,1")
    unmeasured = "run.cache=cache"  # where nothing is known of this host
    largest = ["--largest", "model=llama-mini", "budget.flop=1e15", unmeasured]
    yield from place.keys("plan --largest", "plan", *largest)
    yield from place.keys("model", "model", *SMALL)
    ladder = ["ladder=chinchilla", "ladder.sizes=[30m]", unmeasured]
    yield from place.keys("sweep --plan", "sweep", *ladder, "--plan")
    yield from place.keys("price", "price", "gpu_hours=184320", "watts=400", "pue=1.1", "gco2e_per_kwh=385")


def corpora(place: Place) -> Iterator[str]:
    """Verbs about text, and what they leave in the cache."""
    text = [word for word in SMALL if word.startswith(("data", "tokenizer", "run.cache", "model.vocabulary"))]
    yield from place.keys("data", "data", *text)
    yield from place.keys("data show", "data", "show", *text)
    yield from place.keys("data card", "data", "card", *text)
    own = [word for word in text if not word.startswith(("tokenizer", "model"))]
    train = ["tokenizer.vocabulary=384", "tokenizer.sentinels=16", "out=trained.model"]
    yield from place.keys("tokenizer", "tokenizer", *own, *train)
    yield from (f"file of the cache | {name}" for name in names(place.folder / "cache"))
    yield from keys_of_files(place.folder / "cache", called="cache/")


def accounts(place: Place) -> Iterator[str]:
    """Verbs that look at all runs of a root."""
    yield from place.keys("status", "status", "runs")
    yield from place.keys("ledger", "ledger", "runs")


def training(place: Place) -> Iterator[str]:
    yield from place.keys("train", "train", *SMALL, "run.experiment=new", "run.id=one")
    yield from run_files(place.folder / "runs" / "new" / "one")
    yield from (f"file of runs | {path.name}" for path in (place.folder / "runs").iterdir() if path.is_file())
    newest = read_lines(place.folder / "runs" / "ledger.jsonl")[-1]
    yield from (f"keys of ledger.jsonl | {path}" for path in paths(newest))


def task_of(place: Place) -> list[str]:
    """A task of two classes, from a file of records that is written here."""
    records = ({"text": f"{word} {number}", "label": word} for number in range(30) for word in ("ebjhca", "ieidd"))
    (place.folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return ["task.kind=sequence", "task.name=mine", "task.train=[records.jsonl]"]


def results(place: Place) -> Iterator[str]:
    """Verbs about a trained model."""
    for family in ("decoder", "encoder"):
        yield from place.keys(f"eval ({family})", "eval", place.run(family))
        yield from place.keys("generate", "generate", place.run(family), *folders.PROMPTS[family])
    yield from place.keys("eval tasks=", "eval", place.run("decoder"), "tasks=copy", "limit=2")
    yield from place.keys("report", "report", place.run("decoder"))
    yield from place.keys("compare", "compare", place.run("decoder"), place.run("encoder"), "out=comparison")
    yield from (f"file of compare | {name}" for name in names(place.folder / "comparison"))
    yield from place.keys("export", "export", place.run("decoder"), "to=exported")
    yield from (f"file of export | {name}" for name in names(place.folder / "exported"))
    yield from place.keys("import", "import", "exported", "to=runs/imported/one")
    tune = [*task_of(place), "budget.steps=2", "run.id=tuned", "run.experiment=new"]
    yield from place.keys("finetune", "finetune", place.run("encoder"), *tune)
    yield from keys_of_files(place.folder / "runs" / "new" / "tuned", "task.json")
    yield from keys_of_files(Path(place.run("decoder")), "evaluation.json")


TABLE = "parameters,tokens,flop,loss\n" + "".join(
    f"{n},{d},{6 * n * d},{1.7 + 400 / n**0.34 + 410 / d**0.28}\n"
    for budget in (1e17, 1e18, 1e19)
    for n in (1e6 * budget**0.5 / 1e8 * k for k in (1, 2, 4, 8, 16))
    for d in (budget / (6 * n),)
)


def many_runs(place: Place) -> Iterator[str]:
    """Verbs about many runs."""
    (place.folder / "table.csv").write_text(TABLE)
    yield from place.keys("fit", "fit", "table.csv", "replicates=20", "out=fit")
    yield from (f"file of fit | {name}" for name in names(place.folder / "fit"))
    yield from place.keys("sweep", "sweep", *SMALL, "seed=0,1", "run.experiment=swept")
    tiny = [word for word in SMALL if not word.startswith(("model=", "objective=", "budget", "model.depth"))]
    task = ",".join(f"'{word}'" for word in task_of(place))
    columns = ["~grid.tasks.swapped", "~grid.tasks.packages", f"grid.tasks.mine={{words:[{task}]}}"]
    grid = ["grid=families", "grid.flop=2e8", "grid.seeds=[0]", "grid.tuning=['budget.steps=2']", "grid.base=[]"]
    yield from place.keys("grid", "grid", *grid, *columns, *tiny, "out=table")
    yield from (f"file of grid | {name}" for name in names(place.folder / "table"))


def machines(place: Place) -> Iterator[str]:
    """Verbs that measure this host, and a launch that checks it first."""
    yield from place.keys("calibrate", "calibrate", "run.cache=cache", "engine.threads=1")
    yield from place.keys("preflight", "preflight", "launch.processes=1")
    keys = ["launch=torchrun", "launch.processes=2", "launch.preflight=true", "run.experiment=new", "run.id=launched"]
    place.commands.succeed(place.folder, "launch", *SMALL, *keys)
    launched = place.folder / "runs" / "new" / "launched"
    yield from (f"file of a launched run | {name}" for name in names(launched))
    for pattern in ("preflight.json", "launch.json", "code.json"):
        yield from keys_of_files(launched, pattern)


QUICK: tuple[Callable[[Place], Iterator[str]], ...] = (plans, corpora, accounts, training)
SLOW: tuple[Callable[[Place], Iterator[str]], ...] = (results, many_runs, machines)


def build(folder: Path, parts: tuple[Callable[[Place], Iterator[str]], ...]) -> dict[str, list[str]]:
    """Name of each part -> its facts, sorted, observed in this empty folder."""
    found = {}
    with Commands() as commands:
        for part in parts:
            own = folder / part.__name__
            own.mkdir()
            folders.place(own)
            found[part.__name__] = sorted(set(part(Place(own, commands))))
            shutil.rmtree(own)
    return found


def make(folder: Path) -> None:
    found = build(folder, (*QUICK, *SLOW))
    FILE.write_text("".join(f"{part} | {fact}\n" for part in sorted(found) for fact in found[part]))


def golden(part: str) -> list[str]:
    """The facts of one part. The test fails where the fixture is missing."""
    lines = read_text(FILE, "outputs").splitlines()
    return [line.removeprefix(f"{part} | ") for line in lines if line.startswith(f"{part} | ")]
