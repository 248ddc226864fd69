"""Imports run downwards, and in no circle; imports inside functions count."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("isoflop", "trainer", "kernels", "launch", "conf")

# From the top down: a package imports those on lower lines only, and others on its own line where no circle comes of
# it. `launch` lies between the command of a run and its ranks.
LEVELS = (
    ("isoflop",),
    ("__main__",),
    ("cli",),
    ("publish",),
    ("scaling",),
    ("run",),
    ("launch",),
    ("board",),
    ("hub", "report"),
    ("evaluate",),
    ("worker",),
    ("generation",),
    ("training",),
    ("tasks", "trackers", "meter"),
    ("data",),
    ("models", "objectives", "run_folder", "compose"),
    ("books",),
    ("config",),
    ("plugins",),
    ("descriptions", "tokenizer_files"),
    ("kernels",),
    ("utils", "conf"),
)
LOOSE_MODULES = 9  # at most, beside the packages of trainer/


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package in OURS:
        for file in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = file
    return found


def imported(file: Path) -> Iterator[str]:
    """Absolute names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative imports hide where they lead"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph(files: dict[str, Path]) -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports."""

    def module_of(name: str) -> str:
        while name and name not in files:
            name = name.rpartition(".")[0]
        return name

    return {module: {module_of(name) for name in imported(file)} - {"", module} for module, file in files.items()}


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that can reach each other (Tarjan 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_nodes: list[str] = []
    found = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        open_nodes.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in open_nodes:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            group = open_nodes[open_nodes.index(node) :]
            del open_nodes[open_nodes.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in arrows:
        if node not in number:
            visit(node)
    return found


def package_of(module: str) -> str:
    """A package of trainer/, a loose module of it, or another package of ours."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] or "__init__" if top == "trainer" else top


def package_arrows(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module, others in arrows.items():
        found.setdefault(package_of(module), set()).update(map(package_of, others))
    return {package: others - {package, "__init__"} for package, others in found.items()}


ARROWS = graph(modules())


def test_no_module_and_no_package_is_in_a_circle() -> None:
    assert circles(ARROWS) == []
    assert circles(package_arrows(ARROWS)) == []


@pytest.mark.parametrize(
    ("arrows", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, [["a", "b", "c"]]),
        ({"a": {"b"}, "b": {"a"}, "c": {"d", "a"}, "d": {"c"}}, [["a", "b"], ["c", "d"]]),
    ],
)
def test_circles_are_found(arrows: dict[str, set[str]], found: list[list[str]]) -> None:
    assert sorted(circles(arrows)) == found


def test_every_package_has_its_level_and_imports_downwards() -> None:
    level = {package: number for number, packages in enumerate(LEVELS) for package in packages}
    packages = package_arrows(ARROWS)
    assert packages.keys() - {"__init__"} == level.keys()
    upwards = {(one, other) for one in packages for other in packages[one] if level.get(one, 99) > level[other]}
    assert upwards == set()


def test_few_modules_are_loose() -> None:
    loose = sorted(file.name for file in (ROOT / "trainer").glob("*.py"))
    assert len(loose) <= LOOSE_MODULES, loose


def users(library: str) -> set[str]:
    """The modules and packages of trainer/ that import a library."""
    return {
        package_of(name) if package_of(name) != "training" else name.split(".")[2]
        for name, file in modules().items()
        if any(one.split(".")[0] == library for one in imported(file))
    }


def test_only_one_place_knows_deepspeed_and_one_knows_hydra() -> None:
    assert users("deepspeed") == {"engine"}
    assert users("hydra") == {"compose"}


@pytest.mark.parametrize(
    ("module", "not_loaded"),
    [
        ("trainer.config", ("torch", "numpy", "deepspeed", "hydra")),
        ("trainer.books", ("torch", "numpy", "deepspeed", "hydra")),
        ("trainer.compose", ("torch", "deepspeed")),
        ("isoflop", ("torch", "numpy", "deepspeed", "hydra")),
        ("trainer.data", ("torch", "deepspeed")),
        ("trainer.cli.main", ("torch", "numpy", "deepspeed", "hydra")),
    ],
)
def test_what_plans_loads_little(module: str, not_loaded: Iterable[str]) -> None:
    program = f"import sys, {module}; print(*[name for name in {list(not_loaded)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
