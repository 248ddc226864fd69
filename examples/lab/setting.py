"""What the eight notebooks share: their size, the folder of their runs, the command, and a way to show a picture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import isoflop

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = ("full", "tiny")
SIZE = os.environ.get("ISOFLOP_LAB_SIZE", "full")  # tiny: seconds, to see that all of it runs; it teaches nothing
if SIZE not in SIZES:
    sys.exit(f"isoflop: ISOFLOP_LAB_SIZE: {SIZE!r} given, {' or '.join(SIZES)} wanted")
TINY = SIZE == "tiny"

# Runs and pictures lie beside the notebooks, wherever the program was started.
ROOT = Path(os.path.relpath(os.environ.get("ISOFLOP_LAB_ROOT") or Path(__file__).parent / "runs"))

PLACE = ["site=de-2023", "site.price_per_kwh=0.30", "site.currency=EUR", "site.price_date=2026-11"]
TEXT = ["data.sequence_length=128", "tokenizer.vocabulary=1024"]  # the standard library's source, as in the lab
SMALL = ["model.width=128", "optim.batch_size=8", "engine.precision=fp32", "evaluation.every_steps=null"]
WORDS = [*TEXT, *SMALL, f"run.root={ROOT}", *PLACE]
if cache := os.environ.get("ISOFLOP_LAB_CACHE"):
    WORDS.append(f"run.cache={os.path.relpath(cache)}")
MODELS = ("GPT", "BERT", "BART")

# Of the lab: ten minutes on two cores, or as little as there is.
LESS = ["minutes=0.02", "grid.seeds=[0]", "grid.tuning=['task.records=60','budget.steps=2','optim.batch_size=8']"]
LESS.append("~grid.tasks.arguments")
LAB = [*(LESS if TINY else ["minutes=10"]), *PLACE, *(word for word in WORDS if word.startswith("run."))]
LAB += ["model.width=32", "evaluation.samples=8"] if TINY else []


def command(*words: str) -> str:
    """What `isoflop <words>` prints, once it has ended. Raises RuntimeError with its last line where it fails."""
    done = subprocess.run([sys.executable, "-m", "isoflop", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"isoflop {' '.join(words)}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    return done.stdout


def lab() -> dict[str, isoflop.Run]:
    """The three models of `isoflop lab`, of its first seed; trained first, where they are not there yet."""
    folder = ROOT / f"lab-{LAB[0].partition('=')[2]}min"
    runs = {name: folder / f"{name.lower()}-s0" for name in MODELS}
    if not (folder / "lab.json").is_file():
        print(f"isoflop lab {' '.join(LAB)}: {'seconds' if TINY else 'ten minutes on two cores'}, once")
        command("lab", *LAB)
    return {name: isoflop.Run(path) for name, path in runs.items()}


def trained(name: str, *words: str) -> isoflop.Run:
    """The run of that name, trained where it is not there yet."""
    config = isoflop.compose([*WORDS, *words, "run.experiment=notebooks", f"run.id={name}"])
    folder = ROOT / "notebooks" / name
    if folder.is_dir() and (run := isoflop.Run(folder)).status == "finished":
        return run
    return isoflop.train(config, quiet=True)


def tuned(name: str, parent: isoflop.Run, task: str, *words: str, steps: int) -> isoflop.Run:
    """The run of that name, tuned on a task where it is not there yet."""
    folder = ROOT / "notebooks" / name
    if folder.is_dir() and (run := isoflop.Run(folder)).status == "finished" and (folder / "task.json").is_file():
        return run
    less = ["task.records=60", "optim.batch_size=8"] if TINY else []
    own = [f"run.root={ROOT}", "run.experiment=notebooks", f"run.id={name}", *words, *less]
    return isoflop.finetune(parent, task, *own, steps=2 if TINY else steps, quiet=True)


def picture(figure: Figure, name: str) -> object:
    """Keep a figure as a file and show it: in a notebook the picture, elsewhere where it lies. It needs no display."""
    file = ROOT / "pictures" / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80)
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import Image

        return Image(filename=str(file), alt=name)
    print(file.relative_to(ROOT))
    return None
