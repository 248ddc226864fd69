from __future__ import annotations

from trainer.descriptions.evaluations import EvaluationDescription
from trainer.utils.schema import key


class Sentences(EvaluationDescription):
    name = "sentences"
    help = "how surprising the lines of a file are"
    implementation = "trainer.evaluate.sentences:Sentences"
    off = ("sentences", None)

    class Keys(EvaluationDescription.Keys):
        sentences: str | None = key(None, "file of lines whose bits per byte are measured; null: none")
