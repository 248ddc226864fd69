"""`isoflop generate` as a person uses it."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from trainer.cli.main import main
from trainer.config import Config
from trainer.generation import Decoding, continue_texts
from trainer.generation.loaded_model import Trained
from trainer.generation.text import prompt_ids
from trainer.tasks.answers import Answers


def answer(capsys, *words):
    code = main(["generate", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_streamed_text_is_the_text(untrained, capsys):
    run = untrained()
    code, out, err = answer(capsys, run, "prompt=def f(", "tokens=40", "seed=3")
    assert code == 0 and out.startswith("def f(") and err == ""
    told = json.loads(answer(capsys, run, "prompt=def f(", "tokens=40", "seed=3", "--json")[1])
    assert out == "def f(" + told["text"] + "\n" and told["tokens"] <= 40


def test_a_batch_is_its_prompts_one_by_one(untrained, capsys, tmp_path):
    run = untrained()
    prompts = ["def f(x):", "import os", "class A:\n    pass", "x"]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    out = tmp_path / "out.jsonl"
    assert answer(capsys, run, f"file={file}", f"out={out}", "temperature=0", "tokens=12")[0] == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    for prompt, one in zip(prompts, found, strict=True):
        alone = json.loads(answer(capsys, run, f"prompt={prompt}", "temperature=0", "tokens=12", "--json")[1])
        assert one["prompt"] == prompt and one["text"] == alone["text"]


@pytest.mark.parametrize("objective", ["causal", "bart", "span_corruption"])
def test_a_tuned_run_is_asked_as_it_was_trained(objective, untrained):
    trained = Trained.load(untrained(objective))
    task = {"kind": "text", "train": ("x.jsonl",)}
    config = Config.model_validate(trained.config.model_dump(mode="json") | {"task": task})
    asked, _ = Answers([], config, trained.tokenizer).asked("is it?", "yes")
    assert prompt_ids(replace(trained, config=config), "is it?") == asked


def test_stop_cuts_the_text_and_is_never_shown(untrained):
    trained = Trained.load(untrained())
    whole = continue_texts(trained, ["def "], Decoding(tokens=60, temperature=1.0))[0].text
    word = whole[20:23]
    told = []
    [found] = continue_texts(trained, ["def "], Decoding(tokens=60, temperature=1.0), stop=[word], tell=told.append)
    assert found.text == whole[: whole.index(word)] == "".join(told)


def test_a_long_prompt_is_cut_on_the_left_and_told(untrained, capsys):
    long = "x = 1\n" * 200
    code, out, err = answer(capsys, untrained(), f"prompt={long}", "tokens=3", "--json")
    told = json.loads(out)
    assert code == 0 and f"{told['dropped']} tokens cut off on the left" in err
    trained = Trained.load(untrained())
    assert told["dropped"] == len(trained.tokenizer.encode(long)) + 1 - 64


def test_prompts_from_the_terminal(untrained, capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal("def f(\nimport \n"))
    code, out, err = answer(capsys, untrained(), "tokens=5")
    assert code == 0 and out.count("> ") >= 2 and "Ctrl-D ends" in err


def test_an_encoder_decoder_answers_by_beams(untrained, capsys):
    code, out, _ = answer(capsys, untrained("bart"), "prompt=def f(", "tokens=8", "beams=3", "--json")
    assert code == 0 and json.loads(out)["tokens"] <= 8


@pytest.mark.parametrize(
    ("objective", "words", "message"),
    [
        ("causal", ["beams=4", "temperature=1"], "beams=4 and temperature=1 contradict"),
        ("causal", ["beams=4", "top_p=0.9"], "beams=4 and top_p=0.9 contradict"),
        ("causal", ["temperature=0", "top_k=5"], "temperature=0 and top_k=5 contradict"),
        ("causal", ["length_penalty=2"], "length_penalty=2: only beams are compared by length"),
        ("causal", ["top_p=0"], "top_p: 0 given, more than 0 and at most 1 wanted"),
        ("causal", ["tokens=0"], "tokens: 0 given, 1 or more wanted"),
        ("causal", ["temperature=-1"], "temperature: -1 given, 0 or more wanted"),
        ("causal", ["temperature=nan"], "temperature: nan given"),
        ("causal", ["repetition_penalty=0"], "repetition_penalty: 0 given"),
        ("causal", ["beams=two"], "beams: 'two' given, a whole number wanted"),
        ("causal", ["temperatur=1"], "temperatur: no such option (did you mean 'temperature'?)"),
        ("causal", ["prompt=a <mask>"], "objective=causal trains no filling of <mask>"),
        ("causal", ["prompt=a", "file=b"], "prompt and file contradict"),
        ("causal", ["out=x"], "out: it takes the answers to file=..."),
        ("causal", ["file=nowhere.txt"], "cannot read nowhere.txt"),
        ("masked_lm", ["prompt=def f("], "'def f(': has no <mask> to be filled"),
        ("bart", ["prompt=a <mask>", "stop=x"], "stop and <mask> contradict"),
        ("bart", ["prompt="], "it needs a prompt to read, and one is empty"),
        ("bart", ["prompt=a <mask>", "language=de"], "language: only objective=mbart and model.languages read one"),
    ],
)
def test_bad_input(objective, words, message, untrained, capsys):
    code, out, err = answer(capsys, untrained(objective), *words)
    assert code == 2 and out == "" and message in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "a.txt: there is no prompt in it"),
        ("a.txt", "one\n\nthree\n", "a.txt, line 2: the prompt is empty"),
        ("a.jsonl", '{"prompt": "x"}\n{"text": "x"}\n', 'a.jsonl, line 2: no JSON object with a field "prompt"'),
        ("a.jsonl", "not json\n", 'a.jsonl, line 1: no JSON object with a field "prompt"'),
        ("a.jsonl", '{"prompt": 3}\n', "a.jsonl, line 1: the prompt is empty"),
    ],
)
def test_bad_files(name, content, message, untrained, capsys, tmp_path):
    (tmp_path / name).write_text(content)
    code, _, err = answer(capsys, untrained(), f"file={tmp_path / name}")
    assert code == 2 and message in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("prompt", ["a <mask> sees", "the cats"])
def test_a_language_is_named_where_there_are_several(prompt, untrained, capsys):
    run, alone = untrained("mbart", languages=("de", "fr")), untrained("mbart", languages=("de",))
    assert answer(capsys, run, f"prompt={prompt}", "tokens=4", "language=fr")[0] == 0
    assert answer(capsys, alone, f"prompt={prompt}", "tokens=4")[0] == 0
    for words, message in (([], "none given"), (["language=df"], "'df' given")):
        code, out, err = answer(capsys, run, f"prompt={prompt}", *words)
        assert code == 2 and out == "" and len(err.splitlines()) == 1
        assert f"language: {message}, run was trained on de, fr" in err
