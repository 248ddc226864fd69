"""SuperGLUE's layout, in eight rows a task, all made up here."""

from __future__ import annotations

import json
import re

import pytest

from trainer.config import DataConfig
from trainer.evaluate.tasks import find_tasks, run_task
from trainer.evaluate.tasks.metrics import Answer, measure
from trainer.evaluate.tasks.superglue import TASKS, read_task
from trainer.generation.loaded_model import Trained
from trainer.utils.errors import UserError

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana")
PASSAGES = [f"{name} met Zoe at the lake. Zoe had a boat." for name in NAMES]


def record(number: int, name: str) -> dict:
    text = PASSAGES[number]
    spans = [(text.index(word), word) for word in (name, "Zoe", "boat")]
    entities = [{"start": start, "end": start + len(word) - 1} for start, word in spans]
    answer = {"start": text.index("Zoe"), "end": text.index("Zoe") + 2, "text": "Zoe"}
    qas = [{"idx": number, "query": "The boat was that of @placeholder.", "answers": [answer]}]
    return {"idx": number, "passage": {"text": text, "entities": entities}, "qas": qas}


def multirc(number: int, name: str) -> dict:
    answers = [
        {"idx": place, "text": who, "label": int(who == name)} for place, who in enumerate((name, "Zoe", "nobody"))
    ]
    question = {"idx": number, "question": "Who met Zoe?", "answers": answers}
    return {"idx": number, "passage": {"text": PASSAGES[number], "questions": [question]}}


MAKE = {
    "BoolQ": lambda n, name: {"passage": PASSAGES[n], "question": f"did {name} have a boat", "label": n % 2 == 0},
    "CB": lambda n, name: {
        "premise": PASSAGES[n],
        "hypothesis": f"{name} swam.",
        "label": ("entailment", "contradiction", "neutral")[n % 3],
    },
    "COPA": lambda n, name: {
        "premise": f"{name} was wet.",
        "choice1": "It had rained.",
        "choice2": "It was noon.",
        "question": ("cause", "effect")[n % 2],
        "label": n % 2,
    },
    "MultiRC": multirc,
    "ReCoRD": record,
    "RTE": lambda n, name: {
        "premise": PASSAGES[n],
        "hypothesis": f"{name} met Zoe.",
        "label": ("entailment", "not_entailment")[n % 2],
    },
    "WiC": lambda n, name: {
        "word": "bank",
        "sentence1": f"{name} sat on the bank.",
        "sentence2": "The bank was closed.",
        "label": n % 2 == 1,
    },
    "WSC": lambda n, name: {
        "text": f"{name} called Zoe because she was late.",
        "target": {"span1_index": 0, "span1_text": name, "span2_index": 4, "span2_text": "she"},
        "label": n % 2 == 0,
    },
}


@pytest.fixture
def superglue(tmp_path):
    for task, make in MAKE.items():
        (tmp_path / task).mkdir()
        rows = [make(number, name) for number, name in enumerate(NAMES)]
        for split in ("train", "val"):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / task / f"{split}.jsonl").write_text(text)
    return tmp_path


def test_all_eight_are_found_and_scored(superglue, untrained):
    tasks = find_tasks([str(superglue)], 10, 0, DataConfig())
    assert {task.name for task in tasks} == set(TASKS) == set(MAKE)
    trained = Trained.load(untrained(max_length=256))
    for task in tasks:
        found = run_task(trained, task, 1)
        assert set(found.values) == set(TASKS[task.name][1])
        assert all(0 <= value.value <= 1 for value in found.values.values())


@pytest.mark.parametrize("name", MAKE)
def test_a_model_that_knows_is_always_right(name, superglue):
    task = read_task(superglue / name)
    right = [
        Answer(item, tuple(float(place == item.label) for place in range(len(item.choices)))) for item in task.items
    ]
    wrong = [
        Answer(item, tuple(float(place != item.label) for place in range(len(item.choices)))) for item in task.items
    ]
    assert all(measure(metric, right).value == 1 for metric in task.metrics)
    assert all(measure(metric, wrong).value < 0.3 for metric in task.metrics)


def test_what_is_asked(superglue):
    tasks = {name: read_task(superglue / name).items for name in TASKS}
    assert len(tasks["MultiRC"]) == 24 and len({item.group for item in tasks["MultiRC"]}) == 8
    assert tasks["BoolQ"][0].text.endswith("question: did Ada have a boat?\nanswer:")
    assert tasks["BoolQ"][0].answers == ("yes",) and tasks["BoolQ"][1].answers == ("no",)
    assert tasks["COPA"][0].text == "Ada was wet because" and tasks["COPA"][0].answers == ("it had rained.",)
    assert tasks["COPA"][1].text == "Ben was wet so".replace("Ada", "Ben") and tasks["COPA"][1].label == 1
    first = tasks["ReCoRD"][0]
    assert first.choices == ("Ada", "Zoe", "boat") and first.answers == ("Zoe",) and first.after == "."
    assert first.text.endswith("\nThe boat was that of")
    assert "because *she* was" in tasks["WSC"][0].text
    assert tasks["CB"][1].answers == ("false",) and tasks["RTE"][1].answers == ("false",)


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("BoolQ", {"passage": None}, "val.jsonl, line 1: no field 'passage'; it has question, label"),
        ("RTE", {"label": "maybe"}, "val.jsonl, line 1: label: 'maybe' is none of entailment, not_entailment"),
        ("COPA", {"question": "why"}, "val.jsonl, line 1: question: 'why' is neither cause nor effect"),
        ("WSC", {"target": {"span1_text": "Ada", "span2_index": 2, "span2_text": "she"}}, "word 2 is not 'she'"),
        ("MultiRC", {"passage": "text"}, "val.jsonl, line 1: no JSON object"),
        ("MultiRC", {"passage": {"text": "x", "questions": 5}}, "line 1: not in the form of SuperGLUE's MultiRC"),
        ("MultiRC", {"passage": {"text": "x", "questions": []}}, "val.jsonl: there is nothing to ask in it"),
        ("ReCoRD", {"passage": {"text": "x", "entities": []}}, "line 1: passage.entities: there are none"),
        ("ReCoRD", {"passage": {"text": "x", "entities": [{}]}}, "line 1: not in the form of SuperGLUE's ReCoRD"),
    ],
)
def test_bad_rows(task, change, message, superglue):
    row = {key: value for key, value in (MAKE[task](0, "Ada") | change).items() if value is not None}
    (superglue / task / "val.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=re.escape(message)):
        read_task(superglue / task)


def test_unknown_folder(tmp_path):
    with pytest.raises(UserError, match=re.escape("no task of SuperGLUE (did you mean 'BoolQ'?)")):
        read_task(tmp_path / "Boolq")
