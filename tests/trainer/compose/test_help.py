"""`--help` shows what holds: the values under the words beside it, and what null comes to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.cli.main import main
from trainer.compose import compose


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """The values that a command's help shows, by key, and the lines above its groups."""

    def show(*words: str) -> tuple[dict[str, str], str]:
        assert main([*words, "--help"]) == 0
        text = capsys.readouterr().out
        head, _, _ = text.partition("\nScience")
        return dict(re.findall(r"^ {2,4}([a-z_][\w.]*) +(\S+(?: \((?:null|auto)\))?)", text, re.MULTILINE)), head

    return show


def test_the_values_are_those_of_the_words(shown) -> None:  # type: ignore[no-untyped-def]
    """The preset's, not the schema's; and before the words of a fixed budget, the default one."""
    words = ["model=bert-mini", "objective=masked_lm", "budget.steps=3000", "optim.batch_size=48"]
    values, _ = shown("train", *words)
    config = compose(words)
    assert values["model.name"] == "bert-mini"
    assert values["model.width"] == str(config.model.width)
    assert values["optim.lr"] == str(config.optim.lr)
    assert values["budget.steps"] == "3000"
    assert values["model.bias"] == "true"
    usual, _ = shown("train")
    assert usual["model.name"] == compose([]).model.name
    assert usual["optim.batch_size"] == str(compose([]).optim.batch_size)


def test_what_null_comes_to_is_told(shown, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))
    words = ["model.width=384", "model.heads=6", "model.head_size=null", "model.gated=false", "model.ffn_width=null"]
    text = ["tokenizer.vocabulary=1000", "budget.steps=500", "optim.batch_size=40", "launch.processes=2"]
    main_values, _ = shown("train", *words, *text)
    assert main_values["model.head_size"].startswith("64")
    assert main_values["model.ffn_width"].startswith("1536")
    assert main_values["model.vocabulary"].startswith("1024")  # 1000 up to a multiple of 64
    assert main_values["optim.warmup_steps"].startswith("50")
    assert main_values["engine.micro_batch"].startswith("10")  # 20 a rank in the fewest equal parts of at most 16
    assert main_values["engine.zero_stage"].startswith("1")
    assert main_values["engine.threads"].startswith("3")
    assert main_values["run.cache"].startswith(str(tmp_path))
    assert shown("train", "engine.micro_batch=4")[0]["engine.micro_batch"] == "4"


def test_a_directory_of_the_user_and_an_experiment_count(shown, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\noptim:\n  lr: 0.0123\n")
    values, _ = shown("train", "--config-dir", str(tmp_path), "experiment=mine", "seed=5")
    assert (values["optim.lr"], values["seed"]) == ("0.0123", "5")


def test_the_values_of_a_run_that_goes_on_are_its_own(shown, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "config.yaml").write_text(compose(["model.width=320", "budget.steps=9"]).to_yaml())
    values, _ = shown("train", f"resume={tmp_path}", "tracker.every_steps=3")
    assert (values["model.width"], values["budget.steps"], values["tracker.every_steps"]) == ("320", "9", "3")


def test_words_that_make_no_run_still_get_help(shown) -> None:  # type: ignore[no-untyped-def]
    values, head = shown("train", "data=text", "model.width=96")
    assert "data.path: data=text needs files" in head
    assert values["model.width"] == "96"
    assert "modle=2" in shown("train", "modle=2")[1]
    assert "optim.lr" in shown("train", "optim.lr=fast")[0]


def test_help_loads_no_torch() -> None:
    program = (
        "import sys; from trainer.cli.main import main; main(['train', 'model=t5-mini', 'objective=span_corruption', "
        "'--help']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL).returncode == 0
