"""What is handed to the package's functions by mistake is one line, before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import isoflop
from isoflop import UserError

WORDS: Any = ["model=gpt-mini"]
CONFIG = isoflop.compose(WORDS)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: isoflop.plan(WORDS), r"plan: a value of type list given, a configuration wanted: isoflop.compose\("),
        (lambda: isoflop.train(WORDS), "train: a value of type list given"),
        (lambda: isoflop.show(WORDS), "show: a value of type list given"),
        (lambda: isoflop.show(CONFIG, "1"), "show: step: '1' given"),  # type: ignore[arg-type]
        (lambda: isoflop.change(WORDS, ["seed=1"]), "change: a value of type list given"),
        (lambda: isoflop.change(CONFIG, {"seed": 1}), "change: a value of type dict given, words wanted"),
        (lambda: isoflop.compose({"model": "gpt-mini"}), "compose: a value of type dict given, words wanted"),
        (lambda: isoflop.compose([WORDS]), r"compose: \['model=gpt-mini'\] is a value of type list"),
        (lambda: isoflop.compose(None), r"compose: nothing \(None\) given"),  # type: ignore[arg-type]
        (lambda: isoflop.compose("model=gpt-mini seed=1"), "several words in one"),
        (lambda: isoflop.Run(None), r"Run: nothing \(None\) given, a path wanted"),  # type: ignore[arg-type]
        (lambda: isoflop.finetune(CONFIG, "swapped"), "finetune: a value of type Config given"),  # type: ignore[arg-type]
        (lambda: isoflop.compare(["a", "b"]), "compare: a value of type list given"),  # type: ignore[arg-type]
        (lambda: isoflop.fit(5), "fit: a value of type int given"),  # type: ignore[arg-type]
        (lambda: isoflop.fit("/nowhere", form="chinchila"), "chinchilla"),
        (lambda: isoflop.predict(None, "1b@2b"), "predict: nothing"),  # type: ignore[arg-type]
        (lambda: isoflop.use(5), "plugins: a value of type int given"),  # type: ignore[arg-type]
    ],
)
def test_another_kind_is_told_in_one_line(call: Callable[[], object], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


def test_a_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=f"{tmp_path}/runs/x: no run folder"):
        isoflop.Run("~/runs/x")


def test_a_misspelt_function_has_its_nearest_name() -> None:
    with pytest.raises(AttributeError, match=r"did you mean 'plan'\?"):
        isoflop.pln  # noqa: B018
