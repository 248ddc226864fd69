"""The text and the tokenizer that all golden runs read. Made once; a change of either moves every other fixture."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from pathlib import Path

from tests.golden.process import isoflop

HERE = Path(__file__).parent
CORPUS, TOKENIZER = HERE / "corpus", HERE / "tokenizer.model"
# Two invented languages: the letters of their words.
LANGUAGES = {"first": "abcdefghij", "second": "mnopqrstéü"}
VOCABULARY, SENTINELS = 384, 16


def documents(letters: str, seed: int, count: int = 48) -> list[str]:
    """Documents of 1 to 12 sentences in an invented language of 60 words."""
    chance = random.Random(seed)
    words = ["".join(chance.choice(letters) for _ in range(chance.randint(2, 6))) for _ in range(60)]
    texts = []
    for number in range(count):
        sentences = []
        for _ in range(1 + number % 12):
            sentences.append(" ".join(chance.choice(words) for _ in range(chance.randint(3, 9))) + ".")
        texts.append(" ".join(sentences) + "\n")
    return texts


def make() -> None:
    """Write corpus/*.jsonl and tokenizer.model."""
    shutil.rmtree(CORPUS, ignore_errors=True)
    CORPUS.mkdir()
    for seed, (language, letters) in enumerate(LANGUAGES.items()):
        lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents(letters, seed))
        (CORPUS / f"{language}.jsonl").write_text("".join(lines))
    symbols = ",".join(f"'<{language}>'" for language in LANGUAGES)
    words = [f"tokenizer.vocabulary={VOCABULARY}", f"tokenizer.sentinels={SENTINELS}", f"tokenizer.symbols=[{symbols}]"]
    with tempfile.TemporaryDirectory() as cache:
        isoflop("tokenizer", f"out={TOKENIZER}", "data=text", f"data.path={CORPUS}", f"run.cache={cache}", *words)


def place(folder: Path) -> None:
    """Put both into a working folder, where golden runs look for them by relative paths."""
    shutil.copytree(CORPUS, folder / "corpus")
    shutil.copyfile(TOKENIZER, folder / TOKENIZER.name)
