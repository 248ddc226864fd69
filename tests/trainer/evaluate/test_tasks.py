"""Tasks from files: what is asked, what is shown before it, and what is wrong with a file."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from trainer.config import DataConfig
from trainer.evaluate.tasks import find_tasks, run_task
from trainer.evaluate.tasks.runner import prompt
from trainer.generation.loaded_model import Trained
from trainer.utils.errors import UserError

TASK = {
    "task": "capitals",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "test.jsonl", "train": "train.jsonl"}},
    "test_split": "test",
    "training_split": "train",
    "output_type": "multiple_choice",
    "doc_to_text": "Q: the capital of {{ country }}?\nA:",
    "doc_to_choice": "{{ cities }}",
    "doc_to_target": "{{ answer }}",
    "description": "Answer.\n\n",
}
ROWS = [
    {"country": country, "cities": [city, "Berlin"], "answer": 0, "note": f"{country} is old"}
    for country, city in (("Italy", "Rome"), ("Spain", "Madrid"), ("Poland", "Warsaw"), ("Egypt", "Cairo"))
]


@pytest.fixture
def written(tmp_path):
    """written(changes, rows): the path of a task file with these keys changed, beside its data."""

    def write(changes=None, rows=ROWS):
        for name in ("test", "train"):
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        keys = {key: value for key, value in (TASK | (changes or {})).items() if value is not None}
        text = "".join(
            f"{key}: {value}\n" if str(value).startswith("!") else yaml.safe_dump({key: value})
            for key, value in keys.items()
        )
        (tmp_path / "task.yaml").write_text(text)
        return tmp_path / "task.yaml"

    return write


def read(path):
    [task] = find_tasks([str(path)], 10, 0, DataConfig())
    return task


def test_multiple_choice(written):
    task = read(written())
    assert task.items[0].text == "Q: the capital of Italy?\nA:" and task.items[0].choices == ("Rome", "Berlin")
    assert task.items[0].label == 0 and task.items[0].answers == ("Rome",)
    assert prompt(task, task.items[0], 0, 0) == "Answer.\n\nQ: the capital of Italy?\nA:"


def test_examples_before_the_question(written):
    task = read(written())
    text = prompt(task, task.items[0], 2, 0)
    parts = text.removeprefix("Answer.\n\n").split("\n\n")
    assert len(parts) == 3 and parts[-1] == task.items[0].text
    known = {f"{item.text} {item.answers[0]}" for item in task.items[1:]}
    assert set(parts[:2]) <= known and parts[0] != parts[1]  # different ones, and never the question itself
    assert text == prompt(task, task.items[0], 2, 0) != prompt(task, task.items[0], 2, 1)


def test_targets_by_number_text_and_field(written):
    for target in ("{{ answer }}", "answer", 0, "{{ cities[0] }}"):
        assert read(written({"doc_to_target": target})).items[1].label == 0
    assert read(written({"doc_to_choice": ["no", "yes"], "doc_to_target": 1})).items[0].answers == ("yes",)
    assert read(written({"doc_to_choice": {"a": "no", "b": "yes"}, "doc_to_target": "yes"})).items[0].label == 1


def test_included_files(written, tmp_path):
    file = written()
    (tmp_path / "other.yaml").write_text("include: task.yaml\ntask: other\nnum_fewshot: 2\n")
    task = read(tmp_path / "other.yaml")
    assert task.name == "other" and task.shots == 2 and task.items == read(file).items
    assert {task.name for task in find_tasks([str(tmp_path)], 10, 0, DataConfig())} == {"capitals", "other"}


@pytest.mark.parametrize(
    ("changes", "metrics"),
    [
        ({}, {"acc", "acc_norm"}),
        ({"metric_list": [{"metric": "f1"}, {"metric": "mcc"}]}, {"f1", "mcc"}),
        ({"output_type": "loglikelihood", "doc_to_target": "{{ cities[0] }}"}, {"perplexity", "acc"}),
        (
            {"output_type": "loglikelihood_rolling", "doc_to_target": "note", "doc_to_text": None},
            {"word_perplexity", "byte_perplexity", "bits_per_byte"},
        ),
        (
            {
                "output_type": "generate_until",
                "doc_to_target": "{{ cities[0] }}",
                "generation_kwargs": {"until": ["\n"], "max_gen_toks": 5},
            },
            {"exact_match"},
        ),
    ],
)
def test_every_output_is_scored(changes, metrics, written, untrained):
    result = run_task(Trained.load(untrained()), read(written(changes)), 1)
    assert set(result.values) == metrics and result.items == 4
    assert all(value.value == value.value for value in result.values.values())  # not nan


def test_long_contexts_are_counted(written, untrained):
    rows = [row | {"country": row["country"] + " or" * (60 if number < 3 else 0)} for number, row in enumerate(ROWS)]
    assert run_task(Trained.load(untrained()), read(written(rows=rows)), 0).shortened == 3


WRONG = [
    ({"task": None}, "task.yaml: task is missing"),
    ({"doc_to_text": None}, "task.yaml: doc_to_text is missing"),
    ({"doc_to_choice": None}, "task.yaml: doc_to_choice is missing, which output_type multiple_choice needs"),
    ({"doc_to_target": None}, "task.yaml: doc_to_target is missing"),
    ({"test_split": None}, "task.yaml: test_split is missing (or validation_split)"),
    ({"dataset_path": "glue"}, "task.yaml: dataset_path: 'glue' given, 'json' wanted"),
    ({"dataset_kwargs": {}}, "task.yaml: dataset_kwargs.data_files is missing"),
    ({"test_split": "dev"}, "task.yaml: test_split: dataset_kwargs.data_files has no 'dev'; it has test, train"),
    ({"output_type": "multiple_choise"}, "(did you mean 'multiple_choice'?)"),
    ({"doc_to_tekst": "x"}, "task.yaml: doc_to_tekst is not read here (did you mean 'doc_to_text'?)"),
    ({"process_docs": "!function utils.process"}, "task.yaml: process_docs: !function utils.process is Python code"),
    ({"filter_list": [{"name": "x"}]}, "task.yaml: filter_list is not read here"),
    ({"doc_to_text": "{{ contry }}"}, "task.yaml: doc_to_text: 'contry' is undefined"),
    ({"doc_to_text": "{{ country"}, "task.yaml: doc_to_text: "),
    ({"doc_to_target": "Paris"}, "test.jsonl, line 1: doc_to_target gives 'Paris', none of the 2 choices"),
    ({"doc_to_target": 2}, "test.jsonl, line 1: doc_to_target gives 2, none of the 2 choices"),
    ({"doc_to_choice": ["yes", ""]}, "test.jsonl, line 1: doc_to_choice: an answer of zero tokens"),
    ({"doc_to_choice": "country"}, "test.jsonl, line 1: doc_to_choice gives no list of two or more choices"),
    ({"metric_list": [{"metric": "accuracy"}]}, "task.yaml: metric_list: no metric 'accuracy' for multiple_choice"),
    ({"metric_list": [{"metric": "perplexity"}]}, "no metric 'perplexity' for multiple_choice"),
    (
        {"output_type": "generate_until", "generation_kwargs": {"do_sample": True}},
        "task.yaml: generation_kwargs: answers are written greedily",
    ),
    ({"output_type": "loglikelihood", "doc_to_target": "{{ '' }}"}, "doc_to_target: an answer of zero tokens"),
    ({"num_fewshot": "three"}, "task.yaml: num_fewshot: 'three' given, a whole number wanted"),
    ({"num_fewshot": -1}, "task.yaml: num_fewshot: -1 given, a whole number from 0 wanted"),
    ({"description": 7}, "task.yaml: description: 7 given, a text wanted"),
    ({"dataset_kwargs": [1]}, "task.yaml: dataset_kwargs: [1] given, keys and values wanted"),
    ({"dataset_kwargs": {"data_files": {"test": 5}}}, "task.yaml: dataset_kwargs.data_files: 5 given, names of files"),
    ({"metric_list": "acc"}, "task.yaml: metric_list: 'acc' given, a list wanted"),
    ({"metric_list": [5]}, "task.yaml: metric_list: no metric 5 for multiple_choice"),
    ({"generation_kwargs": {"max_gen_toks": "many"}}, "generation_kwargs.max_gen_toks: 'many' given, a whole number"),
    ({"generation_kwargs": {"until": 5}}, "task.yaml: generation_kwargs.until: 5 given, texts wanted"),
    ({"doc_to_text": "{{ answer + 'x' }}"}, "task.yaml: doc_to_text: unsupported operand"),
    ({"doc_to_text": "{{ none }}"}, "task.yaml: doc_to_text: a field that is null"),
    ({"include": "task.yaml"}, "task.yaml: include: task.yaml includes this file in turn"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_is_wrong_with_a_task_file(changes, message, written):
    with pytest.raises(UserError) as error:
        read(written(changes))
    assert message in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("objective", "changes", "message"),
    [
        ("causal", {"output_type": "loglikelihood", "doc_to_target": "{{ note * 40 }}"}, "the model reads 64 at most"),
        ("masked_lm", {"output_type": "generate_until"}, "run is an encoder: it fills <mask> in a prompt"),
        ("masked_lm", {"output_type": "loglikelihood_rolling"}, "only decoders have a likelihood of a text"),
        ("bart", {"output_type": "generate_until", "description": "", "doc_to_text": ""}, "needs a prompt to read"),
        ("mass", {}, "objective=mass trains no filling of a gap"),
    ],
)
def test_what_a_model_cannot_answer(objective, changes, message, written, untrained):
    task = read(written(changes))
    with pytest.raises(UserError) as error:
        run_task(Trained.load(untrained(objective)), task, 0)
    assert str(error.value).startswith("capitals: ") and message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{\n", "test.jsonl, line 1: no JSON"),
        ('{"country": "x"}\n[1]\n', "test.jsonl, line 2: no JSON object"),
        ("", "there is no row in test.jsonl"),
    ],
)
def test_what_is_wrong_with_a_data_file(text, message, written, tmp_path):
    file = written()
    (tmp_path / "test.jsonl").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        read(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("agrement", "tasks: agrement: no such task or file (did you mean 'agreement'?)"),
        ("nowhere/task.yaml", "tasks: nowhere/task.yaml: no such task or file"),
    ],
)
def test_unknown_tasks(name, message):
    with pytest.raises(UserError, match=re.escape(message)):
        find_tasks([name], 10, 0, DataConfig())


def test_too_few_examples(written, untrained):
    with pytest.raises(UserError, match="capitals: shots=4 given, it has 3 other examples to show"):
        run_task(Trained.load(untrained()), read(written()), 4)


def test_templates_are_sandboxed(written):
    with pytest.raises(UserError, match="doc_to_text"):
        read(written({"doc_to_text": "{{ country.__class__.__mro__ }}"}))
