"""Tuned runs, exported and read by transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

pytest.importorskip("transformers")

import transformers
from test_runs import MODELS

from trainer.config import Config, TokenizerConfig
from trainer.data import Tokenizer
from trainer.data.tokenizer import train
from trainer.hub import export_run
from trainer.models import build, initialize
from trainer.run_folder import RunFolder
from trainer.tasks.formats import Sequences
from trainer.tasks.records import Record
from trainer.training.checkpoint import save_weights
from trainer.utils.errors import UserError

GPT2 = {"gated": False, "activation": "gelu_tanh", "norm": "layernorm", "position": "learned", "bias": True}
TEXTS = ["the cats sleep near the dogs\n", "a dog sees the old cat\n"]
PRESETS = Path(__file__).parents[3] / "conf" / "model"
CLASSIFIED = (
    *("gpt2-124m", "pythia-14m", "llama2-7b", "opt-125m", "bloom-560m"),
    *("bert-base", "albert-base", "roberta-base", "xlmr-base", "deberta-v3-base"),
    *("qwen3-0.6b", "gemma3-1b", "gpt-neo-125m", "distilbert-base", "camembert-base", "flan-t5-small", "bart-base"),
)
SEQUENCE = {"kind": "sequence", "labels": ["a", "b", "c"], "train": ["x.jsonl"]}


def small(name):
    """A preset in small."""
    given = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    sizes = {
        "depth": 2,
        "width": 32,
        "heads": 4,
        "kv_heads": 2,
        "head_size": 8,
        "ffn_width": 48,
        "max_length": 32,
        "embedding_width": 16,
        "vocabulary": 384,
    }
    return given | {key: value for key, value in sizes.items() if given.get(key) is not None}


@pytest.fixture
def run(tmp_path):
    """A tuned run with random weights."""

    def make(fields, task):
        folder = RunFolder(tmp_path / "run")
        folder.path.mkdir()
        folder.tokenizer.write_bytes(train(TEXTS * 30, TokenizerConfig(vocabulary=330, sentinels=10)))
        task = {name: tuple(value) if isinstance(value, list) else value for name, value in task.items()}
        config = Config.model_validate(
            {
                "model": {"depth": 2, "width": 32, "heads": 4, "vocabulary": 384, "max_length": 32, **fields},
                "tokenizer": {"path": str(folder.tokenizer)},
                "data": {"sequence_length": 32},
                "task": task,
            }
        )
        model = build(config)
        initialize(model, 1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.1)
        folder.config.write_text(config.to_yaml())
        trained = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
        save_weights(folder.checkpoints, trained, {"science": "", "data": "", "best": {}})
        return folder, config, model.eval()

    return make


@pytest.mark.parametrize("name", CLASSIFIED)
def test_classes_are_those_of_transformers(run, tmp_path, name):
    folder, config, model = run(small(name), SEQUENCE)
    export_run(folder.path, tmp_path / "out")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert theirs.config.id2label == {0: "a", 1: "b", 2: "c"}
    form = Sequences(config, Tokenizer(folder.tokenizer))
    rows = [form(Record({"text": text, "label": "a"}, "")).arrays for text in (TEXTS[0], "a dog", TEXTS[1] * 2)]
    batch = {name: torch.stack([torch.from_numpy(row[name]) for row in rows]) for name in rows[0]}
    batch.pop("targets")
    with torch.no_grad():
        ours = model.logits(**batch)
        side = "source_" if config.model.family == "encoder_decoder" else ""
        mask = (batch[f"{side}segments"] >= 0).long()
        found = theirs(batch[f"{side}tokens"], attention_mask=mask).logits
    torch.testing.assert_close(found, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("second", [None, 0, 1])
def test_the_token_types_of_a_pair_are_those_of_training(run, tmp_path, second):
    folder, config, _ = run(small("bert-base"), SEQUENCE | {"text": ["text", "other"]})
    ids = config.tokenizer.special_ids.model_copy(update={"second_type": second})
    config = config.model_copy(update={"tokenizer": config.tokenizer.model_copy(update={"special_ids": ids})})
    folder.config.write_text(config.to_yaml())
    export_run(folder.path, tmp_path / "out")
    texts, own = ("a dog", "the old cat"), Tokenizer(folder.tokenizer, ids)
    row = Sequences(config, own)(Record({"text": texts[0], "other": texts[1], "label": "a"}, "")).arrays
    given = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")(*texts)
    size = len(given.input_ids)
    assert row["tokens"][:size].tolist() == given.input_ids and set(row["segments"][size:]) == {-1}
    assert row["token_types"][:size].tolist() == given.get("token_type_ids", [0] * size)
    assert max(row["token_types"]) == (1 if second is None else second)


def test_a_policy_is_a_language_model(run, tmp_path):
    task = {"kind": "preference", "answer": ["a", "b"], "train": ["x.jsonl"], "parent": "gone"}
    folder, _, model = run({}, task)
    export_run(folder.path, tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokens = torch.tensor([[1, 20, 30, 40]])
    torch.testing.assert_close(theirs(tokens).logits, model.policy.logits(tokens), rtol=1e-4, atol=1e-5)


def test_the_chat_template_gives_the_tokens_of_training(run, tmp_path):
    folder, config, _ = run({}, {"kind": "text", "train": ["x.jsonl"]})
    export_run(folder.path, tmp_path / "out")
    chat = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    own = Tokenizer(folder.tokenizer)
    form = Sequences(config, own)
    asked = [{"role": "user", "content": "the cats\nsleep "}]
    ids = chat.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    assert ids == form.prompt("the cats\nsleep ")
    answered = [*asked, {"role": "assistant", "content": "a dog"}]
    ids = chat.apply_chat_template(answered, return_dict=False)
    assert ids == [*form.prompt("the cats\nsleep "), *own.encode("a dog"), own.specials["</s>"]]


def test_an_encoder_decoder_has_no_chat_template(run, tmp_path):
    """What its encoder reads has no separator and no turns."""
    folder, _, _ = run(small("t5-small"), {"kind": "text", "train": ["x.jsonl"]})
    export_run(folder.path, tmp_path / "out")
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "out").chat_template is None


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("opt-125m", "token", r"task\.kind=token has no counterpart"),
        ("xglm-564m", "sequence", r"a xglm tuned with task\.kind=sequence has no counterpart"),
        ("opt-350m", "sequence", r"behind its projection to model\.embedding_width"),
        ("aya-23-8b", "sequence", r"a cohere tuned with task\.kind=sequence has no counterpart"),
    ],
)
def test_what_transformers_has_not_is_refused(run, tmp_path, name, kind, message):
    folder, _, _ = run(small(name), {**SEQUENCE, "kind": kind})
    with pytest.raises(UserError, match=message):
        export_run(folder.path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_of_a_score(run, tmp_path):
    folder, _, _ = run(MODELS["llama"], {"kind": "reward", "answer": ["a", "b"], "train": ["x.jsonl"]})
    export_run(folder.path, tmp_path / "out")
    described = json.loads((tmp_path / "out" / "config.json").read_text())
    assert described["architectures"] == ["LlamaForSequenceClassification"]
    assert described["id2label"] == {"0": "reward"}
