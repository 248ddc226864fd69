"""Parallel text: the same text in several languages, as pairs of two of them (`data=parallel`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import combinations
from typing import Any

from trainer.utils.errors import nearest

LANGUAGE = re.compile(r"[A-Za-z0-9_]{1,32}")  # a pair is named by its two languages with a hyphen between them


def language_pairs(languages: Iterable[str], pivot: str | None) -> dict[str, tuple[str, str]]:
    """Name of a pair, its languages in alphabetical order -> its two languages: every two, or with a pivot each other
    one with it, which stands first."""
    pairs = [pair for pair in combinations(sorted(languages), 2) if pivot is None or pivot in pair]
    return {f"{a}-{b}": (b, a) if b == pivot else (a, b) for a, b in pairs}


def parallel_misfits(data: Any) -> list[str]:
    """What is wrong with the parallel text of the group `data`: a line for each."""
    name, parallel, pivot, sources = data.name, data.parallel, data.pivot, data.sources
    changed = data.parallel_share != 0.5
    if name != "parallel":
        given = {"parallel": bool(parallel), "pivot": pivot is not None, "parallel_share": changed}
        return [f"{key}: only data=parallel reads it; add data=parallel" for key, there in given.items() if there]
    wrong = []
    if data.path:
        wrong.append("path: the texts of data=parallel stand in data.parallel")
    if changed and not sources:
        wrong.append("parallel_share: without data.sources all samples are of data.parallel; leave it")
    if len(parallel) < 2:
        has = f"{next(iter(parallel))} alone is given" if parallel else "none is given"
        wrong.append(
            f"parallel: data=parallel needs two languages or more, {has}; e.g. data.parallel.en=en/ "
            "data.parallel.de=de/, folders with pages of the same names"
        )
    wrong += [
        f"parallel.{language}: {language!r} names no language; letters, digits and _ wanted, as in de or zh_CN"
        for language in parallel
        if not LANGUAGE.fullmatch(language)
    ]
    wrong += [
        f"parallel.{language}: its text needs files, folders or globs"
        for language, paths in parallel.items()
        if not paths
    ]
    if pivot is not None and pivot not in parallel:
        near = nearest(pivot, parallel) or f"; there are {', '.join(parallel)}"
        wrong.append(f"pivot: data.parallel has no language {pivot!r}{near}")
    pairs = language_pairs(parallel, pivot)
    wrong += [
        f"sources.{source}: a pair of data.parallel has that name; choose another one"
        for source in sources
        if source in pairs
    ]
    return wrong


def key_of(data: Any, origin: str) -> str:
    """The key of the configuration that an origin of the corpus stands under."""
    return f"data.{'parallel' if origin in data.pairs else 'sources'}.{origin}"
