"""Bad records and bad tasks: one line each, naming file, line and field."""

from __future__ import annotations

import json

import pytest
import yaml
from pydantic import ValidationError

from trainer.config import load
from trainer.tasks import Examples, classes, open_task
from trainer.tasks.shipped import make_records
from trainer.utils.errors import UserError

SEQUENCE = {"kind": "sequence", "labels": ["no", "yes"]}
GOOD = {"text": "the cat", "label": "no"}


def refusal(config):
    with pytest.raises(UserError) as caught:
        Examples(open_task(config), config, "train")
    return str(caught.value)


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ({"txt": "the cat", "label": "no"}, "train.jsonl:2: no field 'text' (did you mean 'txt'?); it has txt, label"),
        ({"text": "the cat"}, "train.jsonl:2: no field 'label'"),
        ({"text": None, "label": "no"}, "train.jsonl:2: text: nothing stands there, a value wanted"),
        ({"text": "a \ud800", "label": "no"}, "train.jsonl:2: text: half a surrogate pair at character 2 is no text"),
        ({"text": " ", "label": "no"}, "train.jsonl:2: text: the text is empty"),
        ({"text": ["a"], "label": "no"}, "train.jsonl:2: text: list found, a text wanted"),
        ({"text": "a", "label": ["no"]}, "train.jsonl:2: label: list found, a class wanted"),
        ({"text": "a", "label": "yse"}, "train.jsonl:2: label: 'yse' is none of the 2 classes no, yes (did you mean"),
    ],
)
def test_records(configured, records, record, wanted):
    file = records(GOOD, record)
    said = refusal(configured(train=[str(file)], held_out=[str(file)], **SEQUENCE))
    assert wanted in said and len(said.splitlines()) == 1


def test_every_wrong_record_is_named_and_then_counted(configured, records):
    file = records(GOOD, *({"text": "", "label": "no"} for _ in range(10)))
    said = refusal(configured(train=[str(file)], held_out=[str(file)], **SEQUENCE)).splitlines()
    assert len(said) == 9 and said[-1] == "... and 2 more"


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.jsonl", '{"text": "a"\n', "a.jsonl:1: not JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: an object with fields wanted, list found"),
        ("a.json", '{"x": 1}', "a.json: a list of records wanted"),
        ("a.json", '{"data": [{"paragraphs": 3}]}', "a.json: 'data' is not of SQuAD's form"),
        ("a.csv", "text,label\na,b,c\n", "a.csv:2: more columns than the first line names"),
        ("a.csv", "text,label\n", "there are no records"),
        ("a.txt", "a", "records are read from .jsonl, .json, .csv, .tsv files"),
        ("a.jsonl", b"\xff\xfe", "a.jsonl: not UTF-8 text"),
    ],
)
def test_files(configured, tmp_path, name, content, wanted):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert wanted in refusal(configured(train=[str(file)], **SEQUENCE))


def test_missing_files(configured, tmp_path):
    assert "cannot read" in refusal(configured(train=[str(tmp_path / "no.jsonl")], **SEQUENCE))
    assert "nothing matches" in refusal(configured(train=[str(tmp_path / "*.jsonl")], **SEQUENCE))


def test_words_and_tags_of_different_number(configured, records):
    file = records({"words": ["a", "b"], "tags": ["O"]})
    task = {"kind": "token", "text": ["words"], "answer": ["tags"], "labels": ["O"], "train": [str(file)]}
    assert "train.jsonl:1: words has 2 words, tags has 1" in refusal(configured(held_out=[str(file)], **task))


@pytest.mark.parametrize("wrong", ["", " ", None, 1.5, ["a"]])
def test_words_that_are_none(configured, records, wrong):
    file = records({"words": ["a", wrong], "tags": ["O", "O"]})
    task = {"kind": "token", "text": ["words"], "answer": ["tags"], "labels": ["O"], "train": [str(file)]}
    assert f"train.jsonl:1: words: {wrong!r} is no word" in refusal(configured(held_out=[str(file)], **task))


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ({"text": ["dog"], "answer_start": [0]}, "'dog' does not stand at character 0"),
        ({"text": ["cat"], "answer_start": 4}, "a list of answers with 'text' and 'answer_start' wanted"),
        ({"text": ["cat"], "answer_start": ["four"]}, "every answer has a 'text' and an 'answer_start'"),
        ([{"text": "", "answer_start": 0}], "an answer without words; where there is none, write []"),
    ],
)
def test_answers_that_are_none(configured, records, answers, wanted):
    file = records({"question": "who", "context": "the cat", "answers": answers})
    task = {"kind": "span", "text": ["question", "context"], "answer": ["answers"], "train": [str(file)]}
    assert f"train.jsonl:1: answers: {wanted}" in refusal(configured(held_out=[str(file)], **task))


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_a_single_class(configured, records, kind):
    file = records({"text": "a", "label": "no"}, {"text": "b", "label": "no"})
    config = configured(kind=kind, labels=["no"], train=[str(file)], held_out=[str(file)])
    with pytest.raises(UserError, match="label: all records are of the class 'no'; two or more wanted"):
        classes(config, open_task(config))


@pytest.mark.parametrize(
    ("dataset", "wanted"),
    [
        ("5", "keys source, train, held_out, templates, answer, options, form wanted"),
        ("{templates: 5}", "templates: each has an 'input' and a 'target'"),
        ("{train: 5, templates: [{input: a, target: b}]}", "5 given, names of files wanted"),
        ("{templates: [{input: '{text', target: b}]}", "input: '{text': fields are written as {name}"),
        ("{templates: [{input: '{}', target: b}]}", "input: '{}': fields are written as {name}"),
        ("{templates: [{input: '{a:5d}', target: b}]}", "input: '{a:5d}': fields are written as {name}"),
        ("{templates: [{input: a, target: ' '}]}", "target: an answer of zero tokens"),
        ("{sourse: swapped}", "sourse: no such key (did you mean 'source'?)"),
    ],
)
def test_template_sets(configured, tmp_path, dataset, wanted):
    file = tmp_path / "set.yaml"
    file.write_text(f"- {dataset}\n")
    said = refusal(configured(kind="text", templates=str(file)))
    assert "set.yaml: dataset 1: " in said and wanted in said and len(said.splitlines()) == 1


def test_one_record_is_not_divided(configured, records):
    assert "give held-out files" in refusal(configured(train=[str(records(GOOD))], **SEQUENCE))


@pytest.mark.parametrize(
    ("family", "task", "wanted"),
    [
        ("encoder", {"kind": "text", "train": ["a"]}, "task.kind: text tunes decoder and encoder_decoder models"),
        (
            "encoder",
            {"kind": "preference", "answer": ["a", "b"], "train": ["a"]},
            "task.kind: preference tunes decoder",
        ),
        ("decoder", {"kind": "sequence"}, "train: task=none needs files"),
        ("decoder", {"kind": "sequence", "source": "swapped", "train": ["a"]}, "made of the corpus"),
        ("decoder", {"kind": "reward", "train": ["a"]}, "two fields, the chosen and the rejected text"),
        ("decoder", {"kind": "sequence", "answer": ["a", "b"], "train": ["a"]}, "wants one field, got a, b"),
        ("decoder", {"beta": 0.5}, "kind: tuning needs one"),
        (
            "decoder",
            {"kind": "reward", "answer": ["a", "b"], "train": ["a"], "label_smoothing": 0.1},
            "label_smoothing: kind=reward does not read it; sequence, text, token do",
        ),
        (
            "decoder",
            {"kind": "sequence", "train": ["a"], "templates": "corpus"},
            "templates: kind=sequence does not read it; policy, text do",
        ),
        (
            "decoder",
            {"kind": "preference", "answer": ["a", "b"], "train": ["a"], "from_scratch": True},
            "from_scratch: preferences are learned against a reference",
        ),
    ],
)
def test_tasks(configured, family, task, wanted):
    with pytest.raises(ValidationError) as caught:
        configured(family, **task)
    assert wanted in str(caught.value)


def test_a_run_of_before_keeps_keys_that_its_kind_does_not_read(configured, tmp_path):
    """0.1.0 took any key of `task` for any kind; the run is the same run, and tells its hash."""
    plain = configured(kind="sequence", train=["a"]).model_dump(mode="json")
    plain["task"] |= {"beta": 0.3, "answer_length": 16, "chat": False}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(plain))
    config = load(file)
    assert (config.task.beta, config.task.answer_length, config.task.chat) == (0.3, 16, False)
    again = tmp_path / "again.yaml"
    again.write_text(config.to_yaml())
    assert load(again) == config and load(again).science_hash() == config.science_hash()
    plain["task"]["kind"] = "preference"  # a value that does not fit is refused all the same
    file.write_text(yaml.safe_dump(plain))
    with pytest.raises(UserError, match="wants two fields"):
        load(file)


def test_squad_and_tables_are_read(configured, tmp_path):
    squad = {"data": [{"title": "t", "paragraphs": [{"context": "the cat", "qas": [
        {"question": "who", "answers": [{"text": "cat", "answer_start": 4}]},
        {"question": "what", "answers": []},
    ]}]}]}  # fmt: skip
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    file = str(tmp_path / "squad.json")
    config = configured(
        "encoder", kind="span", text=["question", "context"], answer=["answers"], train=[file], held_out=[file]
    )
    found = Examples(open_task(config), config, "held_out").batch(0, 2)
    assert found["targets"][1].tolist() == [0, 0] and (found["targets"][0] > 0).all()
    (tmp_path / "a.tsv").write_text('sentence\tlabel\nthe "cat\t1\na dog\t0\n')
    (tmp_path / "a.csv").write_text('sentence,label\n"the, cat",1\na dog,0\n')
    for name in ("a.tsv", "a.csv"):
        file = str(tmp_path / name)
        task = {"text": ["sentence"], "labels": ["0", "1"], "train": [file], "held_out": [file]}
        config = configured(kind="sequence", **task)
        assert Examples(open_task(config), config, "held_out").batch(0, 2)["targets"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("source", "text", "wanted"),
    [
        ("arguments", "no function is here\n", "has nothing that arguments could be made of; name files of records"),
        ("continuations", "one line is like another\n" * 24, "records that the corpus data=text gives are "),
    ],
)
def test_a_corpus_that_makes_no_task_or_one_side_of_it_says_which(configured, tmp_path, source, text, wanted):
    (tmp_path / "one.txt").write_text(text)
    config = configured()
    data = config.data.model_copy(update={"name": "text", "path": (str(tmp_path / "one.txt"),)})
    with pytest.raises(UserError) as caught:
        make_records(config.model_copy(update={"data": data}), source, "task=mine")
    said = str(caught.value)
    assert said.startswith("task=mine: ") and wanted in said and len(said.splitlines()) == 1
