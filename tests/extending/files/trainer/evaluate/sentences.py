"""Bits per byte of lines that nobody trains on."""

from __future__ import annotations

import math
from pathlib import Path

from trainer.config import Config
from trainer.evaluate.scoring import score
from trainer.generation.loaded_model import Trained


class Sentences:
    def __init__(self, config: Config, run: Path) -> None:
        self.lines = Path(config.evaluation.sentences).read_text().splitlines()

    def __call__(self, trained: Trained) -> dict[str, float]:
        scores = score(trained, [("", line) for line in self.lines])
        bits = [-one.nats / math.log(2) / len(line.encode()) for one, line in zip(scores, self.lines, strict=True)]
        return {"bits_per_byte": sum(bits) / len(bits), "worst": max(bits)}
