"""A run of ours, exported and read by transformers with its tokenizer."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

import transformers
from test_parity import close, logits_of

from trainer.config import Config, TokenizerConfig
from trainer.data.tokenizer import train
from trainer.hub import FAMILIES, export_run, import_run
from trainer.hub.card import LOADERS
from trainer.hub.heads import CLASSIFIERS, SPANS, TOKEN_CLASSIFIERS
from trainer.models import build, initialize
from trainer.run_folder import RunFolder
from trainer.training.checkpoint import save_weights

BERT = {"family": "encoder", "norm": "layernorm", "norm_position": "post", "position": "learned", "max_length": 32}
BERT |= {"gated": False, "activation": "gelu", "bias": True, "embedding_norm": True, "head_transform": True}
BERT |= {"head_bias": True, "init_residual": False}
GPT_NEO = {"norm": "layernorm", "gated": False, "activation": "gelu_tanh", "position": "learned", "bias": True}
GPT_NEO |= {"qkv_unbiased": True, "attention_scale": 1.0, "window": 3, "global_every": 2, "max_length": 32}
GEMMA = {"norm": "offset_rmsnorm", "embedding_scale": True, "activation": "gelu_tanh", "kv_heads": 2, "head_size": 16}
MODELS = {
    "llama": {},
    "mistral": {"window": 3, "kv_heads": 2},
    "olmo": {"norm": "bare_layernorm"},
    "qwen2": {"qkv_bias": True, "kv_heads": 2},
    "qwen3": {"qk_norm": "head", "head_size": 16},
    "smollm3": {"nope_every": 2, "kv_heads": 2},
    "gpt_neo": GPT_NEO,
    "olmo3": {
        **{"norm_position": "reordered", "qk_norm": "projection", "window": 3, "global_every": 2, "global_last": True},
        **{"rotary_scaling": "yarn", "rotary_factor": 4.0, "rotary_original_length": 16, "rotary_scaled": "global"},
    },
    "gemma": GEMMA,
    "gemma2": GEMMA | {"norm_position": "sandwich", "window": 3, "score_softcap": 3.0, "logit_softcap": 2.0},
    "gemma3_text": GEMMA | {"norm_position": "sandwich", "qk_norm": "head", "rotary_base_local": 50.0, "window": 3},
    "cohere": {"norm": "layernorm", "parallel": True, "shared_norm": True, "qk_norm": "heads", "logit_scale": 0.3},
    "distilbert": BERT | {"norm_epsilon": 1e-12},
    "camembert": BERT | {"position_offset": 2, "token_types": 1, "pooler": "finetuning"},
    "roberta": BERT | {"position_offset": 2, "token_types": 1, "pooler": "finetuning"},
    "bert": BERT | {"token_types": 2, "pooler": "pretraining", "sentence_head": True},
    "deberta-v2": BERT | {"position": "disentangled", "relative_buckets": 6, "relative_distance": 20},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    texts = [
        path.read_text(errors="ignore") for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:20]
    ]
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    file.write_bytes(train(texts, TokenizerConfig(vocabulary=800)))
    return file


def run_of(folder, tokenizer, fields, **groups):
    config = Config.model_validate(
        {
            "model": {"depth": 2, "width": 32, "heads": 4, "vocabulary": 832, **fields},
            "tokenizer": {"vocabulary": 800},
            "data": {"sequence_length": 32},
            **groups,
        }
    )
    net = build(config).eval()
    initialize(net, 0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    run = RunFolder(folder)
    run.path.mkdir()
    run.config.write_text(config.to_yaml())
    run.tokenizer.write_bytes(tokenizer.read_bytes())
    save_weights(run.checkpoints, {name: value.detach() for name, value in net.named_parameters()}, {"best": {}})
    return net


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_text_in_logits_out(name, tokenizer, tmp_path):
    """From text through the exported tokenizer, padded, to the logits of the exported model."""
    net = run_of(tmp_path / "run", tokenizer, {"name": name, **MODELS[name]})
    facts = export_run(tmp_path / "run", tmp_path / "hub")
    assert facts["type"] == name and facts["tokenizer"]
    loader = transformers.AutoModelForMaskedLM if "family" in MODELS[name] else transformers.AutoModelForCausalLM
    theirs = loader.from_pretrained(tmp_path / "hub").eval()
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "hub")
    batch = words(["def f(x):", "import os, sys, re"], padding=True, return_tensors="pt")
    tokens, mask = batch["input_ids"], batch["attention_mask"]
    assert (tokens[mask == 0] == 0).all() and bool((mask == 0).any())
    got = net.logits(tokens, torch.arange(tokens.shape[1]).expand(tokens.shape), mask - 1)
    close(got, logits_of(theirs(input_ids=tokens, attention_mask=mask)), mask.bool())


ALBERT = MODELS["bert"] | {"shared_layers": True, "embedding_width": 16}
MASKED = {"name": "masked_lm"}


@pytest.mark.parametrize(
    ("fields", "objective", "architecture"),
    [
        (MODELS["bert"], MASKED, "BertForMaskedLM"),
        (MODELS["bert"] | {"sentence_head": False}, MASKED, "BertForMaskedLM"),
        (MODELS["bert"], MASKED | {"question": "nsp"}, "BertForPreTraining"),
        (ALBERT, MASKED, "AlbertForMaskedLM"),
        (ALBERT, MASKED | {"question": "sop"}, "AlbertForPreTraining"),
    ],
)
def test_heads_that_no_label_trained_stay_here(fields, objective, architecture, tokenizer, tmp_path):
    """Transformers neither misses a tensor nor finds one too many."""
    run_of(tmp_path / "run", tokenizer, fields, objective=objective)
    export_run(tmp_path / "run", tmp_path / "hub")
    loader = getattr(transformers, architecture)
    assert transformers.AutoConfig.from_pretrained(tmp_path / "hub").architectures == [architecture]
    _, told = loader.from_pretrained(tmp_path / "hub", output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    card = (tmp_path / "hub" / "README.md").read_text()
    assert f"model = AutoModelFor{architecture.partition('For')[2]}.from_pretrained" in card


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_card_names_an_auto_class_that_has_the_class(family):
    heads = [heads[family.type][0] for heads in (CLASSIFIERS, TOKEN_CLASSIFIERS, SPANS) if family.type in heads]
    others = {family.without_pairs, family.pairs_alone} - {""}
    for architecture in {family.architecture, family.body, *others, *heads}:
        loader = next(auto for end, (auto, _) in LOADERS.items() if architecture.endswith(end))
        known = getattr(transformers, loader)._model_mapping._model_mapping[family.type]
        assert architecture in (known if isinstance(known, tuple) else (known,))


def test_there_and_back(tokenizer, tmp_path):
    net = run_of(tmp_path / "run", tokenizer, {})
    export_run(tmp_path / "run", tmp_path / "hub")
    assert "pre-trained with isoflop" in (tmp_path / "hub" / "README.md").read_text()
    facts = import_run(tmp_path / "hub", tmp_path / "back")
    assert facts["tokenizer"] is not None
    export_run(tmp_path / "back", tmp_path / "again")
    card = (tmp_path / "again" / "README.md").read_text()
    assert "imported from `hub`, not trained since" in card
    assert "pre-trained with isoflop" not in card and "objective" not in card
    from trainer.generation.loaded_model import load_model

    again, config, step = load_model(tmp_path / "back")
    assert step == 0 and config.objective.name == "causal"
    assert all(torch.equal(p, dict(net.named_parameters())[n]) for n, p in again.cpu().named_parameters())


def test_an_imported_run_can_be_moved(tokenizer, tmp_path):
    run_of(tmp_path / "run", tokenizer, {})
    export_run(tmp_path / "run", tmp_path / "hub")
    import_run(tmp_path / "hub", tmp_path / "back")
    (tmp_path / "back").rename(tmp_path / "moved")
    moved = RunFolder(tmp_path / "moved")
    assert moved.load_config().tokenizer.path == str(moved.tokenizer)


def test_an_imported_run_begins_with_empty_moments(tokenizer, tmp_path):
    from trainer.training.checkpoint import valid_checkpoints

    run_of(tmp_path / "run", tokenizer, {})
    read = next(valid_checkpoints(tmp_path / "run" / "checkpoints")).reader()
    assert torch.equal(read("tokens.weight", "exp_avg", 5, 100), torch.zeros(100))
    assert read("tokens.weight", "weight", 5, 100).abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        *(("gpt2", "causal"), ("bert", "masked_lm"), ("xlnet", "permuted_lm")),
        *(("bart", "bart"), ("pegasus", "gap_sentences"), ("t5", "span_corruption")),
    ],
)
def test_an_imported_run_is_of_the_objective_that_its_kind_was_trained_by(name, objective, saved, tmp_path):
    """By which a prompt is filled and a text scored."""
    import_run(saved(name), tmp_path / "run")
    assert RunFolder(tmp_path / "run").load_config().objective.name == objective
