"""The pages of the documentation, which lie in the package too, and which of them tells of a key.

trainer/docs is docs/ of the repository (a link); in an installed package it is a folder with the same pages.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parents[1] / "docs"

# Beginning of a key -> page#anchor. The longest that fits counts. Only anchors that GitHub and mkdocs spell alike.
ABOUT = {
    "anomalies": "faults.md#losses-and-gradients",
    "branch": "branches.md#what-a-branch-is",
    "budget": "price-tag.md#budgets",
    "checkpoint": "architecture.md#checkpoints",
    "data": "data.md#corpora",
    "data.parallel": "data.md#parallel-text",
    "data.sources": "data.md#mixtures",
    "data.stages": "data.md#stages",
    "data.tasks": "data.md#labelled-tasks",
    "debug": "diagnostics.md",
    "debug.first_nonfinite": "diagnostics.md#the-first-value-that-is-not-finite",
    "engine": "architecture.md#precision-and-zero",
    "engine.activation_checkpointing": "architecture.md#activation-checkpointing",
    "engine.compile": "architecture.md#torchcompile",
    "engine.deepspeed": "architecture.md#raw-deepspeed-keys",
    "engine.dry_run": "architecture.md#dry-run",
    "engine.expert_parallel": "experts.md#over-several-ranks",
    "engine.feed_forward_tile": "sequence-parallelism.md#feed-forwards-in-tiles",
    "engine.sequence_kind": "sequence-parallelism.md#the-two-kinds",
    "engine.keep_gathered": "parallelism.md#weights-gathered-once-a-step",
    "engine.linear": "architecture.md#precision-and-zero",
    "engine.partition": "parallelism.md#partitions",
    "engine.sequence_parallel": "sequence-parallelism.md#the-two-kinds",
    "engine.wire": "parallelism.md#half-the-wire",
    "engine.wire_gradients": "parallelism.md#half-the-wire",
    "evaluation": "evaluation.md#held-out-loss",
    "evaluation.tasks": "laws/inloop.md",
    "experiment": "configuration.md#experiments",
    "faults": "faults.md",
    "grid": "laws/grid.md",
    "init": "tuning.md#continued-pre-training",
    "kernels": "kernels.md",
    "ladder": "scaling.md#ladders-and-sweeps",
    "launch": "launch.md",
    "machine": "price-tag.md#machines-and-sites",
    "meter": "price-tag.md#the-meter",
    "model": "models.md#presets",
    "model.dropout": "dropout.md",
    "model.experts": "experts.md",
    "model.size": "models.md#the-size-dial",
    "objective": "data.md#objectives",
    "optim": "optimizers.md",
    "optim.averages": "averages.md",
    "optim.batch_warmup": "schedules.md#batches-that-grow",
    "optim.decay": "branches.md#optimdecay",
    "optim.lr": "schedules.md#the-learning-rate",
    "optim.schedule": "schedules.md#the-learning-rate",
    "plugins": "extending.md#from-outside-the-package",
    "resume": "faults.md#signals-and-wall-limits",
    "run": "configuration.md",
    "seed": "data.md#order",
    "site": "price-tag.md#machines-and-sites",
    "task": "tuning.md#tasks",
    "tokenizer": "data.md#tokenizer",
    "tracker": "tracking.md",
}


class Section(NamedTuple):
    """A heading of a page with the text below it, up to the next heading."""

    page: str
    anchor: str  # "" for the first heading of a page
    title: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}#{self.anchor}" if self.anchor else self.page


def pages() -> list[str]:
    """Every page by its path below docs/."""
    return sorted(file.relative_to(DOCS).as_posix() for folder in _folders() for file in folder.glob("*.md"))


@cache
def sections(page: str) -> tuple[Section, ...]:
    """A page by its headings. Raises OSError where there is no such page."""
    found: list[Section] = []
    title, lines, fenced = "", [], False
    for line in [*(DOCS / page).read_text(encoding="utf-8").splitlines(), "# "]:
        fenced = fenced != line.startswith("```")
        heading = None if fenced else re.match(r"#+ (.*)", line)
        if heading is None:
            lines.append(line)
            continue
        if title:
            found.append(Section(page, anchor(title) if found else "", title, "\n".join(lines).strip("\n")))
        title, lines = heading[1].strip(), []
    return tuple(found)


def anchor(title: str) -> str:
    """As GitHub and mkdocs make it of a heading without two marks in a row."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def about(key: str) -> str | None:
    """The page#anchor that tells of a key such as `engine.precision`; None where no page does."""
    parts = key.split(".")
    beginnings = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((ABOUT[one] for one in beginnings if one in ABOUT), None)


def _folders() -> list[Path]:
    """Of the documentation, with that itself; a link is followed by its name only."""
    return [DOCS, *(folder for folder in DOCS.rglob("*") if folder.is_dir())]
