"""What a person may do after the first run of a root."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from trainer.books.parameters import parameters
from trainer.config import Config
from trainer.run_folder import RunFolder

LARGER = 4  # times the parameters of the run
OF_THIS_RUN = ("seed", "run.id")
SIZES = ("model.size", "model.depth", "model.width", "model.heads")  # which the size dial sets


def next_steps(config: Config, run: Path, given: Sequence[str]) -> str | None:
    """Lines with commands that can be pasted; None where the root holds other runs, so that they are read once.

    given: the overrides that the run was started with.
    """
    root = Path(config.run.root).absolute()
    if sum(1 for _ in root.glob("*/*/config.yaml")) != 1:
        return None
    folder = RunFolder(run)
    kept = [word for word in given if _key(word) not in OF_THIS_RUN]
    size = f"model.size={max(1, round(LARGER * parameters(config).published / 1e6))}m"
    seeds = [folder.command("train", *kept, f"seed={config.seed + 1}"), folder.command("compare", str(run.parent))]
    steps = {
        "another seed": "; ".join(seeds),
        "a larger one": folder.command("plan", *(word for word in kept if _key(word) not in SIZES), size),
    }
    if find_spec("trainer.cli.board") is not None:
        steps["all runs live"] = folder.command("board", str(root))
    return "\n".join(["", *(f"next     {what}: {line}" for what, line in steps.items())])


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]
