"""The example: an objective, an optimizer, a tracker and a hook that lie beside the project train and go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.conftest import EXAMPLE

STEPS = 6
CONFIGS = ("--config-dir", str(EXAMPLE / "configs"), "experiment=backwards")


def named(folder: Path = EXAMPLE) -> str:
    return f"plugins=[{folder / 'my_plugin'}]"


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    return [*tiny, f"budget.steps={STEPS}", "checkpoint.every_steps=3"]


def losses(run: Path) -> list[float]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [one["loss"] for one in {one["step"]: one for one in records if one["kind"] == "step"}.values()]


def test_it_trains_and_goes_on(isoflop: Any, words: list[str], tmp_path: Path) -> None:
    plugin = tmp_path / "elsewhere" / "my_plugin"
    shutil.copytree(EXAMPLE / "my_plugin", plugin, ignore=shutil.ignore_patterns("__pycache__"))
    done = isoflop("train", *words, named(plugin.parent), *CONFIGS)
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.splitlines()[0])
    rows = (run / "losses.csv").read_text().splitlines()
    assert [float(row.split(",")[1]) for row in rows[1:]] == losses(run) and len(rows) == STEPS + 1
    assert (run / "slow_steps.0.txt").read_text() == "" and "reversed_share: 0.5" in (run / "config.yaml").read_text()
    (entry,) = json.loads((run / "plugins.json").read_text())
    assert entry["used"] and entry["source"] == str(plugin) and entry["brings"]["optimizer"] == ["sign_momentum"]

    for page in ("report.html", "card.md"):
        assert all(said in (run / page).read_text() for said in ("my_plugin", str(plugin), entry["sha256"][:12]))

    # Half-way again, on two ranks and without the directory of the configuration.
    half = run.with_name("half")
    shutil.copytree(run, half)
    shutil.rmtree(half / "checkpoints" / f"step-{STEPS:08d}")
    (half / "metrics.jsonl").write_text("")
    for words_of_verb in (["train", f"resume={half}"], ["report", str(half)], ["generate", str(half), "prompt=a"]):
        refused = isoflop(*words_of_verb)
        assert refused.returncode == 2 and refused.stderr.splitlines() == [
            f"isoflop: {half}/config.yaml: the run uses the plugin my_plugin ({plugin}), which is not loaded; "
            f"add plugins=[{plugin}]"
        ]
    with (plugin / "hook.py").open("a") as file:
        file.write("# changed\n")
    again = isoflop("train", f"resume={half}", "launch.processes=2", named(plugin.parent))
    assert again.returncode == 0, again.stderr
    assert losses(half) == pytest.approx(losses(run)[3:], rel=1e-5)
    assert (half / "slow_steps.1.txt").exists()
    told = [line for line in again.stderr.splitlines() if "source changed" in line]
    assert len(told) == 1 and told[0].startswith("isoflop: plugin my_plugin: its source changed")
    events = [json.loads(line) for line in (half / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["name"] == "plugins"] == [3]
    assert isoflop("report", str(half), named(plugin.parent)).returncode == 0


def test_planning_it_loads_no_torch(isoflop: Any) -> None:
    program = """
import sys
from trainer.cli.main import main
code = main(sys.argv[1:])
print(code, [name for name in ("torch", "numpy", "deepspeed") if name in sys.modules])
"""
    words = ("model.depth=2", "model.width=64", "budget.steps=60")
    done = isoflop("plan", named(), *CONFIGS, *words, "--json", program=program)
    *text, last = done.stdout.splitlines()
    assert last == "0 []", done.stderr
    rows = {row["key"]: row["planned"] for row in json.loads("\n".join(text))["rows"]}
    adamw = isoflop("plan", *words, "--json")
    theirs = {row["key"]: row["planned"] for row in json.loads(adamw.stdout)["rows"]}
    saved = rows["model.parameters"]["value"] * 4  # bytes of the state that it does not keep
    assert theirs["memory.rank"]["value"] - rows["memory.rank"]["value"] == saved


def test_help_lists_its_keys(isoflop: Any) -> None:
    text = isoflop("train", "--help", named()).stdout
    for key in ("objective.reversed_share", "optim.mean_share", "tracker.csv", "hooks.slow_seconds"):
        assert f"    {key} " in text
    assert "my_plugin" in text.rpartition("\nPlugins\n")[2]
    assert "hooks" not in isoflop("train", "--help").stdout


def test_the_project_file_declares_it_as_a_distribution(isoflop: Any, installed: Any) -> None:
    import tomllib

    groups = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    text = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in groups.items()
    )
    site = installed(text, {}, "my-plugin")
    shutil.copytree(EXAMPLE / "my_plugin", site / "my_plugin")
    done = isoflop("plan", *CONFIGS, path=site)
    assert done.returncode == 0, done.stderr
    line = isoflop("train", "--help", path=site).stdout.splitlines()[-1]
    brought = ("objective reverse", "optimizer sign_momentum", "tracker csv", "hook slow_steps")
    assert line.endswith("(my-plugin 1.5)") and all(one in line for one in brought)
