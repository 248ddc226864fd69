"""Code stands in one place: stretches of equal lines in two places are found, and do not become more."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LENGTH = 6  # lines of code from which on a repetition counts
DATA = ("kernels/table.py",)  # measured tilings: rows that are equal by chance
PACKAGES = ("trainer", "launch", "kernels")
# As many as there are. Triton kernels repeat their signatures and the head of their loops: there is no sharing them.
WITHIN_KERNELS, ELSEWHERE = 12, 4

Place = tuple[str, int]  # a file, and the index of a line of its code


def code(text: str) -> list[tuple[int, str]]:
    """(number, line with single spaces) of the lines of code: no comments, docstrings or imports."""
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= {*range(node.lineno, (node.end_lineno or 0) + 1)}
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            left_out |= {*range(node.lineno, (node.end_lineno or 0) + 1)}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = {token.start[0]: token.start[1] for token in tokens if token.type == tokenize.COMMENT}
    lines = [(n, " ".join(line[: comments.get(n)].split())) for n, line in enumerate(text.splitlines(), 1)]
    return [(n, line) for n, line in lines if line and n not in left_out]


def repetitions(root: Path, *packages: str) -> Iterator[str]:
    """A line for each longest stretch that stands in two places of these packages."""
    paths = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
    files = {name: code(path.read_text()) for path in paths if (name := str(path.relative_to(root))) not in DATA}
    places: dict[tuple[str, ...], list[Place]] = defaultdict(list)
    for name, lines in files.items():
        for index in range(len(lines) - LENGTH + 1):
            places[tuple(line for _, line in lines[index : index + LENGTH])].append((name, index))
    pairs = {pair for equal in places.values() for pair in combinations(equal, 2)}
    for (first, i), (second, j) in sorted(pairs):
        if ((first, i - 1), (second, j - 1)) in pairs:
            continue  # within a longer one
        length = LENGTH
        while ((first, i + length - LENGTH + 1), (second, j + length - LENGTH + 1)) in pairs:
            length += 1
        yield f"{length} lines: {first}:{files[first][i][0]} and {second}:{files[second][j][0]}"


def test_no_more_code_stands_twice() -> None:
    found = list(repetitions(ROOT, *PACKAGES))
    kernels = [line for line in found if line.count("kernels/") == 2]
    for some, allowed in ((kernels, WITHIN_KERNELS), ([line for line in found if line not in kernels], ELSEWHERE)):
        listed = "\n".join(sorted(some, key=lambda line: -int(line.split()[0])))
        assert len(some) <= allowed, f"{len(some)} where {allowed} were; let one place have it:\n{listed}"


def test_what_counts_as_a_repetition(tmp_path: Path) -> None:
    """Spaces, comments and docstrings make no difference; five lines are few enough to stand twice."""
    (tmp_path / "p").mkdir()
    lines = [f"x{n} = call({n}, {n})" for n in range(7)]
    (tmp_path / "p" / "a.py").write_text('"""A."""\n' + "\n".join(lines) + "\n")
    (tmp_path / "p" / "b.py").write_text("if True:\n" + "\n\n".join(f"    {line}  # why" for line in lines) + "\n")
    (tmp_path / "p" / "c.py").write_text("\n".join([*lines[:5], "y = 1"]) + "\n")
    assert list(repetitions(tmp_path, "p")) == ["7 lines: p/a.py:2 and p/b.py:2"]
