"""People's files of prompts and answers: each form by hand, as tokens, and what is wrong with a record."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trainer.config import TaskConfig
from trainer.data import Tokenizer
from trainer.tasks import Examples, open_task
from trainer.tasks.formats import CHAT_TEMPLATE
from trainer.tasks.forms import Turn, read_exchanges
from trainer.utils.errors import UserError

CHAT = [
    ("system", "be kind"),
    ("user", "is it a cat?"),
    ("assistant", "a dog"),
    ("user", "sure?"),
    ("assistant", "yes"),
]
MESSAGES = {"messages": [{"role": role, "content": text} for role, text in CHAT]}
SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}
SHAREGPT = {"conversations": [{"from": SPEAKERS[role], "value": text} for role, text in CHAT], "id": "7"}
TALK = [(tuple(Turn(*turn) for turn in CHAT[:2]), "a dog"), (tuple(Turn(*turn) for turn in CHAT[:4]), "yes")]
ALPACA = "Here is a task. Write what it asks for.\n\n### Instruction:\nName an animal.\n\n### Response:"
WITH_INPUT = (
    "Here is a task, and what it is about. Write what it asks for.\n\n### Instruction:\nName an animal.\n\n"
    "### Input:\nthe old cat\n\n### Response:"
)
FORMS = {
    "prompt_completion": ({"prompt": "the {cat} ->", "completion": " sleeps\n"}, [("the {cat} ->", " sleeps\n")]),
    "alpaca": ({"instruction": "Name an animal.", "input": "", "output": "cat"}, [(ALPACA, "cat")]),
    "alpaca with input": (
        {"instruction": "Name an animal.", "input": "the old cat", "output": "cat"},
        [(WITH_INPUT, "cat")],
    ),
    "inputs_targets": ({"inputs": "cola sentence: a", "targets": "acceptable"}, [("cola sentence: a", "acceptable")]),
    "messages": (MESSAGES, TALK),
    "sharegpt": (SHAREGPT, TALK),
}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_told_by_its_keys(records, form, named):
    record, wanted = FORMS[form]
    name = form.split()[0]
    file = str(records(record))
    found = read_exchanges([file], [file], name if named else None, 0.05, "task.train")
    assert found.form == name
    assert [(one.fields["prompt"], one.fields["answer"]) for one in found.train] == wanted
    assert all(one.where.startswith(f"{file}:1") for one in found.train)


def test_a_json_list_is_read_as_lines_are(tmp_path):
    file = tmp_path / "alpaca.json"
    file.write_text(json.dumps([FORMS["alpaca"][0], FORMS["alpaca with input"][0]]))
    found = read_exchanges([str(file)], [str(file)], None, 0.05, "task.train")
    assert [one.fields["prompt"] for one in found.train] == [ALPACA, WITH_INPUT]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.json"])
def test_a_byte_order_mark_and_separators_within_a_text(tmp_path, name):
    """JSON leaves U+2028 and U+0085 as they are, where Python's splitlines parts lines."""
    record, file = {"inputs": "a\u2028b\u0085c", "targets": "d"}, tmp_path / name
    lines = [record, record] if name.endswith("l") else [[record, record]]
    file.write_text("\r\n".join(json.dumps(one, ensure_ascii=False) for one in lines), "utf-8-sig", newline="")
    found = read_exchanges([str(file)], [str(file)], None, 0.05, "task.train")
    assert [one.fields for one in found.train] == [{"prompt": "a\u2028b\u0085c", "answer": "d"}] * 2


def test_tab_separated_pairs_without_a_line_of_names(tmp_path):
    file = tmp_path / "pairs.tsv"
    file.write_text('cola sentence: "so\tno\ncola sentence: it\tyes\n')
    found = read_exchanges([str(file)], [str(file)], "tsv", 0.05, "task.train")
    assert [tuple(one.fields.values()) for one in found.train] == [
        ('cola sentence: "so', "no"),
        ("cola sentence: it", "yes"),
    ]


@pytest.fixture
def tuned_on(configured, records):
    """The configuration of `task=instructions task.train=<these records>`."""

    def make(*given, family="decoder", length=96, name="train.jsonl", **task):
        file = str(records(*given, name=name))
        base = {"kind": "text", "name": "instructions", "text": [], "answer": ["answer"], "templates": "corpus"}
        return configured(family, length, **{**base, "train": [file], "held_out": [file], **task})

    return make


def spelled(own, ids):
    """With special tokens by their names."""
    names = {number: name for name, number in own.specials.items()}
    return "".join(names.get(token) or own.decode([token]) for token in ids)


def test_a_conversation_is_read_as_the_exported_chat_template_writes_it(tuned_on, tokenizer_file):
    """jinja2 writes it, with the special tokens spelled out."""
    jinja2 = pytest.importorskip("jinja2")
    own, config = Tokenizer(tokenizer_file), tuned_on(MESSAGES)
    specials = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "<sep>"}
    whole = jinja2.Template(CHAT_TEMPLATE).render(messages=MESSAGES["messages"], **specials)
    batch = Examples(open_task(config), config, "held_out").batch(0, 1)
    documents = [batch["tokens"][0][batch["segments"][0] == number] for number in (0, 1)]
    targets = [batch["targets"][0][batch["segments"][0] == number] for number in (0, 1)]
    assert spelled(own, documents[1]) + "</s>" == whole
    assert whole.startswith(spelled(own, documents[0]) + "</s>")
    assert [spelled(own, one[one >= 0]) for one in targets] == ["a dog</s>", "yes</s>"]


def test_an_encoder_reads_what_was_said_as_lines(tuned_on, tokenizer_file):
    own, config = Tokenizer(tokenizer_file), tuned_on(MESSAGES, family="encoder_decoder")
    batch = Examples(open_task(config), config, "held_out").batch(0, 1)
    read = batch["source_tokens"][0][batch["source_segments"][0] == 1]
    assert spelled(own, read) == "<s>be kind\nis it a cat?\na dog\nsure?</s>"


def test_files_stand_in_the_place_of_the_shipped_set(tuned_on):
    config = tuned_on(FORMS["alpaca"][0])
    assert config.task.templates is None and config.task.reads_forms
    assert open_task(config).notes == ("form alpaca (instruction, output)",)


def test_no_conversation_is_on_both_sides(records):
    talks = [{"messages": [{"role": role, "content": f"{text} {n}"} for role, text in CHAT]} for n in range(40)]
    found = read_exchanges([str(records(*talks))], [], None, 0.3, "task.train")
    said = [{one.where.split(": ")[0] for one in part} for part in (found.train, found.held_out)]
    assert said[0] and said[1] and not said[0] & said[1]
    assert len(found.train) + len(found.held_out) == 80


GOOD = FORMS["alpaca"][0]


@pytest.mark.parametrize(
    ("first", "record", "wanted"),
    [
        (GOOD, {"instruction": "a", "ouput": "b"}, "train.jsonl:2: no field 'output' (did you mean 'ouput'?)"),
        (GOOD, {"instruction": "a", "output": ""}, "train.jsonl:2: output: the text is empty"),
        (GOOD, {"instruction": "a", "output": ["b"]}, "train.jsonl:2: output: list found, a text wanted"),
        (GOOD, {"instruction": "a", "input": ["c"], "output": "b"}, "train.jsonl:2: input: list found, a text wanted"),
        (
            GOOD,
            {"prompt": "a", "completion": "b"},
            "train.jsonl:2: prompt, completion given, the form prompt_completion; the records are of the form alpaca",
        ),
        ({"question": "a", "output": "b"}, GOOD, "train.jsonl:1: its keys question, output are of no form"),
        (
            {"prompt": "a"},
            GOOD,
            "its keys prompt are of no form of prompts and answers, of prompt_completion it lacks comp",
        ),
        (
            {"prompt": "a", "completion": "b", **MESSAGES},
            GOOD,
            "train.jsonl:1: its keys prompt, completion, messages fit the forms messages and prompt_completion; name "
            "one by task.form",
        ),
        (MESSAGES, {"messages": "hello"}, "train.jsonl:2: messages: str found, a list of messages wanted"),
        (MESSAGES, {"messages": []}, "train.jsonl:2: messages: an empty list found, a list of messages wanted"),
        (MESSAGES, {"messages": ["a"]}, "messages: message 1: str found, an object with role and content wanted"),
        (
            MESSAGES,
            {"messages": [{"role": "usr", "content": "a"}]},
            "message 1: role: 'usr' is none of system, developer, user, assistant (did you mean 'user'?)",
        ),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": "a"}]},
            "message 1: the last message is the user's; an answer to learn wanted",
        ),
        (
            MESSAGES,
            {"messages": [{"role": "assistant", "content": "a"}]},
            "message 1: an answer that nothing was asked before; a prompt wanted",
        ),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": [{"text": "a"}]}, {"role": "assistant", "content": "b"}]},
            "message 1: content: list found, a text wanted",
        ),
    ],
)
def test_what_is_wrong_is_one_line(tuned_on, first, record, wanted):
    with pytest.raises(UserError) as caught:
        open_task(tuned_on(first, record))
    assert wanted in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_columns_that_do_not_fit(tuned_on, tmp_path):
    for content, wanted in (
        ("a\n", "pairs.tsv:1: targets: the text is empty"),
        ("a\tb\tc\n", "pairs.tsv:1: more columns than inputs and targets"),
    ):
        (tmp_path / "pairs.tsv").write_text(content)
        with pytest.raises(UserError, match=wanted):
            read_exchanges([str(tmp_path / "pairs.tsv")], [str(tmp_path / "pairs.tsv")], "tsv", 0.05, "task.train")


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ({"templates": "mine.yaml"}, "form: templates says what is asked and answered; leave one of the two out"),
        ({"text": ("question",), "train": ("x",)}, "form: it names the fields itself; leave out task.text"),
        ({"source": "docstrings"}, "form: source=docstrings says what is asked and answered"),
        ({}, "needs files"),
    ],
)
def test_a_form_that_is_not_read(task, wanted):
    with pytest.raises(ValueError, match=wanted):
        TaskConfig.model_validate({"kind": "text", "form": "alpaca", **task})


def test_a_set_may_have_a_form_in_place_of_templates(configured, records, tmp_path):
    file, path = records(GOOD), tmp_path / "set.yaml"
    path.write_text(json.dumps([{"train": str(file), "held_out": str(file), "form": "alpaca"}]))
    config = configured(kind="text", text=[], answer=["label"], templates=str(path))
    assert len(Examples(open_task(config), config, "train")) == 1
    path.write_text(json.dumps([{"train": str(file), "form": "alpca"}]))
    with pytest.raises(UserError, match="dataset 1: form: 'alpca' is none \\(did you mean 'alpaca'\\?\\)"):
        open_task(config)


def test_answers_alone_are_learned(tuned_on, tokenizer_file):
    own, config = Tokenizer(tokenizer_file), tuned_on(GOOD, length=256)
    batch = Examples(open_task(config), config, "train").batch(0, 1)
    assert spelled(own, batch["tokens"][0][batch["segments"][0] == 0]) == f"<s>{ALPACA}<sep>cat"
    targets = batch["targets"][0]
    assert (
        spelled(own, targets[targets >= 0]) == "cat</s>" and int(np.argmax(targets >= 0)) == len(own.encode(ALPACA)) + 1
    )
