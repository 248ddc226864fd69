"""The wheel, installed into an environment of its own: nothing is read from the source tree."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("isoflop", "trainer", "kernels", "launch", "conf")
FOREIGN = ("kernels", "trainer", "launch", "conf")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed packages of our names, which end whoever imports them with exit code 99."""
    folder = tmp_path_factory.mktemp("foreign")
    for name in FOREIGN:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit(99)\n")
    return folder


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory, later: Path) -> Path:
    """Of an environment with the wheel; what it needs, and the foreign packages, come later on sys.path."""
    place = tmp_path_factory.mktemp("wheel")
    tree = place / "tree"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tree)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    quiet = ["--quiet", "--no-deps"]
    subprocess.run([*pip, "wheel", *quiet, "--no-build-isolation", "--wheel-dir", place, tree], check=True)
    shutil.rmtree(tree)
    environment = place / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    (wheel,) = place.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", *quiet, wheel], check=True)
    ours = [folder for folder in sys.path if folder != str(ROOT) and "-packages" in folder] or site.getsitepackages()
    (installed,) = environment.glob("lib/python*/site-packages")
    (installed / "needs.pth").write_text("\n".join([*ours, str(later)]))
    return environment / "bin"


@pytest.fixture(scope="module")
def plugin(bin_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the directory of configurations beside examples/plugin, which is installed as a distribution."""
    place = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "examples" / "plugin", place / "tree", ignore=shutil.ignore_patterns("__pycache__", "build"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", bin_folder / "python"]
    offline = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "install", *offline, place / "tree"], check=True)
    configs = (place / "tree" / "configs").rename(place / "configs")
    shutil.rmtree(place / "tree")
    yield configs
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "my-plugin"], check=True)


@pytest.fixture
def run(bin_folder: Path, tmp_path: Path) -> Run:
    """A program of that environment, in the folder of a project with files of our packages' names."""
    for name in ("trainer.py", "kernels/__init__.py", "launch/__init__.py", "conf/__init__.py"):
        file = tmp_path / "project" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("raise SystemExit(99)\n")

    def start(program: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [bin_folder / program, *words],
            cwd=tmp_path / "project",
            env={**kept, **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return start


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_trains_goes_on_and_reports(run: Run, tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, "model.depth=1", "budget.steps=2", "evaluation.every_steps=null"]
    said(run("isoflop", "train", *words, "run.id=alone"))
    said(run("isoflop", "train", *words, "launch.processes=2", "run.id=several"))
    (folder,) = (tmp_path / "project").glob("runs/*/several")
    said(run("isoflop", "train", f"resume={folder}", "budget.steps=3", "new_science=true"))
    assert said(run("isoflop", "generate", str(folder), "prompt=ab", "tokens=4", "--json"))
    assert "the price tag" in said(run("isoflop", "report", str(folder)))
    assert (folder / "report.html").is_file()
    assert '"git": null' in "".join(file.read_text() for file in folder.rglob("*.json"))


def test_torchrun_beside_foreign_packages(run: Run, bin_folder: Path, tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, "model.depth=1", "budget.steps=2", "evaluation.every_steps=null", "run.id=there"]
    torchrun = ("-P", "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python")
    said(run("python", *torchrun, str(bin_folder / "isoflop"), "train", *words))
    (folder,) = (tmp_path / "project").glob("runs/*/there")
    assert (folder / "report.html").is_file()
    assert json.loads((folder / "environment.json").read_text())[0]["world_size"] == 2


def test_an_installed_plugin_beside_the_wheel(run: Run, tiny: list[str], plugin: Path, tmp_path: Path) -> None:
    """Listed, planned, trained, and resumed on two processes after its directory of configurations has gone."""
    configs = shutil.copytree(plugin, tmp_path / "configs")
    words = [
        *tiny,
        "model.depth=1",
        "evaluation.every_steps=null",
        "--config-dir",
        str(configs),
        "experiment=backwards",
    ]
    helped = said(run("isoflop", "train", "--help"))
    assert "optim.mean_share" in helped and "(my-plugin 0.1)" in helped.splitlines()[-1]
    assert "FLOP" in said(run("isoflop", "plan", *words))
    said(run("isoflop", "train", *words, "budget.steps=2", "run.id=mine"))
    shutil.rmtree(configs)
    (folder,) = (tmp_path / "project").glob("runs/*/mine")
    said(run("isoflop", "train", f"resume={folder}", "budget.steps=4", "new_science=true", "launch.processes=2"))
    assert [row.partition(",")[0] for row in (folder / "losses.csv").read_text().split()] == ["step", *"1234"]
    assert (folder / "slow_steps.1.txt").is_file()
    (entry,) = json.loads((folder / "plugins.json").read_text())
    assert (entry["distribution"], entry["version"], entry["used"]) == ("my-plugin", "0.1", True)
    assert "my-plugin 0.1" in (folder / "report.html").read_text()


def test_the_wheel_holds_every_configuration(run: Run) -> None:
    there = {file.relative_to(ROOT / "conf").with_suffix("").as_posix() for file in (ROOT / "conf").rglob("*/*.yaml")}
    lines = [line.partition(": ") for line in said(run("isoflop", "plan", "--info", "options")).splitlines()]
    assert {f"{group}/{name}" for group, _, names in lines for name in names.split(", ")} == there
    assert "FLOP" in said(run("isoflop", "plan", "experiment=encoder-mini"))
    assert "instructions" in said(run("isoflop", "plan", "task=instructions", "--cfg"))
    said(run("isoflop", "new", "study"))
    assert "mine" in said(run("isoflop", "plan", "--config-dir", "study/configs", "experiment=small"))


def test_the_wheel_has_the_sets_of_the_tasks_and_its_types(bin_folder: Path) -> None:
    (installed,) = bin_folder.parent.glob("lib/python*/site-packages")
    tracked = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [name for name in tracked.stdout.splitlines() if not (installed / name).exists()] == []


def test_the_wheel_has_the_pages(run: Run) -> None:
    there = sorted(file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md"))
    folder, *lines = said(run("isoflop", "help", "pages")).splitlines()
    assert [line.split()[0] for line in lines] == there and "site-packages" in folder
    assert said(run("isoflop", "help", "launch.md#slurm")).startswith("SLURM\n")


def test_isoflop_from_python(run: Run, tmp_path: Path, tiny: list[str]) -> None:
    program = (
        "import isoflop, sys\n"
        "run = isoflop.train(isoflop.compose(sys.argv[1:]), quiet=True)\n"
        "print(run.status, len(run.metrics()['loss']), run.config.model.depth)\n"
    )
    (tmp_path / "script.py").write_text(program)
    words = [*tiny, "model.depth=1", "budget.steps=2", "evaluation.every_steps=null", "launch.restarts=1"]
    assert said(run("python", str(tmp_path / "script.py"), *words)) == "finished 2 1\n"


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done
    return done.stderr


def test_what_is_shadowed_is_told_in_one_line(run: Run, bin_folder: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    assert f"'trainer' is not isoflop's ({project}/trainer.py)" in one_line(run("python", "-m", "isoflop", "plan"))
    for name in FOREIGN:
        file = tmp_path / "early" / name / "__init__.py"
        file.parent.mkdir(parents=True)
        file.touch()
        told = one_line(run("isoflop", "plan", PYTHONPATH=str(tmp_path / "early")))
        assert f"the package {name!r} is not isoflop's ({file}" in told
        shutil.rmtree(file.parent)
    (installed,) = bin_folder.parent.glob("lib/python*/site-packages")
    for name in FOREIGN:
        first = installed / name / "__init__.py"
        ours = first.read_text()
        first.write_text("raise SystemExit(99)\n" if name == "trainer" else "")  # as pip does, and tells nobody
        told = one_line(run("isoflop", "plan"))
        first.write_text(ours)
        assert f"the package {name!r} is not isoflop's any more ({first} is overwritten" in told
    assert run("isoflop", "plan").returncode == 0
