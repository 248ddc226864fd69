"""A new user's path from a clone to a model in transformers, word for word as the documentation has it, timed.

    scripts/newcomer                        # in a temporary folder: README's first run, the lab's ten minutes, ...
    scripts/newcomer --minutes 1 /tmp/new   # a tenth of all training; the folder is made, must be empty, and stays

Clones the repository that this script lies in (what is committed there) and follows README, docs/tutorial.md and
docs/lab.md with an empty HOME and only those of the caller's variables that say how to reach a package index (KEPT).
Prints a table: the seconds of every step, and what was seen. The first step that fails ends it: exit code 1 and one
line that names the step and the file with all that it said; the folder then stays.

NEWCOMER_VENV=<environment of Python> spares the download: its packages are used, with the clone in place of its
isoflop.
`--words` are added to every training and `--lab-words` to the lab, so that a test's are small.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = re.compile(r"PATH|LANG|LC_ALL|TERM|TMPDIR|PYTHON|PIP_.*|.*_proxy|.*_PROXY|SSL_CERT_.*|REQUESTS_CA_BUNDLE")
MINUTES = 10.0  # of the lab, for which the other trainings have the sizes of the pages
STEPS = 400  # of a training that nobody gave a budget
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Failed(Exception):
    """A step that did not do what the pages say, in one line."""


@dataclass
class Visit:
    """Where the newcomer is, and how much time there is."""

    folder: Path
    minutes: float
    words: list[str]  # added to every training
    lab_words: list[str]  # and to the lab
    environment: dict[str, str]
    step: str = ""
    seen: list[tuple[str, float, str]] = field(default_factory=list)  # step, seconds, what was seen

    @property
    def clone(self) -> Path:
        return self.folder / "isoflop"

    @property
    def log(self) -> Path:
        return self.folder / "logs" / f"{self.step.replace(' ', '-')}.txt"

    def budget(self) -> list[str]:
        """The words of a shorter training; none where there is time for that of the pages."""
        return [] if self.minutes >= MINUTES else [f"budget.steps={max(8, round(STEPS * self.minutes / MINUTES))}"]

    def type(self, *command: str, inside: str = "isoflop") -> str:
        """Standard output of a command that is typed in the clone, or elsewhere `inside` the folder; what it says goes
        to the log too. Raises Failed."""
        with open(self.log, "a") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            process = subprocess.Popen(
                command, cwd=self.folder / inside, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
            assert process.stdout is not None
            lines = []
            for line in process.stdout:  # into the log as they come: a training can be followed there
                lines.append(line)
                log.write(line)
                log.flush()
            code = process.wait()
        if code:
            last = next((line for line in reversed(self.log.read_text().splitlines()) if line.strip()), "")
            raise Failed(f"{Path(command[0]).name} {command[-1]}: exit code {code}: {last.strip()[:200]}")
        return "".join(lines)

    def isoflop(self, *words: str) -> str:
        return self.type(".venv/bin/isoflop", *words)


# --- the steps: what is typed, and what is then seen ---


def clone(visit: Visit) -> str:
    visit.type("git", "clone", "--quiet", str(ROOT), str(visit.clone), inside=".")
    return f"commit {visit.type('git', 'log', '-1', '--format=%h').strip()}"


def set_up(visit: Visit) -> str:
    if given := os.environ.get("NEWCOMER_VENV"):
        _lend(visit, Path(given).absolute())
    visit.type("./scripts/setup")
    return ", ".join(visit.isoflop("--version").splitlines())


def train(visit: Visit) -> str:
    said = visit.type("./scripts/train", "run.id=first", *visit.budget(), *visit.words)
    return _line(said, "finished after step")


def report(visit: Visit) -> str:
    page = _one(visit.clone, "runs/*/first/report.html")
    facts = _look(visit, page.as_uri())
    visit.isoflop("report", "first")
    return f"{page.stat().st_size / 1e3:.0f} kB, {facts}"


def lab(visit: Visit) -> str:
    said = visit.isoflop("lab", f"minutes={visit.minutes:g}", *visit.words, *visit.lab_words)
    page = _one(visit.clone, "runs/lab-*/lab.md")
    return f"{_line(said, 'same endings')}; {page.name}"


def own_text(visit: Visit) -> str:
    """docs/how-to/own-bert.md, here with the pages of the documentation as the text."""
    words = ["experiment=bert-minutes", "data=text", "data.path=docs/*.md", "run.experiment=own"]
    said = visit.isoflop("train", *words, "run.id=mine", *visit.budget(), *visit.words)
    filled = visit.isoflop("generate", "mine", "prompt=The <mask> of a run is not stated.")
    return f"{_line(said, 'finished after step')}; wrote {' '.join(filled.split())!r}"


def export(visit: Visit) -> str:
    visit.type(".venv/bin/python", "-m", "pip", "install", "--quiet", "isoflop[hub]")
    for run in ("first", "mine"):
        visit.isoflop("export", run, f"to={visit.folder / 'exported' / run}")
    return ", ".join(sorted(file.name for file in (visit.folder / "exported" / "first").iterdir()))


def transformers(visit: Visit) -> str:
    """In a process that knows nothing of ours, in a folder of its own."""
    python = str(visit.clone / ".venv/bin/python")
    said = visit.type(python, "-I", "-c", PIPELINES, inside="exported")
    return " ".join(said.split())


def doctor(visit: Visit) -> str:
    return visit.isoflop("doctor").splitlines()[-1]


def find_help(visit: Visit) -> str:
    screen = visit.isoflop("--help").splitlines()
    listed = visit.isoflop("help", "verbs").splitlines()
    found = visit.isoflop("help", "learning", "rate")
    if "optim.lr" not in found:
        raise Failed("isoflop help learning rate: does not find optim.lr")
    verbs = sum(line.startswith("  ") for line in listed)
    return f"{len(screen)} lines, {verbs} verbs, words find {len(found.splitlines())} lines"


def tests(visit: Visit) -> str:
    """README's second line, on one file: all of it takes half an hour."""
    said = visit.type("./scripts/test", "-q", "-p", "no:cacheprovider", "tests/trainer/cli/test_version.py")
    return said.strip().splitlines()[-1]


def board(visit: Visit) -> str:
    words = [str(visit.clone / ".venv/bin/isoflop"), "board", "runs"]
    with open(visit.log, "a") as log:
        server = subprocess.Popen(
            words, cwd=visit.clone, env=visit.environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            first = server.stdout.readline() if server.stdout else ""
            address = re.search(r"http://127\.0\.0\.1:\d+/", first)
            if address is None:
                raise Failed(f"isoflop board: no address: {first.strip() or visit.log.read_text().strip()[-200:]}")
            count = re.search(r"[\d,]+ runs?", first)
            return f"{count[0] if count else first.strip()}, {_look(visit, address[0], 'canvas, .bk-Figure')}"
        finally:
            server.terminate()
            server.wait()


STEPS_OF_A_VISIT: dict[str, Callable[[Visit], str]] = {
    "clone": clone,
    "set-up": set_up,
    "first run": train,
    "lab": lab,
    "own text": own_text,
    "export": export,
    "transformers": transformers,
    "doctor": doctor,
    "help": find_help,
    "tests": tests,
    "report": report,
    "board": board,
}

PIPELINES = """
import sys
from transformers import pipeline
said = pipeline("text-generation", "first")("def ", max_new_tokens=8, do_sample=False)[0]["generated_text"]
filled = pipeline("fill-mask", "mine")("The <mask> of a run is not stated.", top_k=1)[0]["token_str"]
ours = {"isoflop", "trainer", "kernels", "launch", "conf"} & {*sys.modules}
assert not ours, f"imported of ours: {ours}"
print(f"text-generation {said!r}, fill-mask {filled!r}")
"""

BROWSER = """
import json, sys
from playwright.sync_api import sync_playwright
chromium, address, wanted = sys.argv[1:]
errors, asked = [], []
with sync_playwright() as play:
    page = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
    page.on("console", lambda one: errors.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector(wanted, state="attached", timeout=60_000)
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0", timeout=60_000)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
own = (address, "data:", "blob:")
print(json.dumps({"paint": paint, "errors": errors, "elsewhere": [one for one in asked if not one.startswith(own)]}))
"""


def _look(visit: Visit, address: str, wanted: str = "body") -> str:
    """Open a page in a headless Chromium until `wanted` (CSS) is there. Raises Failed for errors in its console and for
    requests to elsewhere."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return "not looked at: no Chromium here"
    python = str(visit.clone / ".venv/bin/python")
    facts = json.loads(visit.type(python, "-I", "-c", BROWSER, browser, address, wanted).splitlines()[-1])
    if wrong := [*facts["errors"], *facts["elsewhere"]]:
        raise Failed(f"{address}: {wrong[0][:200]}")
    return f"first paint {facts['paint']:.0f} ms, no error in the console, nothing asked of elsewhere"


def _one(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise Failed(f"{len(found)} files {pattern} where one is promised")
    return found[0]


def _line(said: str, start: str) -> str:
    """The line of an output that begins with these words. Raises Failed where there is none."""
    found = [" ".join(line.split()) for line in said.splitlines() if line.startswith(start)]
    if not found:
        raise Failed(f"no line that begins with {start!r} was printed")
    return found[-1]


def _lend(visit: Visit, given: Path) -> None:
    """An environment with the clone in it and the packages of another one, stamped as scripts/setup stamps its own."""
    packages = next(iter(given.glob("lib/python*/site-packages")), None)
    if packages is None:
        raise Failed(f"NEWCOMER_VENV: {given}: no environment of Python")
    venv = visit.clone / ".venv"
    visit.type(str(given / "bin/python"), "-m", "venv", "--without-pip", str(venv))
    (own,) = venv.glob("lib/python*/site-packages")
    (own / "lent.pth").write_text(f"{packages}\n")
    pip = (str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation")
    visit.type(*pip, "--no-index", "-e", ".")
    stamp = visit.type("bash", "-c", "cat pyproject.toml constraints.txt | cksum")
    for extras in ("", "test"):
        (venv / f".installed{extras}").write_text(stamp)


# --- the visit ---


def walk(visit: Visit) -> None:
    """All steps in their order. Raises Failed at the first that is not as the pages say."""
    for number, (name, step) in enumerate(STEPS_OF_A_VISIT.items(), 1):
        print(f"{number}/{len(STEPS_OF_A_VISIT)} {name} ...", file=sys.stderr, flush=True)
        visit.step = name
        began = time.perf_counter()
        try:
            seen = step(visit)
        except (OSError, ValueError) as error:
            raise Failed(" ".join(f"{type(error).__name__}: {error}".split())) from None
        visit.seen.append((name, time.perf_counter() - began, seen))


def table(visit: Visit) -> str:
    rows = [(name, f"{seconds:.1f}", seen) for name, seconds, seen in visit.seen]
    rows.append(("all", f"{sum(seconds for _, seconds, _ in visit.seen):.1f}", f"--minutes {visit.minutes:g}"))
    wide = max(len(name) for name, *_ in rows)
    head = f"{'step':<{wide}}  {'seconds':>8}  seen"
    return "\n".join([head, *(f"{name:<{wide}}  {seconds:>8}  {seen}" for name, seconds, seen in rows)])


@contextlib.contextmanager
def place(given: Path | None) -> Iterator[Path]:
    """The folder of the visit: the given one, or a temporary one that goes when all went well."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="newcomer-"))
    yield folder
    shutil.rmtree(folder)


def above_zero(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} given, a number above 0 wanted")


def main() -> int:
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("scripts/newcomer", description=__doc__, formatter_class=about)
    parser.add_argument("--minutes", type=above_zero, default=MINUTES, help="of the lab; other trainings follow it")
    parser.add_argument("--words", default="", help="added to every training, e.g. 'model.width=32 data=text'")
    parser.add_argument("--lab-words", default="", help="added to the lab, e.g. 'grid.seeds=[0]'")
    parser.add_argument("folder", type=Path, nargs="?", help="a new or empty one, which stays; default: temporary")
    given = parser.parse_args()
    if given.folder is not None and given.folder.exists() and (given.folder.is_file() or any(given.folder.iterdir())):
        parser.error(f"{given.folder}: an empty folder, or none yet, wanted")
    with place(given.folder) as folder:
        environment = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}
        environment |= {"HOME": str(folder / "home")}
        for name in ("home", "logs"):
            (folder / name).mkdir()
        visit = Visit(folder, given.minutes, given.words.split(), given.lab_words.split(), environment)
        failed = None
        try:
            walk(visit)
        except Failed as error:
            failed = error
        print(table(visit), flush=True)
        if failed is not None:
            print(f"newcomer: {visit.step}: {failed}; all that it said: {visit.log}", file=sys.stderr)
            sys.exit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
