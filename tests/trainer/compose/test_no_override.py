"""Words that are no `key=value`: what was meant is told; and text of any letters is a value as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.cli.main import main
from trainer.compose import compose, sweep
from trainer.compose.overrides import Override
from trainer.utils.errors import UserError


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gpt-mini", "(did you mean model=gpt-mini?)"),
        ("gpt-mni", "(did you mean model=gpt-mini?)"),
        ("swapped", "(did you mean task=swapped?)"),
        ("model:gpt-mini", "; write model=gpt-mini"),
        ("optim.lr", "; write optim.lr=<value>"),
        ("qqq", "; write key=value"),
        ("", "'': an empty word; write key=value"),
        ("model =gpt-mini", "without spaces around it wanted: model=gpt-mini"),
        ("seed==3", "without spaces around it wanted: seed=3"),
        ("model=gpt-mini seed=3", "several words in one"),
        ("seed=[1", "not an override in Hydra's grammar"),
    ],
)
def test_what_was_meant_is_told_in_a_line(word: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        Override(word)
    [line] = str(caught.value).splitlines()
    assert line.endswith(said) or (said in line and "seed" in word), line


def test_the_folder_of_a_run_is_known(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(UserError, match=f"train resume={tmp_path}"):
        Override(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    ["text ü/*.txt", "größe", "日本/*.txt", "it's", "a(1).txt", "~/x", "C#", "a;b!", "a=b", "a b"],
)
def test_text_is_taken_as_it_stands(text: str) -> None:
    """As a shell hands it over, whose own quotes are gone."""
    assert Override(f"data.path={text}").value() == text
    assert Override(f"+run.root={text}").value() == text


def test_a_path_of_any_letters_reaches_the_configuration() -> None:
    words = ["data=text", "data.path=größe (alt)/it's/*.txt"]
    assert compose(words).data.path == ("größe (alt)/it's/*.txt",)
    first, second = sweep([*words, "seed=1,2"])
    assert compose(second).data.path == ("größe (alt)/it's/*.txt",) and compose(second).seed == 2 and first != second


@pytest.mark.parametrize("word", ["seed=ü", "data.path=[ü", "data.path=ü,ä", 'data.path="x"ü', "model=größe"])
def test_what_is_grammar_stays_grammar(word: str) -> None:
    with pytest.raises(UserError, match="not an override in Hydra's grammar"):
        Override(word)


@pytest.mark.parametrize("name", ["größe (alt)", "it's"])
def test_a_file_of_a_group_may_have_any_name(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text("defaults:\n  - gpt-mini\n  - _self_\ndepth: 3\n")
    assert compose([f"model={file}"]).model.depth == 3


def test_a_flag_that_is_a_word_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--model", "gpt-mini"], "values are written without dashes: model=gpt-mini"),
        (["--jsn", "gpt-mini"], "did you mean '--json'?"),
    ):
        assert main(["plan", *words]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert said in line
