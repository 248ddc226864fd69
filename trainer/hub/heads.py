"""Fine-tuned runs as checkpoints of transformers: classifiers, and DPO policies without their reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainer.config import Config
from trainer.descriptions.tasks import TASKS
from trainer.hub.family import Entry, both
from trainer.utils.errors import UserError

# model_type -> the class of transformers, and its head in our names.
_ONE_MATRIX = [Entry("score.weight", ("output.weight",))]
_TWO_LAYERS = [*both("classifier.dense", "dense"), *both("classifier.out_proj", "output")]
CLASSIFIERS: dict[str, tuple[str, list[Entry]]] = {
    "gpt2": ("GPT2ForSequenceClassification", _ONE_MATRIX),
    "gpt_neox": ("GPTNeoXForSequenceClassification", _ONE_MATRIX),
    "llama": ("LlamaForSequenceClassification", _ONE_MATRIX),
    "opt": ("OPTForSequenceClassification", _ONE_MATRIX),
    "bloom": ("BloomForSequenceClassification", _ONE_MATRIX),
    "bert": ("BertForSequenceClassification", both("classifier", "output")),
    "albert": ("AlbertForSequenceClassification", both("classifier", "output")),
    "roberta": ("RobertaForSequenceClassification", _TWO_LAYERS),
    "xlm-roberta": ("XLMRobertaForSequenceClassification", _TWO_LAYERS),
}


def plain_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a tuned model by the names of its backbone's pre-training; new heads keep theirs."""
    return {name.removeprefix("body."): value for name, value in weights.items()}


@dataclass(frozen=True)
class Head:
    """A new head in the terms of transformers."""

    architecture: str
    entries: list[Entry]
    keys: dict[str, Any]  # of config.json


def new_head(config: Config, kind: str) -> Head | None:
    """The head of a tuned run whose backbone is of that model_type; null where the pre-trained head goes on.

    Raises UserError where transformers has no such head.
    """
    task = config.task
    if task.description is None or task.description.head is None:
        return None
    if not task.pools or kind not in CLASSIFIERS:
        pooled = " and ".join(name for name, one in TASKS.items() if one.pools)
        written = " and ".join(name for name, one in TASKS.items() if one.head is None)
        raise UserError(
            f"export: a {kind} tuned with task.kind={task.kind} has no counterpart; there is one for "
            f"task.kind={pooled} over {', '.join(CLASSIFIERS)}, and for all of task.kind={written}"
        )
    if kind == "opt" and config.model.embedding_channels != config.model.width:
        raise UserError(
            "export: transformers reads the classes of an opt behind its projection to model.embedding_width="
            f"{config.model.embedding_channels}, ours are read before it; there is no counterpart"
        )
    architecture, entries = CLASSIFIERS[kind]
    names = task.labels or (str(task.kind),)
    keys = {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": "single_label_classification" if task.description.classes else "regression",
    }
    return Head(architecture, entries, keys)
