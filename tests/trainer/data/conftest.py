from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import Config
from trainer.data import Prepared, prepare

SYLLABLES = "mo del re ads ev ry to ken of this cor pus once and then ag ain"
WORDS = [first + second for first in SYLLABLES.split() for second in SYLLABLES.split()]


def text_of(number: int, lines: int = 12) -> str:
    """A small document of its own, with indentation, blank lines and other alphabets."""
    rows = []
    for line in range(lines):
        words = [
            WORDS[(number * 7 + line * 31 + k * (1 + number % 50)) % len(WORDS)] for k in range(3 + (number + line) % 9)
        ]
        rows.append("    " * (line % 3) + " ".join(words) + f" {number}{line}")
    return "\n".join(rows) + f"\n\n\tend {number} é漢▁\r\n"


def config_of(path: Path | str, cache: Path, **groups: dict) -> Config:
    return Config.model_validate(
        {
            "data": {
                "name": "text",
                "path": str(path),
                "sequence_length": 32,
                "held_out": 0.1,
                **groups.pop("data", {}),
            },
            "tokenizer": {"vocabulary": 480, "sentinels": 100, **groups.pop("tokenizer", {})},
            "run": {"cache": str(cache)},
            **groups,
        }
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 small text files."""
    root = tmp_path_factory.mktemp("corpus")
    for number in range(200):
        (root / f"{number:03d}.txt").write_bytes(text_of(number).encode())
    return root


@pytest.fixture(scope="session")
def config(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return config_of(folder, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def prepared(config: Config) -> Prepared:
    return prepare(config)


@pytest.fixture
def make_config():
    """config_of(path, cache, data={...}, tokenizer={...}, ...)"""
    return config_of


@pytest.fixture
def text():
    """text_of(number, lines)"""
    return text_of
