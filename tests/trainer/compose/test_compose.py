"""The command line becomes one checked configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.books.run_length import run_steps
from trainer.cli.main import main
from trainer.compose import CONF, change, compose, groups, sweep
from trainer.compose.site_table import region_of
from trainer.compose.tracker_options import switched_on
from trainer.config import MACHINERY, SCIENCE, Config, load
from trainer.config.validate import keys

MANY = {"ladder", "grid"}  # groups that describe many runs


def test_every_option_of_every_group_composes() -> None:
    for group, options in groups().items():
        for option in options:
            if (group == "data" and option != "stdlib") or group in (*MANY, "experiment"):
                continue  # they need a path; they are of another schema; they are of all groups
            # A site may be a row of a table, a tracker what one key switches on.
            known = region_of(f"{group}/{option}") or switched_on(f"{group}/{option}")
            plain = known or yaml.safe_load((CONF / group / f"{option}.yaml").read_text())
            assert set(plain) - {"defaults"} <= {key.split(".")[1] for key in keys() if key.startswith(f"{group}.")}, (
                group,
                option,
            )


def test_groups_are_science_or_machinery() -> None:
    assert set(groups()) <= {*SCIENCE, *MACHINERY, *MANY, "experiment"}
    assert set(Config.model_fields) == {*SCIENCE, *MACHINERY}


def test_the_yaml_defaults_are_the_schemas() -> None:
    """`isoflop train` without overrides and `Config()` in a notebook mean the same science."""
    ours, theirs = compose([]).science(), Config().science()
    differing = {key for key in ours["model"] if ours["model"][key] != theirs["model"][key]}
    assert differing <= {"width", "kv_heads"}
    for group in ("objective", "data", "tokenizer", "budget"):
        assert ours[group] == theirs[group]


def test_machinery_leaves_the_identity_alone_and_science_does_not() -> None:
    plain = compose([]).science_hash()
    for word in (
        "engine.zero_stage=3",
        "launch.processes=2",
        "kernels=reference",
        "engine.micro_batch=2",
        "site.pue=1.2",
    ):
        assert compose([word]).science_hash() == plain
    for word in ("seed=1", "optim.lr=1e-3", "model.depth=5", "data.sequence_length=128", "budget.steps=7"):
        assert compose([word]).science_hash() != plain


def test_a_stated_budget_takes_the_place_of_the_default() -> None:
    config = compose(["budget.tokens=1m"])
    assert config.budget.steps is None
    assert run_steps(config) == -(-1_000_000 // config.curriculum.tokens(1))


def test_counts_may_be_written_short() -> None:
    assert compose(["budget.tokens=2.5m"]).budget.tokens == 2_500_000
    assert compose(["budget.tokens=5e6"]).budget.tokens == 5_000_000


def test_a_frozen_configuration_reads_back_equal(tmp_path: Path) -> None:
    config = compose(["engine.deepspeed.zero_optimization.reduce_bucket_size=5e7", "tracker.tags=[a,b]"])
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert load(tmp_path / "config.yaml") == config


def test_a_resume_changes_groups_and_keys_of_a_frozen_configuration() -> None:
    config = change(compose(["seed=3"]), ["kernels=reference", "tracker=wandb", "engine.zero_stage=2"])
    assert (config.seed, config.kernels.attention, config.engine.zero_stage) == (3, "reference", 2)
    assert config.tracker.wandb != "disabled"


def test_a_sweep_is_the_product_of_its_values() -> None:
    runs = sweep(["seed=0,1", "optim.lr=1e-3,3e-3", "model.depth=2"])
    assert len(runs) == 4
    assert all("model.depth=2" in run for run in runs)


def test_help_lists_groups_and_keys_with_units(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(key in text for key in keys())
    for expected in ("[sequences]", "[steps]", "[tokens]", "[g/kWh]", "model=", "llama-mini"):
        assert expected in text


def test_cfg_prints_what_would_be_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "model=gpt-mini", "seed=9"]) == 0
    plain: Any = yaml.safe_load(capsys.readouterr().out)
    assert plain["model"]["name"] == "gpt-mini"
    assert plain["seed"] == 9


def test_completion_offers_verbs_options_and_keys(capsys: pytest.CaptureFixture[str]) -> None:
    def offered(*words: str) -> list[str]:
        main(["completion", "--words", *words])
        return capsys.readouterr().out.split()

    assert "train" in offered("tr")
    assert offered("train", "kernels=ref") == ["kernels=reference"]
    assert "optim.lr=" in offered("train", "optim.l")


def test_planning_imports_no_torch() -> None:
    program = "import sys; from trainer.cli.main import main; main(['plan', '--json']); main(['model'])\n"
    program += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_m_trains_one_run_per_value(isoflop: Any, tiny: list[str]) -> None:
    result = isoflop("train", "-m", *tiny, "budget.steps=1", "seed=0,1")
    assert result.returncode == 0, result.stderr
    assert len(list(isoflop.folder.glob("runs/*/*/pricetag.json"))) == 2
