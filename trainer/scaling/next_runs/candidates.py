"""Runs that could be made next, and the words that make them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.books.branch import read_branch
from trainer.run_folder import RunFolder, read_entries
from trainer.scaling.fit.table import Run, Table

LENGTHS = 2.0  # how far beyond the tokens a parameter of the runs candidates may go
NOT_REPEATED = ("budget.", "budget=", "seed=", "run.id=", "branch", "resume=")  # words that belong to one run

SHAPE = (  # words beside which no other size can be asked for
    *("model.size=", "model.width=", "model.depth=", "model.heads=", "model.kv_heads=", "model.head_size="),
    *("model.ffn_width=", "model.decoder_depth=", "model.generator_width=", "model.generator_depth="),
)


@dataclass(frozen=True)
class Candidate:
    """A run that could be made: at a place where there are runs, a further seed."""

    parameters: float
    tokens: float
    seed: int
    like: Run  # the nearest run so far: its settings are taken over


def candidates(table: Table, place: tuple[float, float] | None) -> list[Candidate]:
    """Sizes of the runs, and sizes between the largest and the one asked about, times lengths: powers of two between
    the shortest run and the one asked about. Places that the runs have are candidates for another seed."""
    sizes, tokens = np.unique(table.column("parameters")), table.column("tokens")
    ratio = tokens / table.column("parameters")
    longest = max(tokens.max(), place[1] if place else 0.0)
    lengths = np.exp2(np.arange(np.floor(np.log2(tokens.min())), np.log2(longest) + 0.5))
    larger = np.array([])
    if place and place[0] > sizes.max():
        count = int(np.ceil(np.log2(place[0] / sizes.max())))
        larger = np.geomspace(sizes.max(), place[0], count + 1)[1:]
    grid = [(float(n), float(d)) for n in (*sizes, *larger) for d in lengths]
    low, high = ratio.min() / LENGTHS, max(ratio.max(), place[1] / place[0] if place else 0.0) * LENGTHS
    made = {(run.parameters, run.tokens) for run in table.runs}
    places = [*made, *((n, d) for n, d in grid if low <= d / n <= high and not _near(n, d, made))]
    return [_candidate(table, n, d) for n, d in sorted(places)]


def _near(parameters: float, tokens: float, made: set[tuple[float, float]]) -> bool:
    """Whether a run of this size is nearly as long."""
    return any(n == parameters and abs(np.log(tokens / d)) < 0.2 for n, d in made)


def _candidate(table: Table, parameters: float, tokens: float) -> Candidate:
    here = [run for run in table.runs if (run.parameters, run.tokens) == (parameters, tokens)]
    seeds = [run.seed for run in here if run.seed is not None]
    seed = max(seeds) + 1 if seeds else len(here)
    like = min(
        table.runs,
        key=lambda run: (abs(np.log(run.parameters / parameters)), abs(np.log(run.tokens / tokens))),
    )
    return Candidate(parameters, tokens, seed, like)


def words_of(candidate: Candidate, root: Path, known_size: bool) -> list[str]:
    """What `isoflop sweep` takes to make it: the words of the nearest run, with this size, length and seed. known_size:
    whether that run is of this size."""
    given = started_with(root / candidate.like.name) if root.is_dir() else []
    kept = [word for word in given if not word.lstrip("+").startswith(NOT_REPEATED)]
    if not known_size or not given:
        kept = [word for word in kept if not word.lstrip("+").startswith(SHAPE)]
        kept.append(f"model.size={round(candidate.parameters)}")
    return [*kept, f"budget.tokens={round(candidate.tokens)}", f"seed={candidate.seed}"]


def started_with(run: Path) -> list[str]:
    """The words that a run was started with, of a branch those of its trunk first; none where its folder keeps none."""
    entries, branch = read_entries(RunFolder(run).overrides), read_branch(run)
    own = [str(word) for word in (entries[0].get("overrides") or [])] if entries else []
    if branch is None:
        return own
    beside = run.parents[1] / str(branch["run"])  # where the root was moved with both
    trunk = beside if beside.is_dir() else Path(str(branch["path"]))
    of_trunk = started_with(trunk) if trunk.resolve() != run.resolve() else []
    return list({word.partition("=")[0]: word for word in (*of_trunk, *own)}.values()) if of_trunk else []
