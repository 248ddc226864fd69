"""Forms that a checkpoint may have: tied tables under any name, bodies, classifiers, a lone discriminator, pickles."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

pytest.importorskip("transformers")

import transformers
from odd import BART, DEBERTA, GPT, MODERN, PLACES, T5, XLNET, build
from odd_decoders import GEMMA
from odd_decoders import NEO as GPT_NEO
from safetensors.torch import load_file, save_file
from tiny import MODELS, tiny

from trainer.cli.main import main
from trainer.generation.loaded_model import load_model
from trainer.hub import FAMILIES, export_run, import_run, read_checkpoint
from trainer.utils.errors import UserError

ONE_OF_A_TYPE = {tiny_keys[1]: name for name, tiny_keys in reversed(MODELS.items())}


def tensors_of(folder):
    return load_file(folder / "model.safetensors")


def rewrite(folder, tensors):
    save_file({name: value.clone().contiguous() for name, value in tensors.items()}, folder / "model.safetensors")


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "bloom", "electra-generator", "xlnet", "bart", "t5"])
def test_a_tied_table_is_found_under_any_of_its_names(name, tmp_path):
    tiny(name).save_pretrained(tmp_path)
    wanted, whole = read_checkpoint(tmp_path).weights, tensors_of(tmp_path)
    family = FAMILIES[tiny(name).config.model_type]
    for alias, own in family.aliases:
        if own not in whole or alias in whole:
            continue
        rewrite(tmp_path, {alias if key == own else key: value for key, value in whole.items()})
        found = read_checkpoint(tmp_path).weights
        assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
        rewrite(tmp_path, whole | {alias: whole[own] + 1})
        if (name, alias) != ("t5", "lm_head.weight"):  # a head of its own, there
            with pytest.raises(UserError, match=f"{alias}: differs from {own}"):
                read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("kind", "config", "keys", "new"),
    [
        ("BertModel", "BertConfig", PLACES, True),
        ("RobertaModel", "RobertaConfig", PLACES, True),
        ("AlbertModel", "AlbertConfig", PLACES | {"embedding_size": 16}, True),
        ("ElectraModel", "ElectraConfig", PLACES | {"embedding_size": 16}, True),
        ("LlamaModel", "LlamaConfig", PLACES, True),
        ("ModernBertModel", "ModernBertConfig", MODERN, True),
        ("XLNetModel", "XLNetConfig", XLNET, True),
        ("GPT2Model", "GPT2Config", GPT, False),  # its head is its table
        ("BartModel", "BartConfig", BART, False),
    ],
)
def test_a_body_comes_in_and_what_is_new_is_said(kind, config, keys, new, tmp_path, capsys):
    build(kind, config, keys).save_pretrained(tmp_path / "theirs")
    assert main(["import", str(tmp_path / "theirs"), f"to={tmp_path / 'run'}", "--check", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["exact"] and ("new" in facts) is new
    if new:
        assert "drawn with seed 0" in facts["new"] and "hidden states" in facts["check"]
        first = read_checkpoint(tmp_path / "theirs")
        again = read_checkpoint(tmp_path / "theirs").weights
        assert first.drawn and all(torch.equal(first.weights[part], again[part]) for part in first.drawn)
        export_run(tmp_path / "run", tmp_path / "back")
        assert json.loads((tmp_path / "back" / "config.json").read_text())["architectures"] == [kind]
        before, after = tensors_of(tmp_path / "theirs"), tensors_of(tmp_path / "back")
        unread = {name for name in before if kind == "RobertaModel" and name.startswith("pooler.")}
        assert before.keys() - unread == after.keys() and all(torch.equal(before[key], after[key]) for key in after)


def test_a_head_of_which_a_part_is_missing_is_no_body(tmp_path):
    tiny("bert").save_pretrained(tmp_path)
    tensors = tensors_of(tmp_path)
    del tensors["cls.predictions.transform.dense.weight"]
    rewrite(tmp_path, tensors)
    with pytest.raises(UserError, match=r"cls\.predictions\.transform\.dense\.weight: missing"):
        read_checkpoint(tmp_path)


LABELS = {"id2label": {0: "no", 1: "maybe", 2: "yes"}, "pad_token_id": 0}
DISTILBERT = {"vocab_size": 101, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40}
DISTILBERT |= {"max_position_embeddings": 48}
CLASSIFIERS = [
    ("BertForSequenceClassification", "BertConfig", PLACES),
    ("BertForTokenClassification", "BertConfig", PLACES),
    ("RobertaForSequenceClassification", "RobertaConfig", PLACES),
    ("RobertaForTokenClassification", "RobertaConfig", PLACES),
    ("AlbertForSequenceClassification", "AlbertConfig", PLACES | {"embedding_size": 16}),
    ("DebertaV2ForSequenceClassification", "DebertaV2Config", DEBERTA),
    ("DebertaV2ForSequenceClassification", "DebertaV2Config", DEBERTA | {"pooler_hidden_act": "tanh"}),
    ("DebertaV2ForTokenClassification", "DebertaV2Config", DEBERTA),
    ("GPT2ForSequenceClassification", "GPT2Config", GPT),
    ("LlamaForSequenceClassification", "LlamaConfig", PLACES),
    ("LlamaForTokenClassification", "LlamaConfig", PLACES),
    ("GPT2ForTokenClassification", "GPT2Config", GPT),
    ("MistralForSequenceClassification", "MistralConfig", PLACES | {"num_key_value_heads": 3, "sliding_window": 5}),
    ("Qwen2ForSequenceClassification", "Qwen2Config", PLACES | {"num_key_value_heads": 3}),
    ("Qwen3ForTokenClassification", "Qwen3Config", PLACES | {"num_key_value_heads": 3}),
    ("SmolLM3ForSequenceClassification", "SmolLM3Config", PLACES | {"num_key_value_heads": 3, "eos_token_id": 2}),
    ("OlmoForSequenceClassification", "OlmoConfig", PLACES | {"eos_token_id": 2}),
    ("Olmo3ForSequenceClassification", "Olmo3Config", PLACES | {"eos_token_id": 2, "sliding_window": 5}),
    ("GPTNeoForSequenceClassification", "GPTNeoConfig", GPT_NEO),
    ("GPTNeoForTokenClassification", "GPTNeoConfig", GPT_NEO),
    ("GemmaForTokenClassification", "GemmaConfig", GEMMA),
    ("Gemma2ForSequenceClassification", "Gemma2Config", GEMMA),
    ("Gemma3TextForSequenceClassification", "Gemma3TextConfig", GEMMA),
    ("DistilBertForSequenceClassification", "DistilBertConfig", DISTILBERT),
    ("DistilBertForTokenClassification", "DistilBertConfig", DISTILBERT),
    ("CamembertForSequenceClassification", "CamembertConfig", PLACES),
    ("CamembertForTokenClassification", "CamembertConfig", PLACES),
    ("T5ForSequenceClassification", "T5Config", T5 | {"feed_forward_proj": "gated-gelu", "eos_token_id": 1}),
    ("MT5ForSequenceClassification", "MT5Config", T5 | {"eos_token_id": 1}),
    ("BartForSequenceClassification", "BartConfig", BART),
    ("MBartForSequenceClassification", "MBartConfig", BART),
]


@pytest.mark.parametrize(("kind", "config", "keys"), CLASSIFIERS)
def test_classifiers_come_and_go(kind, config, keys, tmp_path):
    build(kind, config, keys | LABELS).save_pretrained(tmp_path / "theirs")
    facts = import_run(tmp_path / "theirs", tmp_path / "run", check=True)
    assert facts["exact"], facts["check"]
    task = load_model(tmp_path / "run")[1].task
    assert task.labels == ("no", "maybe", "yes")
    export_run(tmp_path / "run", tmp_path / "back")
    assert json.loads((tmp_path / "back" / "config.json").read_text())["architectures"] == [kind]
    before, after = tensors_of(tmp_path / "theirs"), tensors_of(tmp_path / "back")
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_a_reward_model_is_a_score(tmp_path):
    keys = PLACES | {"num_labels": 1, "pad_token_id": 0}
    build("LlamaForSequenceClassification", "LlamaConfig", keys).save_pretrained(tmp_path / "theirs")
    assert import_run(tmp_path / "theirs", tmp_path / "run", check=True)["exact"]
    assert load_model(tmp_path / "run")[1].task.kind == "reward"


@pytest.mark.parametrize("stem", ["Bert", "DebertaV2"])
def test_a_span_of_an_answer_comes_and_goes(stem, tmp_path):
    kind, keys = f"{stem}ForQuestionAnswering", DEBERTA if stem == "DebertaV2" else PLACES
    build(kind, f"{stem}Config", keys).save_pretrained(tmp_path / "theirs")
    facts = import_run(tmp_path / "theirs", tmp_path / "run", check=True)
    assert facts["exact"] and load_model(tmp_path / "run")[1].task.kind == "span"
    export_run(tmp_path / "run", tmp_path / "back")
    assert json.loads((tmp_path / "back" / "config.json").read_text())["architectures"] == [kind]
    before, after = tensors_of(tmp_path / "theirs"), tensors_of(tmp_path / "back")
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_an_answer_has_two_ends(tmp_path):
    build("BertForQuestionAnswering", "BertConfig", PLACES | {"num_labels": 3}).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"config\.json: qa_outputs has 3 rows; two wanted"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", ["BertForMultipleChoice", "ElectraForSequenceClassification"])
def test_other_tuned_heads_are_refused_by_name(kind, tmp_path):
    config = "BertConfig" if kind.startswith("Bert") else "ElectraConfig"
    build(kind, config, PLACES).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=rf"config\.json: architectures=\['{kind}'\]"):
        read_checkpoint(tmp_path)


def test_a_discriminator_alone_gets_a_new_generator_and_leaves_as_it_came(tmp_path):
    keys = PLACES | {"embedding_size": 16}
    build("ElectraForPreTraining", "ElectraConfig", keys).save_pretrained(tmp_path / "theirs")
    facts = import_run(tmp_path / "theirs", tmp_path / "run", check=True)
    assert facts["exact"] and "an ELECTRA generator: the folder has none" in facts["new"]
    export_run(tmp_path / "run", tmp_path / "back")
    before, after = tensors_of(tmp_path / "theirs"), tensors_of(tmp_path / "back")
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert not (tmp_path / "back" / "generator").exists()


@pytest.mark.parametrize("name", sorted(ONE_OF_A_TYPE.values()))
def test_the_advice_for_pickles_works(name, tmp_path):
    tiny(name).save_pretrained(tmp_path)
    before, wanted = tensors_of(tmp_path), read_checkpoint(tmp_path).weights
    torch.save(before, tmp_path / "pytorch_model.bin")
    torch.save({"lr": 1.0}, tmp_path / "training_args.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="pickles can run code") as error:
        read_checkpoint(tmp_path)
    code = str(error.value).partition('python -c "')[2].removesuffix('"')
    if name == "gpt2":  # as it stands, once
        subprocess.run([sys.executable, "-c", code], check=True)
    else:
        exec(code, {})
    found = read_checkpoint(tmp_path).weights
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floats_are_read_exactly(kind, tmp_path):
    tiny("llama").save_pretrained(tmp_path)
    tensors = {name: value.to(kind) for name, value in tensors_of(tmp_path).items()}
    rewrite(tmp_path, tensors)
    found = read_checkpoint(tmp_path).weights
    assert torch.equal(found["tokens.weight"], tensors["model.embed_tokens.weight"].float())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.masked_fill(torch.eye(*t.shape, dtype=torch.bool), torch.nan), r"q_proj\.weight \(32 of 1,024"),
        (
            lambda t: t.masked_fill(torch.ones_like(t, dtype=torch.bool), torch.inf),
            r"\(1,024 of 1,024 values\): nan or",
        ),
        (lambda t: t.to(torch.float8_e4m3fn), r"q_proj\.weight: stored as F8_E4M3"),
        (lambda t: t.to(torch.int8), r"q_proj\.weight: stored as I8"),
        (lambda t: t.double() + 1e-12, "values that fp32 does not hold"),
    ],
)
def test_weights_that_are_none_are_named(change, told, tmp_path):
    tiny("llama").save_pretrained(tmp_path)
    tensors, name = tensors_of(tmp_path), "model.layers.1.self_attn.q_proj.weight"
    rewrite(tmp_path, tensors | {name: change(tensors[name])})
    with pytest.raises(UserError, match=told) as error:
        read_checkpoint(tmp_path)
    assert name in str(error.value) and len(str(error.value).splitlines()) == 1


def test_check_is_no_formality(tmp_path, capsys, monkeypatch):
    """A model that computes something else is found."""
    from trainer.hub import reading

    load = reading._load
    tiny("gpt2").save_pretrained(tmp_path / "theirs")
    monkeypatch.setattr(reading, "_load", lambda *all: {name: one * 1.01 for name, one in load(*all).items()})
    assert main(["import", str(tmp_path / "theirs"), f"to={tmp_path / 'run'}", "--check"]) == 1
    assert "logits of GPT2LMHeadModel" in capsys.readouterr().out


@pytest.mark.parametrize("activation", transformers.activations.ACT2FN)
def test_activations_are_those_of_transformers_or_refused(activation, saved, tmp_path):
    from trainer.config.model import ModelConfig
    from trainer.descriptions.activations import ACTIVATIONS as OURS
    from trainer.hub.table import ACTIVATIONS

    places = torch.linspace(-8, 8, 2001)
    try:
        wanted = transformers.activations.ACT2FN[activation](places)
    except ImportError:
        pytest.skip("needs a package of its own")
    ours = {name: OURS.implementation(name)(ModelConfig(activation=name)) for name in OURS}
    near = {name for name, one in ours.items() if (one(places) - wanted).abs().max() < 1e-6}
    assert {ACTIVATIONS.get(activation)} - {None} <= near
    assert activation in ACTIVATIONS or not near or activation == "gelu_10"  # which is gelu below 10 alone


def test_an_encoder_of_t5_alone_is_refused(tmp_path):
    build("T5EncoderModel", "T5Config", T5).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no tensor of a decoder"):
        read_checkpoint(tmp_path)
