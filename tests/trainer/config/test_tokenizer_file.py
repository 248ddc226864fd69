"""Rows of the embedding: those that an existing tokenizer needs, known before any work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.books import parameters, plan
from trainer.cli.main import main
from trainer.compose import change, compose
from trainer.data import Tokenizer
from trainer.models import build
from trainer.tokenizer_files import ids
from trainer.utils.errors import UserError


def json_tokenizer(path: Path, pieces: int, added: int = 0) -> Path:
    """A tokenizer.json with so many pieces, and tokens added behind them."""
    vocab = {"</s>": 0} | {f"w{number}": number for number in range(1, pieces)}
    tokens = [{"id": pieces + number, "content": f"<a{number}>", "special": True} for number in range(added)]
    path.write_text(json.dumps({"model": {"type": "WordLevel", "vocab": vocab}, "added_tokens": tokens}))
    return path


def test_of_a_sentencepiece_model_by_file_and_by_folder(small_tokenizer):
    assert ids(small_tokenizer) == ids(small_tokenizer.parent) == Tokenizer(small_tokenizer).vocabulary == 800


def test_of_a_json_by_its_highest_id_and_anew_where_the_file_changed(tmp_path):
    file = tmp_path / "tokenizer.json"
    assert ids(json_tokenizer(file, 256, added=3)) == 259
    assert ids(json_tokenizer(file, 4000, added=103)) == 4103


@pytest.mark.parametrize("content", [b"nonsense", b"", b"{", b"{}", b'{"model": {"vocab": 3}}', b'{"model": []}'])
def test_a_file_that_is_none_is_one_line(tmp_path, content):
    (tmp_path / "t.model").write_bytes(content)
    with pytest.raises(UserError, match="is neither a sentencepiece model nor a tokenizer"):
        compose([f"tokenizer.path={tmp_path / 't.model'}"])


@pytest.mark.parametrize(("pieces", "rows"), [(259, 320), (320, 320), (4103, 4160)])
def test_books_and_model_agree_on_the_rows(tmp_path, pieces, rows):
    config = compose(["model=gpt-mini", f"tokenizer.path={json_tokenizer(tmp_path / 't.json', pieces)}"])
    assert config.vocabulary == config.model.vocabulary == rows
    assert build(config).backbone.tokens.weight.shape[0] == rows
    assert sum(one.numel() for one in build(config).parameters()) == parameters(config).total


def test_the_command_tells_them(tmp_path, capsys):
    path = json_tokenizer(tmp_path / "t.json", 259)
    assert main(["model", "model=gpt-mini", f"tokenizer.path={path}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"]["vocabulary"] == 320


def test_an_identity_moves_only_where_the_rows_do(tmp_path):
    """A tokenizer of the size that null meant before leaves the configuration, and its hash, as they were."""
    config = compose([f"tokenizer.path={json_tokenizer(tmp_path / 't.json', 2048)}"])
    assert config.model.vocabulary is None and config.vocabulary == 2048
    assert compose(["model.vocabulary=2112"]).vocabulary == 2112


def test_a_run_that_is_there_keeps_its_rows(tmp_path):
    """Of 0.1.0 one with null has the rows of tokenizer.vocabulary, whatever its tokenizer."""
    tokenizer = compose([]).tokenizer.model_copy(update={"path": str(json_tokenizer(tmp_path / "t.json", 259))})
    before = compose([]).model_copy(update={"tokenizer": tokenizer})
    assert change(before, ["budget.steps=9"]).vocabulary == before.vocabulary == 2048


def test_the_size_dial_counts_the_rows_that_will_be_there(tmp_path):
    config = compose(["model.size=3m", f"tokenizer.path={json_tokenizer(tmp_path / 't.json', 259)}"])
    assert config.vocabulary == 320 and abs(parameters(config).published / 3e6 - 1) < 0.12


def test_too_few_rows_are_refused_before_any_work(tmp_path):
    path = json_tokenizer(tmp_path / "t.json", 4103)
    with pytest.raises(UserError, match=r"model.vocabulary: 4096 is smaller than the 4103 pieces .*=4160, or null"):
        compose([f"tokenizer.path={path}", "model.vocabulary=4096"])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model=bert-base", "objective=masked_lm"], "28,474 of 30,522 rows of the embedding are unused"),
        (["model=gpt-mini", "model.vocabulary=2112"], None),
        (["model=gpt-mini"], None),
    ],
)
def test_unused_rows_are_said_with_the_plan(words, line):
    notes = [note for note in plan(compose(words)).notes if "rows of the embedding" in note]
    assert len(notes) == (line is not None)
    if line is not None:
        assert notes[0].startswith(line) and notes[0].endswith("model.vocabulary=null has 2,048 rows")


def test_planning_with_a_tokenizer_loads_no_library(small_tokenizer):
    words = ["plan", f"tokenizer.path={small_tokenizer}"]
    heavy = {"torch", "sentencepiece", "tokenizers"}
    code = f"import sys; from trainer.cli.main import main; main({words!r}); print(sorted({heavy} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
