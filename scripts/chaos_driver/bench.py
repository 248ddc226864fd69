"""Where it happens: a corpus, a cache, runs, and how an attempt at one of them is started."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.chaos_driver.attempt import Attempt
from scripts.chaos_driver.disks import damage
from scripts.chaos_driver.history import History, differences, read_history, repeated
from scripts.chaos_driver.phases import Watch
from scripts.chaos_driver.plan import Layout

PROBE = Path(__file__).parent / "probe"
EVALUATE_EVERY = 3
ATTEMPT_SECONDS = 300.0  # no attempt takes as long
ORPHAN_SECONDS = 30.0  # a rank that is importing when its launcher dies comes to it later
SHARED_MEMORY = Path("/dev/shm")  # a file system of its own is mounted there  # nosec B108
CACHES = ("torchinductor_*",)  # folders that torch keeps among temporary files for everybody


@dataclass
class Run:
    """One run, and where its ranks note what they read."""

    folder: Path
    reads: Path

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def is_frozen(self) -> bool:
        return (self.folder / "config.yaml").is_file()

    def newest_intact(self) -> tuple[int | None, int]:
        """Step of the newest checkpoint that is as it was written, and how many newer ones are not."""
        damaged = 0
        for folder in sorted(self.checkpoints.glob("step-*"), reverse=True):
            if is_intact(folder):
                return int(folder.name[5:]), damaged
            damaged += 1
        return None, damaged

    def damage_newest(self, how: str, where: float) -> str:
        """Returns the file's name."""
        step, _ = self.newest_intact()
        return damage(self.checkpoints / f"step-{step:08d}", how, where)


def is_intact(checkpoint: Path) -> bool:
    """Whether every file has the hash that the manifest gives, and the manifest its own."""
    try:
        manifest = json.loads((checkpoint / "manifest.json").read_bytes())
        content = json.dumps({name: value for name, value in manifest.items() if name != "sha256"}, sort_keys=True)
        hashes = {name: facts["sha256"] for name, facts in manifest["files"].items()}
        files = {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in hashes}
        return hashlib.sha256(content.encode()).hexdigest() == manifest["sha256"] and files == hashes
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


class Bench:
    """Everything in one folder. `own_memory`: no other process uses this /dev/shm."""

    def __init__(self, folder: Path, steps: int, own_memory: bool) -> None:
        self.folder, self.steps, self._own_memory = folder, steps, own_memory
        self.cache, self.temporary, self.consoles = folder / "cache", folder / "tmp", folder / "consoles"
        for path in (self.cache, self.temporary, self.consoles):
            path.mkdir(parents=True)
        write_corpus(folder / "corpus")
        self._attempts = self._runs = 0
        self.undisturbed: History | None = None

    def new_run(self) -> Run:
        name = f"run-{self._runs}" if self._runs else "undisturbed"
        self._runs += 1
        run = Run(self.folder / "runs" / "chaos" / name, self.folder / "reads" / name)
        run.reads.mkdir(parents=True)
        return run

    @contextmanager
    def attempt(self, run: Run, layout: Layout, by_name: bool = False) -> Iterator[tuple[Attempt, Watch]]:
        """Start the run, or go on with it. At the end nothing of it lives."""
        self._attempts += 1
        console = self.consoles / f"{self._attempts:03}.txt"
        console.unlink(missing_ok=True)
        watch = Watch(run.folder, self.cache, console, self.steps, EVALUATE_EVERY)
        named = by_name and run.is_frozen
        words = [f"resume={run.folder}"] if named else [*self._words(), f"run.id={run.folder.name}"]
        environment = {
            "PYTHONPATH": str(PROBE),
            "TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
            "WANDB_MODE": "offline",
            "ISOFLOP_CHAOS_READS": str(run.reads),
            "ISOFLOP_CHAOS_ATTEMPT": str(self._attempts),
        }
        attempt = Attempt([*words, *layout.words], self.folder, console, environment)
        try:
            yield attempt, watch
        finally:
            killed_here = attempt.code is None
            attempt.end()
            if killed_here:
                self.leftovers()  # of the driver's making

    def _words(self) -> list[str]:
        return [
            "data=text",
            f"data.path={self.folder / 'corpus'}",
            "data.sequence_length=32",
            f"run.cache={self.cache}",
            f"run.root={self.folder / 'runs'}",
            "run.experiment=chaos",
            "tokenizer.vocabulary=4000",
            "model.depth=2",
            "model.width=96",
            "optim.batch_size=12",
            f"budget.steps={self.steps}",
            f"evaluation.every_steps={EVALUATE_EVERY}",
            "evaluation.samples=200",
            "checkpoint.every_steps=2",
            "checkpoint.keep_last=3",
            "engine.precision=fp32",
            "engine.threads=1",
            "launch.save_seconds=20",  # also how long ranks wait that stand before their first step
            "tracker.console=plain",
            "tracker.every_steps=1",
        ]

    def empty_cache(self, phase: str) -> None:
        """So that the next attempt goes through this phase."""
        for name in {"tokenizer": ("listings", "tokenizers", "tokens"), "encoding": ("listings", "tokens")}.get(
            phase, ()
        ):
            shutil.rmtree(self.cache / name, ignore_errors=True)

    def leftovers(self) -> list[str]:
        """A line for what an attempt left where it would not be looked for; it is removed."""
        places = [self.temporary, *([SHARED_MEMORY] if self._own_memory else [])]
        found = [path for place in places for path in place.iterdir() if not any(map(path.match, CACHES))]
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return [f"left over: {path}" for path in found]

    def finish(self, run: Run) -> list[str]:
        """Let the run come to its end on one rank; a line for everything that is not as it should be."""
        with self.attempt(run, Layout()) as (attempt, watch):
            if not attempt.ended(ATTEMPT_SECONDS):
                return [f"the run did not end within {ATTEMPT_SECONDS:.0f} s"]
            watch.phase()
            wrong = [f"orphan: {name}" for name in attempt.orphans(ORPHAN_SECONDS)]
            if attempt.code != 0:
                wrong.append(f"the run ended with {attempt.code} instead of 0: {last_words(watch)}")
        return wrong + self.leftovers()

    def inspect(self, run: Run) -> list[str]:
        """A line for everything in which a finished run is not the undisturbed one, and for what is left beside it."""
        history = read_history(run.folder, run.reads)
        wrong = repeated(history)
        if sorted(history.losses) != list(range(1, self.steps + 1)):
            wrong.append(f"losses of {len(history.losses)} steps instead of {self.steps}")
        if self.undisturbed is None:
            self.undisturbed = history
        wrong += differences(history, self.undisturbed)
        places = (run.folder, self.cache)
        return wrong + [f"left over: {path}" for place in places for path in place.rglob("*partial*")]


def last_words(watch: Watch) -> str:
    """The end of what the console shows, in one line."""
    return " / ".join(line.strip() for line in watch.said[-4:])


def write_corpus(folder: Path) -> None:
    """Three million bytes of invented words: enough for a tokenizer and shards to take a while, always the same."""
    folder.mkdir()
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(20000)]
    for number in range(100):
        lines = (" ".join(chance.choices(words, k=12)) for _ in range(400))
        (folder / f"{number:03}.txt").write_text("\n".join(lines))
