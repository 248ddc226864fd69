"""Where plugins come from, what they change for runs that do not use them, and what is wrong with them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.conftest import OPTIMIZER, Run
from trainer.config import Config
from trainer.descriptions.optimizers import OPTIMIZERS
from trainer.plugins import load
from trainer.utils.errors import UserError

SHAPE = ("model.depth=2", "model.width=64", "budget.steps=60")
DECLARED = """
[isoflop.optimizers]
plain = mine:Plain
"""
HASH = """
import sys, isoflop
from pathlib import Path
from trainer.config import load
isoflop.use(*sys.argv[1:])
config, frozen = isoflop.compose(["model.depth=2"]), Path("config.yaml")
if frozen.exists():
    assert load(frozen) == config
frozen.write_text(config.to_yaml())
print(config.science_hash(), "of_mine" in frozen.read_text(), config.optim.name)
"""


@pytest.mark.parametrize("word", ["plugins=mine", "plugins=[mine]", "plugins=./mine.py", "plugins=['mine.py']"])
def test_a_file_beside_you(word: str, isoflop: Run, write: Any) -> None:
    write()
    assert isoflop("plan", word, *SHAPE, "optim.name=plain").returncode == 0


def test_a_preset_that_nobody_wrote(isoflop: Run, write: Any) -> None:
    write()
    done = isoflop("plan", "plugins=mine", "optim=plain")
    assert done.stderr == "isoflop: optim=plain: there is no file optim/plain.yaml; optim.name=plain chooses it\n"


def test_a_file_of_another_folder_and_of_the_environment(
    isoflop: Run, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("deep/below/mine.py")
    assert isoflop("plan", f"plugins={file}", *SHAPE, "optim.name=plain").returncode == 0
    refused = isoflop("plan", *SHAPE, "optim.name=plain")
    assert refused.returncode == 2 and "optim.name: 'plain' given, 'adafactor', " in refused.stderr
    program = "import os; os.environ['ISOFLOP_PLUGINS'] = 'deep/below/mine.py'\nfrom trainer.cli.main import main\n"
    program += "import sys; code = main(sys.argv[1:]); print(os.environ['ISOFLOP_PLUGINS']); sys.exit(code)"
    done = isoflop("plan", *SHAPE, "optim.name=plain", program=program)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == str(file)  # for the processes that it starts


def test_an_installed_distribution_needs_no_word(isoflop: Run, installed: Any) -> None:
    site = installed(DECLARED, {"mine.py": OPTIMIZER})
    assert isoflop("plan", *SHAPE, "optim.name=plain", path=site).returncode == 0
    assert isoflop("plan", "plugins=mine", *SHAPE, "optim.name=plain", path=site).returncode == 0


def test_a_run_that_does_not_use_it_is_what_it_was(isoflop: Run, write: Any) -> None:
    more = '        names_of_mine: Paths = key(("a",), "not read")\n\ndef plain'
    write(text=OPTIMIZER.replace("\ndef plain", more).replace("import key", "import Paths, key"))
    without, beside, again = (isoflop(*words, program=HASH) for words in ([], ["mine"], []))
    assert without.stdout.split()[1:] == ["False", "adamw"], without.stderr
    assert without.stdout == beside.stdout == again.stdout, beside.stderr + again.stderr


def test_it_is_loaded_into_a_running_python(isoflop: Run, write: Any) -> None:
    write()
    program = """
import isoflop
from trainer.config import Config, OptimConfig
before = isoflop.compose(["model.depth=2"])
config = isoflop.compose(["model.depth=2", "optim.name=plain", "optim.dampening_of_mine=0.5"], plugins=["mine"])
assert type(config.optim) is OptimConfig and config.optim.dampening_of_mine == 0.5
assert Config().optim.dampening_of_mine == 0 and config.science_hash() != before.science_hash()
assert isoflop.compose(["model.depth=2"]).science_hash() == before.science_hash()
assert before.optim.dampening_of_mine == 0 and before.unread() == {} and "of_mine" not in before.to_yaml()
assert not hasattr(before.optim, "of_nobody")
isoflop.use("mine.py")
for wrong in (["optim.dampening_of_mine=-1.0", "optim.name=plain"], ["optim.dampening_of_mine=0.5"]):
    try:
        isoflop.compose(wrong)
    except isoflop.UserError as error:
        print(error)
open("mine.py", "a").write("# changed")
try:
    isoflop.use("mine.py")
except isoflop.UserError as error:
    print(error)
"""
    done = isoflop(program=program)
    first, second, third = done.stdout.splitlines() or [done.stderr] * 3
    assert first == "optim.dampening_of_mine: -1.0 given, greater than or equal to 0 wanted"
    assert second == "optim.dampening_of_mine: optim.name=adamw does not read it; plain does"
    assert third.endswith("mine.py changed since it was loaded; start Python again")


def test_a_run_says_what_it_used(isoflop: Run, installed: Any, tiny: list[str], tmp_path: Path) -> None:
    site = installed(DECLARED, {"mine.py": OPTIMIZER})
    words = [*tiny, "budget.steps=1", "optim.name=plain", "run.experiment=e", "run.id=one"]
    done = isoflop("train", *words, path=site)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "e" / "one"
    (entry,) = json.loads((run / "plugins.json").read_text())
    assert (entry["distribution"], entry["version"], entry["module"]) == ("mine-dist", "1.5", "mine")
    refused = isoflop("report", str(run))
    assert refused.returncode == 2 and refused.stderr.splitlines() == [
        f"isoflop: {run}/config.yaml: the run uses the plugin mine of mine-dist 1.5, which is not installed; "
        "install it, or add plugins=[mine]"
    ]
    assert isoflop("report", str(run), "plugins=site/mine.py").returncode == 0


def test_ranks_elsewhere_are_told(isoflop: Run, write: Any) -> None:
    file = write()
    for launcher in ("slurm", "torchrun"):
        shown = isoflop("launch", "plugins=mine", *SHAPE, f"launch={launcher}", "--dry-run")
        assert shown.returncode == 0, shown.stderr
        assert f"export ISOFLOP_PLUGINS={file}" in shown.stdout
    assert f"'plugins=[{file}]'" in isoflop("launch", "plugins=mine", *SHAPE, "--dry-run").stdout


def test_what_it_prints_stays_out_of_what_the_command_says(isoflop: Run, write: Any) -> None:
    write(text=f"print('mine')\n{OPTIMIZER}")
    done = isoflop("plan", "plugins=mine", *SHAPE, "optim.name=plain", "--json")
    assert json.loads(done.stdout)["rows"] and done.stderr == "mine\n"


def description(text: str) -> str:
    return OPTIMIZER.replace('name, help, implementation, states = "plain", "no state", "mine:plain", ()', text)


WRONG = {
    "raises": ("1 / 0", "plugins: {mine}: cannot be imported: ZeroDivisionError: division by zero ({mine}:1)"),
    "leaves": ("raise SystemExit(3)", "plugins: {mine}: cannot be imported: SystemExit: 3 ({mine}:1)"),
    "syntax": ("def (", "plugins: {mine}: cannot be imported: SyntaxError: invalid syntax (mine.py, line 1)"),
    "nothing": ("VALUE = 1", "plugins: {mine} brings nothing: it has no description of objectives, optimizers, "),
    "member": (
        description('name, help, implementation = "plain", "", "mine:plain"'),
        "mine.Plain lacks states: every optimizer states it",
    ),
    "name": (
        description('name, help, implementation, states = "adamw", "", "mine:plain", ()'),
        "mine.Plain: trainer.descriptions.optimizers.adamw.AdamW is the optimizer 'adamw' already; choose another name",
    ),
    "key": (
        OPTIMIZER.replace("dampening_of_mine", "beta1"),
        "mine.Plain: the key 'beta1' is another one than that of trainer.descriptions.optimizers.adamw.AdamW; "
        "inherit it from there, or choose another name",
    ),
    "own key": (
        OPTIMIZER.replace("dampening_of_mine", "lr"),
        "optimizer plain: the key 'lr' is another key of the same group already",
    ),
    "default": (
        OPTIMIZER.replace("key(0.0,", "key(...,"),
        "mine.Plain: the key 'dampening_of_mine': Field required; every key has a default",
    ),
    "odd": (
        OPTIMIZER.replace('"plain", "no state"', '3, "no state"'),
        "mine.Plain: its name is 3, a word of letters, digits and _ wanted",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_one_line(wrong: str, write: Any) -> None:
    text, line = WRONG[wrong]
    file = write(text=text)
    before = dict(OPTIMIZERS)
    with pytest.raises(UserError) as told:
        load([str(file)])
    assert str(told.value).startswith(line.format(mine=file)) and "\n" not in str(told.value)
    assert dict(OPTIMIZERS).keys() == before.keys() and "plain" not in OPTIMIZERS and "mine" not in sys.modules
    assert Config.model_validate({"optim": {"name": "adamw", "beta1": 0.5}}).optim.beta1 == 0.5


def test_what_was_imported_for_another_reason_stays() -> None:
    with pytest.raises(UserError, match="json brings nothing"):
        load(["json"])
    assert sys.modules["json"] is json


def test_the_command_says_it_before_anything_else(isoflop: Run, write: Any) -> None:
    text, line = WRONG["member"]
    write(text=text)
    done = isoflop("train", "plugins=mine")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"isoflop: {line}\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "[one/mine.py,two/mine.py]",
            "plugins: {here}/two/mine.py: another module is called mine ({here}/one/mine.py)",
        ),
        ("[one/mine.py,three/yours.py]", "yours.Plain: mine.Plain is the optimizer 'plain' already; choose another"),
        ("one/json.py", "plugins: {here}/one/json.py: another module is called json ("),
        ("nowhere", "plugins: nowhere: no module of this name; one that lies here is a file nowhere.py"),
        ("no/where.py", "plugins: no/where.py: no such file"),
        ("one/my-own.py", "plugins: {here}/one/my-own.py: 'my-own' is no name of a module"),
    ],
)
def test_names_that_are_taken_or_missing(words: str, line: str, isoflop: Run, write: Any, tmp_path: Path) -> None:
    for name in ("one/mine.py", "two/mine.py", "one/json.py", "one/my-own.py"):
        write(name)
    write("three/yours.py", OPTIMIZER.replace("mine:plain", "yours:plain"))
    done = isoflop("plan", f"plugins={words}")
    (said,) = done.stderr.splitlines()
    assert done.returncode == 2 and said.startswith("isoflop: " + line.format(here=tmp_path))


@pytest.mark.parametrize(
    ("points", "text", "line"),
    [
        (DECLARED.replace("optimizers", "optimisers"), OPTIMIZER, "no entry points 'isoflop.optimisers' (did you mean"),
        (DECLARED.replace(":Plain", ":Plane"), OPTIMIZER, "the entry point plain names Plane, which it does not have"),
        (DECLARED.replace("optimizers", "trackers"), OPTIMIZER, "plain leads to no description of trackers"),
        (DECLARED.replace("mine:", "gone:"), "", "no module of this name; install mine-dist again, or uninstall it"),
        (DECLARED, "1 / 0", "cannot be imported: ZeroDivisionError: division by zero ("),
    ],
)
def test_what_is_wrong_with_an_installed_one(points: str, text: str, line: str, isoflop: Run, installed: Any) -> None:
    done = isoflop("plan", path=installed(points, {"mine.py": text}))
    (said,) = done.stderr.splitlines()
    assert done.returncode == 2 and ", of the installed mine-dist 1.5: " in said and line in said


def test_an_implementation_is_missed_before_ranks_start(isoflop: Run, write: Any, tiny: list[str]) -> None:
    write(text=OPTIMIZER.replace("mine:plain", "mine:plane"))
    done = isoflop("train", *tiny, "plugins=mine", "optim.name=plain", "launch.processes=2")
    assert done.returncode == 2 and done.stderr.splitlines() == [
        "isoflop: optimizer plain: no implementation at mine:plane (module 'mine' has no attribute 'plane')"
    ]
