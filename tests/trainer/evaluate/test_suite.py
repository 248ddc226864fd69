"""The suite's examples against grammars and interpreters written a second time, and its splits."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from trainer.config import DataConfig
from trainer.evaluate.suite import GENERATED, IN_CONTEXT, SUITE, examples
from trainer.evaluate.tasks.runner import prompt
from trainer.evaluate.tasks.shipped import shipped_task
from trainer.utils.errors import UserError

WITHOUT_LANGUAGES = [name for name in SUITE if name != "language"]


def texts(found):
    return {(example.text, example.answer) for example in found}


@pytest.mark.parametrize("name", WITHOUT_LANGUAGES)
def test_splits_share_nothing_and_repeat_by_seed(name):
    data = DataConfig()
    train = examples(name, "train", 120, 0, data)
    assert train == examples(name, "train", 120, 0, data)
    assert train != examples(name, "train", 120, 1, data)
    for seed in (0, 1):
        assert not texts(train) & texts(examples(name, "test", 120, seed, data))
    assert len(texts(train)) == 120 and all(example.answer in example.choices for example in train)
    assert len({example.choices.index(example.answer) for example in train}) > 1  # no place is always right


@pytest.mark.parametrize("name", ["agreement", "reflexives", "polarity"])
def test_pairs_differ_in_one_place(name):
    for example in examples(name, "test", 200):
        one, other = (Counter(choice.split()) for choice in example.choices)
        assert sum((one - other).values()) <= 2 and sum((other - one).values()) <= 2
        assert example.text == "" and len(example.choices) == 2


def test_agreement_follows_the_head_and_not_the_neighbour():
    misled = 0
    for example in examples("agreement", "test", 200):
        words = example.answer.rstrip(".").split()
        verb = next(word for word in words if word in ("is", "are", "was", "were", "has", "have"))
        plural = {"is": False, "was": False, "has": False}.get(verb, True)
        many = words[1].endswith("s") or words[1] in ("men", "women")
        assert plural == many, example.answer
        before = words[words.index(verb) - 1]
        misled += example.kind == "attractor" and (before.endswith("s") or before in ("men", "women")) != plural
    assert misled > 30


def test_reflexives_agree_with_the_subject():
    own = {"boy": "himself", "man": "himself", "king": "himself", "uncle": "himself"}
    own |= {"girl": "herself", "woman": "herself", "queen": "herself", "aunt": "herself"}
    for example in examples("reflexives", "test", 200):
        subject = example.answer.split()[1]
        assert example.answer.endswith(f" {own.get(subject, 'themselves')}.")


def scan(command: str) -> list[str]:
    """SCAN's interpretation function (Lake and Baroni 2018, supplement, figure 7), by the text alone."""
    if " and " in command:
        first, second = command.split(" and ", 1)
        return scan(first) + scan(second)
    if " after " in command:
        first, second = command.split(" after ", 1)
        return scan(second) + scan(first)
    if command.endswith((" twice", " thrice")):
        phrase, times = command.rsplit(" ", 1)
        return scan(phrase) * (2 if times == "twice" else 3)
    words = command.split()
    act = [] if words[0] == "turn" else [words[0].upper()]
    if len(words) == 1:
        return act
    turn = ["TURN-" + words[-1].upper()]
    return {"opposite": turn * 2 + act, "around": (turn + act) * 4}.get(words[1], turn + act)


def test_commands_mean_what_scan_says():
    # The examples of the paper's figure 1, in our spelling.
    assert scan("jump twice") == ["JUMP", "JUMP"]
    assert scan("jump opposite left") == ["TURN-LEFT", "TURN-LEFT", "JUMP"]
    assert scan("walk after jump around left")[:3] == ["TURN-LEFT", "JUMP", "TURN-LEFT"]
    for split in ("train", "test"):
        for example in examples("commands", split, 300):
            assert example.answer.split() == scan(example.text.removesuffix(" =>")), example.text


def test_training_commands_hold_out_composition():
    for example in examples("commands", "train", 300):
        assert "jump" not in example.text or example.text == "jump =>"
        assert len(example.answer.split()) <= 22
    kinds = Counter(example.kind for example in examples("commands", "test", 300))
    assert min(kinds[kind] for kind in ("seen", "new word", "longer")) > 20


def test_forms_name_who_did_what():
    for example in [*examples("forms", "train", 300), *examples("forms", "test", 300)]:
        sentence, form = example.text.removesuffix(" =>"), example.answer
        actor = re.search(r"\((\w+),", form)[1]
        said = sentence.split(" by the ")[1] if " by the " in sentence else sentence.split()[1]
        assert actor == said, (sentence, form)
        assert form.count(" and ") == sum(sentence.count(f" {word} the ") for word in ("in", "on", "beside"))
        if example.kind == "new role":
            assert actor in ("hedgehog", "visitor")
    assert all("(hedgehog," not in e.answer and "(visitor," not in e.answer for e in examples("forms", "train", 300))


def test_sequences_and_lookups():
    for copied, turned in zip(examples("copy", "test", 50), examples("reverse", "test", 50), strict=True):
        assert copied.text == f"{copied.answer} =>"
        assert turned.text == f"{turned.answer[::-1]} =>"
        assert len(copied.choices) == 4
    for example in examples("recall", "test", 50):
        pairs = dict(re.findall(r"([a-z]) ([A-Z])", example.text))
        assert set(pairs.values()) == set(example.choices) and len(pairs) == 4
        assert example.answer == pairs[example.text.split()[-2]]


def test_sixteen_examples_fit_a_small_context():
    """One token for each letter and line, at most two for the arrow, and the token that a text begins with."""
    for name in IN_CONTEXT:
        task = shipped_task(name, 50, 0, DataConfig())
        for item in task.items:
            text = prompt(task, item, 16, 0) + task.target_delimiter + item.answers[0]
            assert 1 + len(re.findall(r"[^ ]", text)) <= 256


def test_sections_are_folders_of_the_corpus():
    found = examples("section", "test", 80, 0, DataConfig())
    assert set(Counter(example.answer for example in found).values()) == {80 // len(found[0].choices)}
    assert "email" in found[0].choices


def test_languages_are_those_of_the_sources(tmp_path):
    words = {"de": "der die das und nicht ein ", "fr": "le la les et pas une "}
    sources = {}
    for name, text in words.items():
        folder = tmp_path / name
        folder.mkdir()
        for number in range(24):
            (folder / f"{number}.txt").write_text("\n".join(f"{number} {line} {text * 4}" for line in range(40)))
        sources[f"news-{name}"] = {"path": [str(folder)], "language": name}
    data = DataConfig.model_validate({"name": "mixture", "sources": sources})
    found = examples("language", "test", 40, 0, data)
    assert found[0].choices == ("de", "fr")
    assert all(("nicht" in example.text) == (example.answer == "de") for example in found)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("agrement", 10, "agrement: no such task in the suite (did you mean 'agreement'?)"),
        ("language", 10, "language: the corpus states fewer than two languages"),
        ("polarity", 10**6, "different ones"),
    ],
)
def test_bad_input(name, count, message, monkeypatch):
    monkeypatch.setattr("trainer.evaluate.suite.example.MOST_TRIES", 2000)
    with pytest.raises(UserError, match=re.escape(message)):
        examples(name, "test", count, 0, DataConfig())


def test_every_generated_task_makes_enough():
    assert all(len(examples(name, "test", 500)) == 500 for name in GENERATED)
