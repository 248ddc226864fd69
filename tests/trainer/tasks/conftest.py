from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.config import Config, TokenizerConfig
from trainer.data.tokenizer import train

TEXTS = [
    "the cats sleep near the dogs\n",
    "a dog sees the old cat, and the cat sees it too\n",
    "été 日本 def f(a, b):\n",
]


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    file.write_bytes(train(TEXTS * 20, TokenizerConfig(vocabulary=330, sentinels=10)))
    return file


@pytest.fixture
def records(tmp_path):
    """Writes records and returns their file."""

    def write(*records: dict, name: str = "train.jsonl") -> Path:
        file = tmp_path / name
        file.write_text("\n".join(json.dumps(one) for one in records))
        return file

    return write


@pytest.fixture
def configured(tokenizer_file):
    """The configuration of a task."""

    def make(family: str = "decoder", length: int = 32, **task) -> Config:
        task = {name: tuple(value) if isinstance(value, list) else value for name, value in task.items()}
        return Config.model_validate(
            {
                "model": {"family": family, "width": 32, "heads": 2, "depth": 1, "vocabulary": 384},
                "tokenizer": {"path": str(tokenizer_file)},
                "data": {"sequence_length": length},
                "task": task,
            }
        )

    return make
