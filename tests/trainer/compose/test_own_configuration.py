"""Files of a person's own: where they are found, what they may say, and what is told where they are wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.cli.main import main
from trainer.compose import CONF, change, compose, explained, groups, searching
from trainer.config import Config
from trainer.run_folder import RunFolder

FILES = {
    "model/mine.yaml": "defaults:\n  - gpt2-124m\n  - _self_\nname: mine\ndepth: 3\n",
    "model/deep/one.yaml": "name: one\ndepth: 9\n",
    "site/lab.yaml": "name: lab\npue: 1.3\n",
    "objective/causal.yaml": "name: prefix_lm\n",  # in the place of the package's own
    "experiment/small.yaml": """\
# @package _global_
defaults:
  - override /model: mine
  - override /site: lab
seed: 5
model:
  width: 96
budget:
  tokens: 1m
""",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / "own" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "own"


def lines(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    """What a command that has to be refused says."""
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert not out and "Traceback" not in err
    told = err.splitlines()
    assert all(line.startswith("isoflop: ") for line in told)
    return [line.removeprefix("isoflop: ") for line in told]


def test_every_group_is_looked_for_there_first(directory: Path) -> None:
    with searching(directory):
        config = compose(["model=mine", "site=lab"])
        assert (config.model.name, config.model.depth, config.model.width) == ("mine", 3, 768)  # gpt2-124m below
        assert config.site.pue == 1.3 and config.objective.name == "prefix_lm"
        assert compose(["model=deep/one"]).model.depth == 9
        assert {"mine", "deep/one", "gpt2-124m"} <= set(groups()["model"])
    assert "mine" not in groups()["model"] and compose([]).objective.name == "causal"


def test_an_experiment_is_a_file_of_overrides(directory: Path) -> None:
    with searching(directory):
        for word in ("experiment=small", "+experiment=small"):
            config = compose([word])
            assert (config.model.name, config.model.width, config.seed, config.site.pue) == ("mine", 96, 5, 1.3)
            assert (config.budget.tokens, config.budget.steps) == (1_000_000, None)  # in the default budget's place
        assert compose(["experiment=small", "budget.steps=3"]).budget.tokens is None
        over = compose(["seed=6", "experiment=small", "model.heads=8"])
        assert (over.seed, over.model.heads, over.model.depth) == (6, 8, 3)
        assert compose(["model=mine", "model=gpt-mini"]).model.name == "gpt-mini"
        assert compose(["experiment=small", "experiment=null"]).model.name == compose([]).model.name


def test_a_file_stands_for_an_option(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    taken = tmp_path / "gpt2-124m.yaml"  # called as a preset that it begins with
    taken.write_text("defaults: [gpt2-124m, _self_]\ndepth: 2\n")
    for word in ("model=own/model/mine.yaml", f"model={directory}/model/mine.yaml", "model=./own/model/mine.yaml"):
        assert compose([word]).model.depth == 3
    assert compose([f"model={taken}", "model.width=96"]).model.model_dump(include={"depth", "width"}) == {
        "depth": 2,
        "width": 96,
    }
    (tmp_path / "flat.yaml").write_text("# @package _global_\nseed: 9\n")
    assert compose(["experiment=flat.yaml"]).seed == 9


def test_a_configuration_that_is_there_takes_experiments_and_takes_back(directory: Path) -> None:
    base = compose(["model.depth=1", "optim.lr=1e-2", "kernels=torch", "data.sequence_length=64"])
    with searching(directory):
        config = change(base, ["experiment=small", "model.heads=8"])
    assert (config.model.name, config.model.width, config.model.depth, config.model.heads) == ("mine", 96, 3, 8)
    assert (config.seed, config.site.pue, config.budget.tokens, config.budget.steps) == (5, 1.3, 1_000_000, None)
    assert config.optim == base.optim and config.kernels == base.kernels and config.data == base.data
    assert change(base, ["~optim.lr"]).optim == compose(["~optim.lr"]).optim
    for word in ("~kernels", "kernels=null"):
        assert change(base, [word]).kernels == Config().kernels
    for word in ("task=null", "~task", "experiment=null", "~experiment"):
        assert change(base, [word]) == base


def test_the_users_own_directory_is_weaker_than_a_named_one(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "isoflop" / "site"
    home.mkdir(parents=True)
    (home / "lab.yaml").write_text("name: home\n")
    (home / "hers.yaml").write_text("name: hers\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    assert compose(["site=lab"]).site.name == "home"
    monkeypatch.setenv("ISOFLOP_CONFIG_DIR", str(directory))
    assert compose(["site=lab"]).site.name == "lab" and compose(["site=hers"]).site.name == "hers"
    with searching(tmp_path):  # the command line names another one
        assert compose(["site=lab"]).site.name == "home"


def test_who_said_a_value_is_told_for_every_key(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["experiment=small", "model.heads=12", "optim.lr=1e-3"]
    with searching(directory):
        rows = {key: (value, who) for key, value, who in explained(words)}
        config = compose(words).model_dump(mode="json")
    assert set(rows) >= {"model.depth", "seed", "run.root"}
    assert all(value == _at(config, key) for key, (value, _) in rows.items())
    assert rows["model.name"][1] == f"directory ({directory}/model/mine.yaml:4)"
    assert rows["model.vocabulary"][1] == f"package ({CONF}/model/gpt2-124m.yaml:7)"
    assert rows["model.width"][1] == f"experiment ({directory}/experiment/small.yaml:7)"
    assert rows["model.heads"][1] == rows["optim.lr"][1] == "command line"
    assert rows["faults.hang_factor"][1].split()[0] in ("default", "package")
    assert main(["train", "--info", f"--config-dir={directory}", *words]) == 0
    text = capsys.readouterr().out
    assert "default, package, user, directory, file, experiment, command line" in text.splitlines()[0]
    assert re.search(r"^model\.width +96 +experiment", text, re.MULTILINE)
    assert main(["plan", "--info", "searchpath", "-cd", str(directory)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["directory", "package"]


def _at(plain: Any, key: str) -> Any:
    for name in key.split("."):
        plain = plain[name]
    return plain


def test_cfg_as_hydra_spells_it(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--cfg", "job", "--resolve"], ["-c", "job"], ["--cfg"], ["--cfg=job"]):
        assert main(["train", "experiment=small", *words, "--config-dir", str(directory)]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["model"]["width"] == 96
    assert main(["train", "--cfg", "job", "--package", "model.depth", "~model.depth"]) == 0
    assert capsys.readouterr().out.strip() == str(compose(["~model.depth"]).model.depth)
    own = directory / "mine.yaml"
    own.write_text("defaults: [train, _self_]\nseed: 8\n")
    assert main(["train", "--cfg", "-p", "seed", f"--config-dir={directory}", "--config-name=mine"]) == 0
    assert capsys.readouterr().out.strip() == "8"


def test_a_tilde_takes_back_what_the_files_say() -> None:
    assert compose(["model=gpt2-124m", "~model.depth"]).model.depth == compose(["~model"]).model.depth
    for word in ("~kernels", "kernels=null", "~task", "task=null", "~experiment"):
        assert compose([word]).science() == compose([]).science()


WRONG = [
    ("model", "name: x\nwdth: 3\n", "{file}:2: model.wdth: no such key (did you mean 'model.width'?)"),
    ("model", "name: x\n\ndepth: many\n", "{file}:3: model.depth: 'many' given, a valid integer [layers] wanted"),
    ("model", "name: x\n  depth: [3\n", "{file}:2: no YAML: mapping values are not allowed here"),
    ("model", "name: x\nname: y\n", "{file}:2: no YAML: found duplicate key name"),
    ("model", "- a\n", "{file}:1: model: ['a'] given"),
    ("model", b"name: \xff\n", "{file}: no text in UTF-8"),
    ("model", "defaults: [gpt2-124]\n", "model: there is no file model/gpt2-124.yaml (did you mean 'gpt2-124m'?)"),
    ("optim", "lr: -1\n", "{file}:1: optim.lr: -1 given, greater than 0 wanted"),
    ("experiment", "seed: 1\n", "{file}: begin it with the line `# @package _global_`"),
    ("experiment", "# @package _global_\nhydra: {{run: {{dir: x}}}}\n", "{file}:2: hydra.run.dir: Hydra's own key"),
    ("experiment", "# @package _global_\nmodel: gpt\n", "{file}:2: model: 'gpt' given"),
    ("experiment", "# @package _global_\ndefaults: [override /modl: gpt]\n", "Could not override 'modl'"),
    ("experiment", "# @package _global_\nbudget: {{steps: 3, flop: 9}}\n", "state exactly one of budget.steps"),
    ("experiment", "# @package _global_\nmodel: {{size: 5m, depth: 3}}\n", "model.depth: model.size sets it"),
]


@pytest.mark.parametrize(("group", "text", "told"), WRONG)
def test_a_wrong_file_is_one_line_with_its_place(
    group: str, text: str | bytes, told: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = directory / group / "wrong.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.format().encode())
    for words in ([f"{group}=wrong", f"--config-dir={directory}"], [f"{group}={file}"]):
        (line,) = lines(capsys, "plan", *words)
        assert told.format(file=file) in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--config-dir=/nowhere"], "--config-dir: /nowhere is no directory"),
        (["--config-dir"], "--config-dir: a value is missing"),
        (["--config-name=tran"], "--config-name: no file tran.yaml (did you mean 'train'?)"),
        (["model=nothere.yaml"], "model=nothere.yaml: there is no such file"),
        (["experiment=encoder-min"], "experiment=encoder-min: no such option (did you mean 'encoder-mini'?)"),
        (["--package", "model"], "--package: it says how --cfg prints; add --cfg"),
        (["--cfg", "hydra"], "--cfg hydra: there is no configuration of Hydra's own"),
        (["--cfg", "-p", "modell"], "--package modell: no such group (did you mean 'model'?)"),
        (["--info=serchpath"], "--info serchpath: there is keys, searchpath, options (did you mean 'searchpath'?)"),
        (["--cfg", "-m"], "leave -m out"),
        (["--info", "resume=runs/x/y"], "--info: resume=runs/x/y: the values come from that run; --cfg shows them"),
        (["-cp", "/x"], "-cp: Hydra's own flag; write --config-dir DIR"),
        (["--hydra-help"], "--hydra-help: Hydra's own flag; write isoflop train --help"),
        (["hydra.run.dir=x"], "hydra.run.dir=x: Hydra's own key: a run lives in <run.root>/<run.experiment>"),
        (
            ["hydra/launcher=slurm"],
            "hydra/launcher=slurm: Hydra's own key: a launcher is an option of",
        ),
        (["hydra.sweeper.params={}"], "Hydra's own key: swept values stand behind -m"),
        (["hydra.nothing=1"], "hydra.nothing=1: Hydra's own key: it would have no effect here"),
    ],
)
def test_what_is_refused_says_the_way_out(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert any(told in line for line in lines(capsys, "plan", *words))


def test_a_variable_that_names_no_directory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISOFLOP_CONFIG_DIR", "/nowhere")
    (line,) = lines(capsys, "plan")
    assert line.startswith("ISOFLOP_CONFIG_DIR: /nowhere is no directory")


def test_shipped_experiments_compose() -> None:
    """Each is of the model of its name, but the one that is named for its time."""
    for name in groups()["experiment"]:
        model = "modernbert-mini" if name == "bert-minutes" else name
        assert compose([f"experiment={name}"]).model.name == model


def test_a_run_resumes_without_the_directory(directory: Path, isoflop: Any, tiny: list[str]) -> None:
    """What it used is frozen."""
    words = [word for word in tiny if not word.startswith(("model.", "budget."))]
    (directory / "model" / "mine.yaml").write_text("name: mine\ndepth: 1\nwidth: 32\nheads: 2\n")
    (directory / "experiment" / "small.yaml").write_text(
        "# @package _global_\ndefaults: [override /model: mine]\nbudget: {steps: 3}\nrun: {id: one}\n"
    )
    done = isoflop("train", *words, "experiment=small", "run.experiment=own", f"--config-dir={directory}")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(directory)
    run = isoflop.folder / "runs" / "own" / "one"
    done = isoflop("train", f"resume={run}", "budget.steps=5", "new_science=true", ISOFLOP_CONFIG_DIR="")
    assert done.returncode == 0, done.stderr
    assert RunFolder(run).load_config().model.depth == 1
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(record["step"] for record in steps if record["kind"] == "step") == 5
