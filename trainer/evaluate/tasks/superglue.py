"""SuperGLUE's eight tasks from local files in its own layout (Wang et al. 2019, arXiv 1905.00537).

A folder BoolQ, CB, COPA, MultiRC, ReCoRD, RTE, WiC or WSC with `val.jsonl` to score on and `train.jsonl` to take
examples from. Questions are put as GPT-3's were (Brown et al. 2020, appendix G); metrics are those of the benchmark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.evaluate.tasks.rows import Row, read_rows
from trainer.evaluate.tasks.task import Item, Metric, Task
from trainer.utils.errors import UserError, nearest

Make = Callable[[Row], Iterator[Item]]


def _labelled(row: Row, text: str, choices: dict[str, str], group: str = "") -> Item:
    """choices: the label as the file writes it -> what the model says."""
    label = str(row["label"])
    if label not in choices:
        raise UserError(f"{row.where}: label: {label!r} is none of {', '.join(choices)}")
    said = tuple(choices.values())
    number = list(choices).index(label)
    return Item(text, (said[number],), said, number, group=group)


def boolq(row: Row) -> Iterator[Item]:
    text = f"{row['passage']}\nquestion: {row['question']}?\nanswer:"
    yield _labelled(row, text, {"False": "no", "True": "yes"})


def cb(row: Row) -> Iterator[Item]:
    text = f"{row['premise']}\nquestion: {row['hypothesis']} true, false, or neither?\nanswer:"
    yield _labelled(row, text, {"entailment": "true", "contradiction": "false", "neutral": "neither"})


def copa(row: Row) -> Iterator[Item]:
    """The premise, `because` or `so`, and the two alternatives as its continuations."""
    link = {"cause": "because", "effect": "so"}.get(str(row["question"]))
    if link is None:
        raise UserError(f"{row.where}: question: {row['question']!r} is neither cause nor effect")
    said = {str(n): _small(str(row[f"choice{n + 1}"])) for n in (0, 1)}
    yield _labelled(row, f"{str(row['premise']).rstrip('. ')} {link}", said)


def multirc(row: Row) -> Iterator[Item]:
    """Every answer of every question of the paragraph is judged; the answers of a question are a group."""
    paragraph = Row(row["passage"], row.where)
    for number, asked in enumerate(paragraph["questions"]):
        question = Row(asked, f"{row.where}, question {number + 1}")
        for said in question["answers"]:
            answer = Row(said, question.where)
            text = f"{paragraph['text']}\nquestion: {question['question']}\nanswer: {answer['text']}\nis it right?"
            yield _labelled(answer, text, {"0": "no", "1": "yes"}, group=question.where)


def record(row: Row) -> Iterator[Item]:
    """The entities of the passage fill the query's gap, and are scored with what follows it."""
    passage = Row(row["passage"], row.where)
    text = str(passage["text"])
    spans = [text[entity["start"] : entity["end"] + 1] for entity in passage["entities"]]
    entities = tuple(dict.fromkeys(spans))
    for asked in row["qas"]:
        query = Row(asked, row.where)
        before, gap, after = str(query["query"]).partition("@placeholder")
        if not gap:
            raise UserError(f"{row.where}: query: has no @placeholder")
        answers = tuple(dict.fromkeys(str(answer["text"]) for answer in query["answers"]))
        if not answers or not entities:
            raise UserError(f"{row.where}: {'passage.entities' if answers else 'answers'}: there are none")
        label = next((n for n, entity in enumerate(entities) if entity in answers), -1)
        yield Item(f"{text.replace('@highlight', '-')}\n{before.rstrip()}", answers, entities, label, after)


def rte(row: Row) -> Iterator[Item]:
    text = f"{row['premise']}\nquestion: {row['hypothesis']} true or false?\nanswer:"
    yield _labelled(row, text, {"entailment": "true", "not_entailment": "false"})


def wic(row: Row) -> Iterator[Item]:
    text = (
        f"{row['sentence1']}\n{row['sentence2']}\n"
        f"question: is the word '{row['word']}' used in the same sense in the two sentences above?\nanswer:"
    )
    yield _labelled(row, text, {"False": "no", "True": "yes"})


def wsc(row: Row) -> Iterator[Item]:
    """The pronoun is marked in the passage, and the noun proposed."""
    target = Row(row["target"], row.where)
    words = str(row["text"]).split(" ")
    place, pronoun = int(target["span2_index"]), str(target["span2_text"])
    if not re.match(re.escape(pronoun), " ".join(words[place:]), re.IGNORECASE):
        raise UserError(f"{row.where}: target.span2_index: word {place} is not {pronoun!r}")
    words[place] = f"*{words[place]}*"
    text = f"{' '.join(words)}\nquestion: does '{pronoun}' stand for '{target['span1_text']}'?\nanswer:"
    yield _labelled(row, text, {"False": "no", "True": "yes"})


TASKS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "BoolQ": (boolq, ("acc",)),
    "CB": (cb, ("acc", "macro_f1")),
    "COPA": (copa, ("acc",)),
    "MultiRC": (multirc, ("f1", "group_em")),
    "ReCoRD": (record, ("span_f1", "span_em")),
    "RTE": (rte, ("acc",)),
    "WiC": (wic, ("acc",)),
    "WSC": (wsc, ("acc",)),
}


def folders(path: Path) -> list[Path]:
    """The folders of SuperGLUE that this path is or holds."""
    inside = [path, *sorted(entry for entry in path.iterdir() if entry.is_dir())] if path.is_dir() else []
    return [folder for folder in inside if folder.name in TASKS]


def read_task(folder: Path) -> Task:
    """The task of one folder, scored on val.jsonl. Raises UserError naming file, row and field."""
    if folder.name not in TASKS:
        raise UserError(f"{folder}: no task of SuperGLUE{nearest(folder.name, TASKS)}; there is {', '.join(TASKS)}")
    make, metrics = TASKS[folder.name]
    items = _items(make, folder / "val.jsonl")
    shown = _items(make, folder / "train.jsonl") if (folder / "train.jsonl").is_file() else items
    return Task(folder.name, "multiple_choice", items, shown, tuple(map(Metric, metrics)))


def _items(make: Make, file: Path) -> tuple[Item, ...]:
    items: list[Item] = []
    for row in read_rows(file):
        try:
            items += make(row)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            form = f"not in the form of SuperGLUE's {file.parent.name}"
            raise UserError(f"{row.where}: {form} ({type(error).__name__}: {error})") from None
    if not items:
        raise UserError(f"{file}: there is nothing to ask in it")
    return tuple(items)


def _small(sentence: str) -> str:
    """As the second half of a sentence."""
    return sentence[:1].lower() + sentence[1:]
