"""Fine-tuned runs as checkpoints of transformers and back: classifiers, spans of answers, and DPO policies without
their reference."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
_BEHIND_THE_DECODER = [
    *both("classification_head.dense", "dense"),
    *both("classification_head.out_proj", "output"),
]
_OF_LLAMA = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3", "smollm3": "SmolLM3"}
_OF_LLAMA |= {"gemma": "Gemma", "gemma2": "Gemma2"}
_ONE_VECTOR = {"gpt2": "GPT2", "gpt_neox": "GPTNeoX", "opt": "OPT", "bloom": "Bloom", "gpt_neo": "GPTNeo"} | _OF_LLAMA
_ONE_VECTOR |= {"olmo": "Olmo", "olmo2": "Olmo2", "olmo3": "Olmo3", "gemma3_text": "Gemma3Text"}
_POOLED = {"bert": "Bert", "albert": "Albert"}
_LIKE_ROBERTA = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}
_TWO_SIDES = {"t5": "T5", "mt5": "MT5", "bart": "Bart", "mbart": "MBart"}
_OF_WORDS = _POOLED | _LIKE_ROBERTA | {"distilbert": "DistilBert", "deberta-v2": "DebertaV2", "xlm": "XLM"}
_OF_WORDS |= {kind: _ONE_VECTOR[kind] for kind in ("gpt2", "gpt_neox", "gpt_neo", "bloom")}


def _classes(suffix: str, stems: Mapping[str, str], entries: list[Entry]) -> dict[str, tuple[str, list[Entry]]]:
    return {kind: (f"{stem}{suffix}", entries) for kind, stem in stems.items()}


SEQUENCE, TOKEN, SPAN = "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"
CLASSIFIERS: dict[str, tuple[str, list[Entry]]] = {
    **_classes(SEQUENCE, _ONE_VECTOR, _ONE_MATRIX),
    **_classes(SEQUENCE, _POOLED, both("classifier", "output")),
    **_classes(SEQUENCE, _LIKE_ROBERTA, _TWO_LAYERS),
    "distilbert": (f"DistilBert{SEQUENCE}", [*both("pre_classifier", "dense"), *both("classifier", "output")]),
    "deberta-v2": (f"DebertaV2{SEQUENCE}", [*both("pooler.dense", "dense"), *both("classifier", "output")]),
    **_classes(SEQUENCE, _TWO_SIDES, _BEHIND_THE_DECODER),
}
TOKEN_CLASSIFIERS: dict[str, tuple[str, list[Entry]]] = {
    **_classes(TOKEN, _OF_WORDS, both("classifier", "output")),
    **_classes(TOKEN, _OF_LLAMA, both("score", "output")),
}
SPANS: dict[str, tuple[str, list[Entry]]] = _classes(
    SPAN, _POOLED | _LIKE_ROBERTA | {"deberta-v2": "DebertaV2"}, both("qa_outputs", "output")
)
# What a class puts before the names of its body's tensors, where the pre-trained class puts nothing.
PREFIXES = dict.fromkeys(("t5", "mt5"), "transformer.")
# The activations of the dense layer before the classes that there are, where it is not tanh alone.
ACTIVATIONS = {"distilbert": ("relu",), "deberta-v2": ("gelu", "relu", "tanh")}
_HEADS = {SEQUENCE: CLASSIFIERS, TOKEN: TOKEN_CLASSIFIERS, SPAN: SPANS}
# Beginnings of names, in transformers, of heads that pre-training has not.
_NEW = ("score.", "classifier.", "classification_head.", "qa_outputs.", "sequence_summary.", "logits_proj.")
NOT_GIVEN = "not-given.jsonl"  # stands for the records of a tuned model, which no checkpoint names


def is_of_pretraining(part: str) -> bool:
    """Whether a weight of ours, by its name, is of a head that tuning takes off."""
    return part.startswith(("head.", "sentence."))


@dataclass(frozen=True)
class Tuned:
    """A head of transformers in our terms."""

    architecture: str
    entries: list[Entry]
    task: dict[str, Any]  # keys of the group `task`
    prefix: str = ""  # of the body's tensors, before the names that the pre-trained class has


def tuned_head(
    kind: str, config: Mapping[str, Any], names: Collection[str], shapes: Mapping[str, Sequence[int]]
) -> Tuned | None:
    """The head of a checkpoint that was tuned; none where it has the head of pre-training, or no head at all.

    names: of the tensors. Raises UserError for heads that there are none of here.
    """
    given = config.get("architectures")
    architecture = str(given[0]) if isinstance(given, list) and given else ""
    suffix = next((one for one in _HEADS if architecture.endswith(one)), None)
    if suffix is None:
        found = sorted(name for name in names if name.startswith(_NEW))
        if found:
            raise UserError(
                f"config.json: architectures={given!r} beside a tensor {found[0]}: of tuned models, "
                f"{' and '.join(f'*{one}' for one in _HEADS)} are read"
            )
        return None
    if kind not in _HEADS[suffix] or _HEADS[suffix][kind][0] != architecture:
        there = ", ".join(name for name, _ in _HEADS[suffix].values())
        raise UserError(f"config.json: architectures={given!r} is not supported; of such heads, {there} are")
    entries = _HEADS[suffix][kind][1]
    last = next(one.theirs for one in entries if one.ours == ("output.weight",))
    if last not in names:
        raise UserError(f"config.json: architectures={given!r}, but there is no tensor {last}")
    task = _task(config, suffix, shapes.get(last) or shapes[_bare(last, shapes)])
    return Tuned(architecture, entries, task, PREFIXES.get(kind, "") if suffix == SEQUENCE else "")


def _bare(name: str, shapes: Mapping[str, Sequence[int]]) -> str:
    return next(one for one in shapes if name.endswith(one))


def _task(config: Mapping[str, Any], suffix: str, shape: Sequence[int]) -> dict[str, Any]:
    """Keys of the group `task`: kind and classes."""
    count = shape[0] if len(shape) == 2 else 0
    if config.get("problem_type") == "multi_label_classification":
        raise UserError("config.json: problem_type='multi_label_classification' is not supported; one class a text is")
    common: dict[str, Any] = {"name": "imported", "train": (NOT_GIVEN,)}
    if suffix == SPAN:
        if count != 2:
            raise UserError(f"config.json: qa_outputs has {count} rows; two wanted, for the first and the last token")
        return common | {"kind": "span", "text": ("question", "context"), "answer": ("answers",)}
    if count == 1 and suffix == SEQUENCE:
        return common | {"kind": "reward", "answer": ("chosen", "rejected")}
    names = config.get("id2label")
    if names is None:
        names = {str(number): f"LABEL_{number}" for number in range(count)}
    if not isinstance(names, dict) or set(names) != {str(number) for number in range(count)}:
        raise UserError(f"config.json: id2label: a name for each of 0 to {count - 1} wanted, the rows of the head")
    labels = tuple(str(names[str(number)]) for number in range(count))
    if len(set(labels)) < len(labels) or count < 2:
        raise UserError(
            f"config.json: id2label: {len(set(labels))} different names for {count} classes; two or more wanted"
        )
    return common | {"kind": "sequence" if suffix == SEQUENCE else "token", "labels": labels}


def plain_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a tuned model by the names of its backbone's pre-training; new heads keep theirs."""
    return {name.removeprefix("body."): value for name, value in weights.items()}


@dataclass(frozen=True)
class Head:
    """A new head in the terms of transformers."""

    architecture: str
    entries: list[Entry]
    keys: dict[str, Any]  # of config.json
    prefix: str = ""  # as of `Tuned`


def new_head(config: Config, kind: str) -> Head | None:
    """The head of a tuned run whose backbone is of that model_type; null where the pre-trained head goes on.

    Raises UserError where transformers has no such head.
    """
    task = config.task
    if task.description is None or task.description.head is None:
        return None
    heads = CLASSIFIERS if task.pools else {"token": TOKEN_CLASSIFIERS, "span": SPANS}.get(str(task.kind), {})
    if kind not in heads:
        pooled = " and ".join(name for name, one in TASKS.items() if one.pools)
        written = " and ".join(name for name, one in TASKS.items() if one.head is None)
        raise UserError(
            f"export: a {kind} tuned with task.kind={task.kind} has no counterpart; there is one for "
            f"task.kind={pooled} over {', '.join(CLASSIFIERS)}, for task.kind=token over "
            f"{', '.join(TOKEN_CLASSIFIERS)}, for task.kind=span over {', '.join(SPANS)}, and for all of "
            f"task.kind={written}"
        )
    if kind == "opt" and config.model.embedding_channels != config.model.width:
        raise UserError(
            "export: transformers reads the classes of an opt behind its projection to model.embedding_width="
            f"{config.model.embedding_channels}, ours are read before it; there is no counterpart"
        )
    wanted, given = ACTIVATIONS.get(kind, ("tanh",)), config.model.pooler_activation
    if task.pools and config.model.family != "decoder" and given not in wanted:
        raise UserError(
            f"export: transformers reads the classes of a {kind} behind {wanted[0]}, this run was tuned with "
            f"model.pooler_activation={given}; tune it with model.pooler_activation={wanted[0]}"
        )
    architecture, entries = heads[kind]
    if heads is SPANS:
        return Head(architecture, entries, {})
    names = task.labels or (str(task.kind),)
    keys = {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": "single_label_classification" if task.description.classes else "regression",
    }
    return Head(architecture, entries, keys, PREFIXES.get(kind, "") if task.pools else "")
