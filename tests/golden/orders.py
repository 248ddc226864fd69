"""Hashes of the batches that every objective preset reads, from every packing and every kind of corpus."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from tests.golden import text
from tests.golden.files import HERE, read_json, write_json
from tests.golden.product import Config, Samples, UserError, prepare
from tests.golden.science import assembled, options, words

FILE = HERE / "orders.json"
BATCH, STEPS, LENGTH = 16, 1000, 32
FAR = 10**6

TEXT: dict[str, Any] = {"name": "text", "path": ["corpus"]}
SOURCES: dict[str, Any] = {
    name: {"path": [f"corpus/{name}.jsonl"], "language": name, "weight": weight}
    for name, weight in (("first", 3.0), ("second", 1.0))
}
STAGES = [
    {"tokens": 8 * BATCH * LENGTH, "weights": {"first": 1.0, "second": 2.0}},
    {"tokens": 8 * BATCH * 48, "sequence_length": 48},
    {"weights": {"second": 1.0}},
]
CAPPED: dict[str, Any] = {name: {**source, "epochs": 0.5} for name, source in SOURCES.items() if name == "second"}
CORPORA: dict[str, dict[str, Any]] = {
    "text": TEXT,
    "mixture": {"name": "mixture", "sources": SOURCES},
    "stages": {"name": "mixture", "sources": SOURCES, "stages": STAGES},
}
PACKINGS = ("packed", "padded", "best_fit")
# Keys beside the presets that change what is read: (objective preset, corpus) -> more configuration.
MORE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "boundaries=false": ("causal", "text", {"data": {"boundaries": False}}),
    "memory=16": ("permuted_lm", "text", {"objective": {"memory": 16}}),
    "masks=static": ("masked_lm", "text", {"objective": {"masks": "static", "copies": 3}}),
    "alpha=0.3": (
        "causal",
        "mixture",
        {"data": {"alpha": 0.3, "sources": {name: {**one, "weight": None} for name, one in SOURCES.items()}}},
    ),
    "epochs=0.5": ("causal", "mixture", {"data": {"sources": {**SOURCES, **CAPPED}}, "budget": {"steps": 200}}),
    "one stage longer": ("causal", "text", {"data": {"stages": [{"tokens": 1024}, {"sequence_length": 64}]}}),
    "seed=1": ("masked_lm", "text", {"seed": 1}),
    **{
        f"noises=[{noise}]": ("bart", "text", {"objective": {"noises": [noise]}})
        for noise in ("token_masking", "token_deletion", "document_rotation")
    },
}


# Objectives whose packed texts lay end to end in 0.1.0: it is what its runs go on with.
GLUED = (
    *("masked_lm", "whole_word", "replaced_token", "permuted_lm"),
    *("mass", "bart", "mbart", "span_corruption", "ul2"),
)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@cache
def base(objective: str) -> dict[str, Any]:
    """The experiment of an objective preset, as plain data."""
    return assembled(words("objective", objective)).model_dump(mode="json")


def config(objective: str, corpus: str, packing: str, more: dict[str, Any] | None = None) -> Config:
    """Raises ValidationError where these do not fit together."""
    plain = base(objective)
    data = {"sequence_length": LENGTH, "held_out": 0.1, "packing": packing, **CORPORA[corpus]}
    changed: dict[str, Any] = {
        "data": data,
        "tokenizer": {"path": text.TOKENIZER.name},
        "optim": {"batch_size": BATCH},
        "budget": {"steps": STEPS},
        "run": {"cache": "cache"},
    }
    for group, keys in (more or {}).items():
        changed[group] = {**changed.get(group, {}), **keys} if isinstance(keys, dict) else keys
    for group in ("model", "objective"):
        changed[group] = {**plain[group], **changed.get(group, {})}
    return Config.model_validate(changed)


def digest(batch: dict[str, np.ndarray]) -> str:
    """sha256, 16 digits: over every array's name, type, shape and bytes."""
    sums = hashlib.sha256()
    for name, array in sorted(batch.items()):
        sums.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        sums.update(np.ascontiguousarray(array).tobytes())
    return sums.hexdigest()[:16]


def hashes(one: Config) -> dict[str, str]:
    """Of the first batch, of the one that ends the first epoch and the one that begins the second, of one far away, of
    every later stage's first, and of the held-out text."""
    prepared = prepare(one)
    train, held_out = Samples(prepared, one, "train"), Samples(prepared, one, "held_out")
    places = {"first": 0, "far": FAR}
    if one.data.stages:
        places |= {f"stage {stage.number}": stage.first * BATCH for stage in one.curriculum.stages[1:]}
    else:
        last = len(train) // BATCH * BATCH  # a batch of both epochs, unless the epoch ends with a batch
        places |= {"end of epoch": last - BATCH, "epoch 2": last, "later in epoch 2": last + BATCH}
    found = {place: digest(train.batch(first, first + BATCH)) for place, first in places.items()}
    return {**found, "held out": digest(held_out.batch(0, max(1, len(held_out))))}


def cases() -> Iterator[tuple[str, tuple[str, str, str, dict[str, Any]]]]:
    for objective in options("objective"):
        for corpus in CORPORA:
            for packing in PACKINGS:
                yield f"{objective} {corpus} {packing}", (objective, corpus, packing, {})
    for objective in GLUED:
        for corpus in CORPORA:
            yield (
                f"{objective} {corpus} packed boundaries=false",
                (objective, corpus, "packed", {"data": {"boundaries": False}}),
            )
    for name, (objective, corpus, more) in MORE.items():
        yield f"{objective} {corpus} packed {name}", (objective, corpus, "packed", more)


def build(folder: Path) -> dict[str, str]:
    """All hashes, from a corpus that is prepared in this empty folder; where keys do not fit together: refused."""
    text.place(folder)
    found: dict[str, str] = {}
    with working_in(folder):
        for name, case in cases():
            try:
                for place, value in hashes(config(*case)).items():
                    found[f"{name}: {place}"] = value
            except (UserError, ValidationError):
                found[name] = "refused"
    return found


def make(folder: Path) -> None:
    write_json(FILE, build(folder))


def golden() -> dict[str, str]:
    """The fixture. The test fails where it is missing."""
    return read_json(FILE, "orders")
