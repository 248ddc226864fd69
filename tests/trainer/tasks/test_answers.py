"""Prompts with answers: templates, loss on the answer only, packing that changes nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import yaml

from trainer.data import Tokenizer
from trainer.evaluate.answers import score_answers, write_answers
from trainer.generation.loaded_model import Trained
from trainer.models import build, initialize
from trainer.tasks import Examples, open_task
from trainer.tasks.answers import Answers
from trainer.tasks.records import Record
from trainer.tasks.templates import plain
from trainer.utils.errors import UserError

RECORDS = [{"text": f"the cat {n}", "label": "intact" if n % 2 else "swapped"} for n in range(9)]
TEMPLATES = [
    {"input": "Is this right? {text}\n{options}\n", "target": "{answer}"},
    {"input": "{text}: ", "target": "({answer})"},
]


@pytest.fixture
def instructions(configured, records, tmp_path):
    """A task of one dataset with two templates."""

    def make(family="decoder", length=128, templates=TEMPLATES, packing="packed", **dataset):
        file = str(records(*RECORDS))
        given = {"train": file, "held_out": file, "answer": "label", "options": {"intact": "yes", "swapped": "no"}}
        path = tmp_path / "set.yaml"
        path.write_text(yaml.safe_dump([{**given, "templates": templates, **dataset}]))
        config = configured(family, length, kind="text", text=[], answer=["label"], templates=str(path))
        return config.model_copy(update={"data": config.data.model_copy(update={"packing": packing})})

    return make


def documents(batch, own, side=""):
    """(what is read, what is to be written) of every exchange in a batch."""
    found = []
    for row in range(len(batch["tokens"])):
        segments = batch["segments"][row]
        for number in range(segments.max() + 1):
            mine = segments == number
            read = batch["tokens"][row][mine]
            if "source_tokens" in batch:
                read = batch["source_tokens"][row][batch["source_segments"][row] == number]
            targets = batch["targets"][row][mine]
            found.append((own.decode(read.tolist()), own.decode(targets[targets >= 0].tolist())))
    return found


@pytest.mark.parametrize("family", ["decoder", "encoder_decoder"])
def test_every_record_is_asked_once_an_epoch_and_the_answer_alone_is_learned(instructions, tokenizer_file, family):
    config, own = instructions(family), Tokenizer(tokenizer_file)
    found = Examples(open_task(config), config, "train")
    assert 1 < len(found) < 9
    for epoch in range(3):
        batch = found.batch(epoch * len(found), (epoch + 1) * len(found))
        asked = documents(batch, own)
        assert len(asked) == 9
        for record in RECORDS:
            answer = {"intact": "yes", "swapped": "no"}[record["label"]]
            mine = [(read, written) for read, written in asked if record["text"] in read]
            assert len(mine) == 1 and mine[0][1] in (answer, f"({answer})")
            assert ("OPTIONS:\n- yes\n- no" in mine[0][0]) == ("Is this right?" in mine[0][0])


def test_templates_are_drawn_by_the_number_of_the_sample(instructions, tokenizer_file):
    config, own = instructions(), Tokenizer(tokenizer_file)
    found, again = (Examples(open_task(config), config, "train") for _ in range(2))
    count = len(found)
    seen = [dict.fromkeys(documents(found.batch(e * count, (e + 1) * count), own)) for e in range(8)]
    assert len({one for epoch in seen for one in epoch}) == 18  # nine records, two templates
    part, whole = again.batch(5, 9), found.batch(0, 9)
    assert all((part[name] == whole[name][5:]).all() for name in part)
    held_out = [Examples(open_task(config), config, "held_out").batch(0, count) for _ in range(2)]
    assert all((held_out[0][name] == held_out[1][name]).all() for name in held_out[0])


@pytest.mark.parametrize("family", ["decoder", "encoder_decoder"])
def test_packed_answers_have_the_loss_that_they_have_alone(instructions, family):
    losses = []
    for packing in ("packed", "padded"):
        config = instructions(family, packing=packing)
        model = build(config)
        initialize(model, 0)
        found = Examples(open_task(config), config, "held_out")
        batch = {name: torch.from_numpy(array) for name, array in found.batch(0, len(found)).items()}
        loss, count, _ = model(**batch)
        losses.append((float(loss.detach()), int(count)))
    assert losses[0][1] == losses[1][1]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-6)


def test_a_long_prompt_loses_its_beginning_and_is_counted(instructions, tokenizer_file):
    config, own = instructions(length=32, packing="padded"), Tokenizer(tokenizer_file)
    found = Examples(open_task(config), config, "held_out")
    assert found.cut > 0
    batch = found.batch(0, len(found))
    for row, targets in zip(batch["tokens"], batch["targets"], strict=True):
        assert row[0] == own.specials["<s>"] and own.specials["<sep>"] in row
        assert own.decode(targets[targets >= 0].tolist()).strip("()") in ("yes", "no")


@pytest.mark.parametrize("family", ["decoder", "encoder_decoder"])
def test_scores_are_those_of_greedy_decoding(instructions, tokenizer_file, tmp_path, family):
    """A model that always says the same is right as often as that is the answer."""
    config = instructions(family, templates=TEMPLATES[:1])
    model = build(config)
    initialize(model, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    found = Examples(open_task(config), config, "train")
    for step in range(60):
        batch = {name: torch.from_numpy(array) for name, array in found.batch(2 * step, 2 * step + 2).items()}
        loss, count, _ = model(**batch)
        (loss / count).backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = Trained(tmp_path, 60, config, model.eval(), Tokenizer(tokenizer_file))
    scores = score_answers(trained, open_task(config))["metrics"]
    assert scores["exact_match"] > 0.4 and scores["choice_accuracy"] >= scores["exact_match"]
    assert scores["token_accuracy"] > scores["exact_match"]

    asked = [one.templates.render(one.record, number) for number, one in enumerate(open_task(config).held_out)]
    right = [answer for _, answer in asked]
    written = write_answers(trained, Answers([], config, trained.tokenizer), asked)
    assert np.mean([said == there for said, there in zip(written, right, strict=True)]) == scores["exact_match"]
    sacrebleu = pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(written, [right]).score / 100)
    assert scores["rouge_l"] == pytest.approx(scores["exact_match"])  # answers of one word


def test_without_the_packages_it_says_once_what_is_missing(instructions, tokenizer_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    config = instructions()
    trained = Trained(tmp_path, 0, config, build(config).eval(), Tokenizer(tokenizer_file))
    result = score_answers(trained, open_task(config))
    assert "chrf" not in result["metrics"] and len(result["notes"]) == 1
    assert "no sacrebleu" in result["notes"][0] and "isoflop[metrics]" in result["notes"][0]


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"templates": []}, "dataset 1: templates: at least one wanted"),
        ({"templates": [{"input": "a"}]}, "dataset 1: templates: each has an 'input' and a 'target'"),
        ({"templates": [{"input": "{txt}", "target": "a"}]}, "train.jsonl:1: no field 'txt' (did you mean 'text'?)"),
        ({"sorce": "swapped"}, "dataset 1: sorce: no such key (did you mean 'source'?)"),
        ({"source": "swaped"}, "dataset 1: source: no shipped task 'swaped' (did you mean 'swapped'?)"),
        ({"train": []}, "dataset 1: it needs a source, or train files"),
        ({"options": {"intact": "yes"}}, "train.jsonl:1: label: 'swapped' is none of intact"),
    ],
)
def test_bad_sets(instructions, changed, wanted):
    config = instructions(**changed)
    with pytest.raises(UserError) as caught:
        Examples(open_task(config), config, "train")
    assert wanted in str(caught.value).splitlines()[0]


def test_fields_are_named_as_they_are_called_in_the_file():
    """Also with numbers and dots, which format() would read as places and as parts of a value."""
    templates = plain(("0", "a.b", "c"), "1")
    record = Record({"0": "x {y}", "a.b": "y", "c": "z", "1": "w"}, "file.csv:2")
    assert templates.render(record, 0) == ("x {y}\ny\nz", "w")


def test_a_set_that_is_not_there(configured):
    config = configured(kind="text", text=[], answer=["label"], templates="corpsu")
    with pytest.raises(UserError, match="no shipped set \\(did you mean 'corpus'\\?\\)"):
        open_task(config)


def test_shipped_sets_have_ten_templates_a_task():
    from trainer.tasks.templates import SHIPPED

    for file in SHIPPED.glob("*.yaml"):
        for dataset in yaml.safe_load(file.read_text()):
            inputs = [one["input"] for one in dataset["templates"]]
            assert len(inputs) == len(set(inputs)) == 10, (file, dataset["source"])
