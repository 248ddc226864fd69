"""The Dockerfile: no builder is needed to see that what it copies is there, and is all that the package is made of."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "Dockerfile").read_text().splitlines()
COPIED = [word for line in LINES if line.startswith("COPY ") for word in line.split()[1:-1]]
NAMED = ("README.md", "LICENSE", "pyproject.toml", "constraints.txt")


def test_what_is_copied_is_there_and_not_left_out() -> None:
    assert [name for name in COPIED if not (ROOT / name).exists()] == []
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == set(COPIED)


def test_it_is_all_that_the_package_is_made_of() -> None:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.removesuffix("*") for name in found} | {"docs", *NAMED} == set(COPIED)
    assert (ROOT / "trainer" / "docs").resolve() == ROOT / "docs"


def test_torch_comes_first_and_by_its_exact_version() -> None:
    runs = [line for line in LINES if line.startswith("RUN pip install")]
    assert "grep '^torch==' constraints.txt" in runs[0] and "-c constraints.txt" in runs[1]
    assert re.search(r"^torch==[\d.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    extras = re.search(r'ARG EXTRAS="\[([^]]+)\]"', "\n".join(LINES))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras is not None and set(extras[1].split(",")) <= set(known)


def test_both_devices_are_stages_and_the_last_one_is_nobodys_root() -> None:
    assert {line.split()[-1] for line in LINES if line.startswith("FROM ") and " AS " in line} == {"cpu", "cuda"}
    last = LINES[LINES.index("FROM ${DEVICE}") :]
    assert "USER 1000" in last and last.index("USER 1000") > max(n for n, line in enumerate(last) if "RUN" in line)
