"""The suite that needs no download: every example is made from a seed, or from the corpus of the run.

    examples("agreement", "test", count=500)          # a list of Example(text, choices, label, kind)

| task | what is asked | chance |
| agreement, reflexives, polarity | which of two sentences is grammatical (minimal pairs) | 1/2 |
| acceptability | is this sentence grammatical (for classifiers) | 1/2 |
| commands, forms | what a command does, what a sentence means (SCAN's, COGS's kind) | about 1/4 |
| copy, reverse, recall | what the examples in the context show | 1/4 |
| language, section | what a passage of the corpus is | 1 / classes |
"""

from __future__ import annotations

from trainer.config import DataConfig
from trainer.evaluate.suite import corpus
from trainer.evaluate.suite.composition import commands, composed, forms
from trainer.evaluate.suite.example import Example, Split, draw
from trainer.evaluate.suite.minimal_pairs import PAIRS, acceptability
from trainer.evaluate.suite.recall import copy, recall, reverse
from trainer.utils.errors import UserError, nearest

__all__ = ["CORPUS", "GENERATED", "IN_CONTEXT", "SUITE", "Example", "Split", "examples"]

IN_CONTEXT = {"copy": copy, "reverse": reverse, "recall": recall}
GENERATED = {**PAIRS, "commands": commands, "forms": forms, **IN_CONTEXT}
CORPUS = {"language": corpus.language, "section": corpus.section}
SUITE = (*GENERATED, "acceptability", *CORPUS)


def examples(name: str, split: Split, count: int, seed: int = 0, data: DataConfig | None = None) -> list[Example]:
    """`count` different examples; train and test share none, whatever the seeds.

    data: the corpus, for the tasks that are about it. Raises UserError for an unknown name, for a corpus without the
    labels, and when there are not so many examples.
    """
    if name in GENERATED:
        return draw(name, GENERATED[name], split, count, seed, composed if name in ("commands", "forms") else None)
    if name == "acceptability":
        return acceptability(split, count, seed)
    if name in CORPUS and data is not None:
        return CORPUS[name](data, split, count, seed)
    if name in CORPUS:
        raise UserError(f"{name}: this task is about a corpus; none was given")
    raise UserError(f"{name}: no such task in the suite{nearest(name, SUITE)}; there is {', '.join(SUITE)}")
