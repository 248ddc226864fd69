"""Continued pre-training of an imported model: before its first step it is what transformers has."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import transformers
from test_parity import close, logits_of
from test_special_ids import saved as saved_with_bytes
from test_tokenizer_folder import trained
from tiny import ENCODER

from trainer.data import Tokenizer
from trainer.hub import export_run, import_run
from trainer.models import build, load_weights
from trainer.run.start import ready
from trainer.training.checkpoint import open_weights, save_weights


def saved(folder, kind):
    if kind != "bert":
        return saved_with_bytes(folder, kind)
    trained(folder / "vocab.txt", {})
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    torch.manual_seed(2)
    model = transformers.BertForPreTraining(transformers.BertConfig(**ENCODER | {"vocab_size": 400})).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


@pytest.fixture
def words(tiny, tmp_path):
    kept = [word for word in tiny if word.startswith(("data", "run.cache", "engine", "tracker"))]
    return [*kept, f"run.root={tmp_path / 'runs'}", "run.id=a", "budget.steps=1"]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "t5", "bart"])
@torch.no_grad()
def test_before_its_first_step_it_is_what_transformers_has(kind, words, tmp_path):
    (tmp_path / "theirs").mkdir()
    theirs, tokenizer = saved(tmp_path / "theirs", kind)
    import_run(tmp_path / "theirs", tmp_path / "imported")
    other = ["objective=mass"] if kind == "t5" else []  # this tokenizer has no sentinels
    config, folder = ready([f"init={tmp_path / 'imported'}", *words, *other])
    weights = open_weights(folder.initial / "step-00000000").weights()
    model = build(config).eval()
    load_weights(model, weights)
    tokens = torch.randint(6, 96, (2, 20), generator=torch.Generator().manual_seed(1))
    if kind in ("t5", "bart"):
        want = theirs(input_ids=tokens, decoder_input_ids=tokens[:, :9]).logits
        close(model.logits(tokens[:, :9], source_tokens=tokens), want)
    else:
        close(model.logits(tokens), logits_of(theirs(input_ids=tokens)))

    ours = Tokenizer(folder.tokenizer, config.tokenizer.special_ids)
    assert ours.encode("import os, sys") == tokenizer("import os, sys", add_special_tokens=False).input_ids
    save_weights(folder.checkpoints, weights, {"best": {}})  # as a training would
    export_run(folder.path, tmp_path / "back")
    again = type(theirs).from_pretrained(tmp_path / "back").eval()
    before = json.loads((tmp_path / "theirs" / "generation_config.json").read_text()) if kind != "bert" else None
    if before is not None:
        assert json.loads((tmp_path / "back" / "generation_config.json").read_text()) == before
    assert again.config.to_dict().keys() == theirs.config.to_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_another_tokenizer_leaves_what_was_of_the_old_one(words, tmp_path, small_tokenizer):
    (tmp_path / "theirs").mkdir()
    saved(tmp_path / "theirs", "gpt2")
    import_run(tmp_path / "theirs", tmp_path / "imported")
    config, folder = ready([f"init={tmp_path / 'imported'}", *words, f"tokenizer.path={small_tokenizer}"])
    rows = json.loads(folder.lineage.read_text())["rows"]
    assert rows["all"] == config.vocabulary == 832 and rows["by_piece"] > 256  # every byte, and some words
    assert not folder.hub.exists() and config.tokenizer.special_ids.eos is None
    old = open_weights(tmp_path / "imported" / "checkpoints" / "step-00000000").weights()["tokens.weight"]
    new = open_weights(folder.initial / "step-00000000").weights()["tokens.weight"]
    theirs, ours = Tokenizer(tmp_path / "imported" / "tokenizer.model"), Tokenizer(small_tokenizer)
    for role in ("<s>", "</s>", "<unk>"):
        assert torch.equal(new[ours.specials[role]], old[theirs.specials[role]])
    for spelled, bytewise in (("\u2581the", "\u0120the"), ("\n", "\u010a"), ("a", "a"), ("<0xFF>", "\u00ff")):
        assert torch.equal(new[ours.id_of(spelled)], old[theirs.id_of(bytewise)]), spelled
    assert torch.equal(new[-1], old[: theirs.vocabulary].mean(0))
