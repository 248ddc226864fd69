"""After the first run of a root its command says what to do next, in lines that work."""

from __future__ import annotations

import shlex
from pathlib import Path

from trainer.books.parameters import parameters
from trainer.compose import compose
from trainer.config import Config
from trainer.run.next_steps import LARGER, next_steps

WORDS = ["model=gpt-mini", "model.depth=2", "optim.lr=2e-3", "seed=3", "run.id=first"]


def frozen(root: Path, run_id: str) -> tuple[Config, Path]:
    config = compose([*WORDS, f"run.root={root}", f"run.id={run_id}"])
    run = root / config.experiment / run_id
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(config.to_yaml())
    return config, run


def words_of(line: str) -> list[str]:
    """Behind the verb of the first command of a line."""
    words = shlex.split(line.partition(": ")[2].partition(";")[0])
    return words[next(at for at, word in enumerate(words) if word in ("train", "plan")) + 1 :]


def test_the_first_run_of_a_root_has_lines_that_compose(tmp_path: Path) -> None:
    config, run = frozen(tmp_path / "runs", "first")
    said = next_steps(config, run, WORDS)
    assert said is not None
    seed, larger = said.strip().splitlines()[:2]
    again = compose(words_of(seed))
    assert again.seed == 4 and again.run.id is None
    assert again.science() | {"seed": 3} == config.science()
    assert seed.endswith(f"compare {run.parent}")
    bigger = compose(words_of(larger))
    assert 0.7 * LARGER < parameters(bigger).published / parameters(config).published < 1.4 * LARGER
    assert bigger.optim == config.optim


def test_the_second_run_has_none(tmp_path: Path) -> None:
    frozen(tmp_path / "runs", "first")
    config, run = frozen(tmp_path / "runs", "second")
    assert next_steps(config, run, WORDS) is None
