"""Parameters counted three ways: by the books, by the model itself, and as published."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest
import torch
from presets import NAMES, account, preset
from published import BACKBONES, TOTALS

from trainer.books.parameters import parameters
from trainer.cli.main import main
from trainer.models import build

WANTED = """
gpt gpt2-124m gpt2-355m gpt2-774m gpt2-1.5b gpt3-125m gpt3-350m gpt3-760m gpt3-1.3b gpt3-2.7b gpt3-6.7b gpt3-13b
gpt3-175b opt-125m opt-350m opt-1.3b opt-2.7b opt-6.7b opt-13b opt-30b opt-66b bloom-560m bloom-1b1 bloom-1b7 bloom-3b
bloom-7b1 bloom-176b xglm-564m xglm-1.7b xglm-2.9b xglm-4.5b xglm-7.5b pythia-14m pythia-31m pythia-70m pythia-160m
pythia-410m pythia-1b pythia-1.4b pythia-2.8b pythia-6.9b pythia-12b cerebras-gpt-111m cerebras-gpt-256m
cerebras-gpt-590m cerebras-gpt-1.3b cerebras-gpt-2.7b cerebras-gpt-6.7b cerebras-gpt-13b llama-7b llama-13b llama-33b
llama-65b llama2-7b llama2-13b llama2-70b llama3-8b llama3-70b llama3.2-1b tinyllama-1.1b smollm2-135m olmo2-1b olmo2-7b
olmo2-13b olmo2-32b bert-base bert-large bert-base-cased bert-large-cased mbert roberta-base roberta-large xlmr-base
xlmr-large xlmr-xl xlmr-xxl albert-base albert-large albert-xlarge albert-xxlarge electra-small electra-base
electra-large xlnet-base xlnet-large modernbert-base modernbert-large bart-base bart-large mbart-large-cc25
mbart-large-50 t5-small t5-base t5-large t5-3b t5-11b t5v1.1-small t5v1.1-base t5v1.1-large t5v1.1-xl t5v1.1-xxl
mt5-small mt5-base mt5-large mt5-xl mt5-xxl mass-base llama-mini gpt-mini
bert-mini electra-mini bart-mini t5-mini
llama3.1-8b llama3.1-70b llama3.1-405b llama3.2-3b llama3.3-70b mistral-7b qwen2-0.5b qwen2-1.5b qwen2-7b qwen2-72b
qwen3-0.6b qwen3-1.7b qwen3-4b qwen3-8b qwen3-14b qwen3-32b smollm3-3b olmo-1b olmo-7b
deberta-v3-xsmall deberta-v3-small deberta-v3-base deberta-v3-large mdeberta-v3-base deberta-mini
mixtral-8x7b mixtral-8x22b olmoe-1b-7b qwen1.5-moe-a2.7b qwen3-30b-a3b qwen3-235b-a22b deepseek-moe-16b switch-base-8
switch-base-16 switch-base-32 switch-base-64 switch-base-128 switch-base-256 switch-large-128 switch-c-2048
gemma-2b gemma-7b gemma2-2b gemma2-9b gemma2-27b gemma3-270m gemma3-1b gemma3-4b gemma3-12b gemma3-27b olmo3-7b
olmo3-32b command-r-35b command-r-plus-104b aya-23-8b aya-23-35b aya-expanse-8b aya-expanse-32b gpt-neo-125m
gpt-neo-1.3b gpt-neo-2.7b t-nlg-17b lamda-2b lamda-8b lamda-137b
camembert-base distilbert-base flan-t5-small flan-t5-base flan-t5-large flan-t5-xl flan-t5-xxl aya-101
byt5-small byt5-base byt5-large byt5-xl byt5-xxl pegasus-base pegasus-large pegasus-xsum ul2-20b flan-ul2-20b
xlm-mlm-en-2048 xlm-mlm-ende-1024 xlm-mlm-enfr-1024 xlm-mlm-enro-1024 xlm-mlm-xnli15-1024 xlm-mlm-tlm-xnli15-1024
xlm-mlm-17-1280 xlm-mlm-100-1280 bert-tiny bert-mini-turc bert-small bert-medium
""".split()  # noqa: SIM905


def test_every_preset_is_there():
    assert set(WANTED) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_books_agree_with_the_model(name):
    config = preset(name)
    assert config.model.name == name
    with torch.device("meta"):
        net = build(config)
    counted = sum(parameter.numel() for parameter in net.parameters())
    assert parameters(config).total == counted


@pytest.mark.parametrize("name", TOTALS)
def test_totals_are_the_published_ones(name):
    assert account(name).published == TOTALS[name]


@pytest.mark.parametrize(
    ("name", "millions"),
    [("tiny", 4.4), ("mini-turc", 11.3), ("small", 29.1), ("medium", 41.7), ("base", 110.1)],
)
def test_the_sizes_of_bert_are_those_of_the_paper(name, millions):
    """Turc et al. 2019, table 1."""
    assert round(account(f"bert-{name}").published / 1e6, 1) == millions


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_are_the_published_ones(name):
    assert account(name).backbone == BACKBONES[name]


# Switch's experts are modules each in transformers, of which these have tens of thousands.
MANY = ("switch-base-32", "switch-base-64", "switch-base-128", "switch-base-256", "switch-large-128", "switch-c-2048")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in MANY else n for n in NAMES])
def test_transformers_counts_the_same(name):
    """Every preset, through our own config.json."""
    transformers = pytest.importorskip("transformers")
    from trainer.hub import type_of
    from trainer.hub.table import write_table

    config = preset(name)
    if name == "electra-small":
        pytest.skip("the two halves are counted in test_both_halves_of_electra")
    if name == "deepseek-moe-16b":
        pytest.skip("transformers has no class of it: see test_deepseek_moe_is_as_its_table_says")
    if name.startswith("lamda-"):
        pytest.skip("no class of transformers: T5's relative positions in a decoder alone")
    model = config.model.model_copy(update={"vocabulary": config.vocabulary, "max_length": config.max_length})
    family = type_of(model)
    if family.type in ("t5", "mt5") and not model.tied:
        pytest.skip("transformers 5 builds T5 tied, whatever its config.json says")
    architecture = family.discriminator[0] if model.generator else family.architecture
    given = getattr(transformers, architecture).config_class(**write_table(family.table, model))
    with torch.device("meta"):
        net = getattr(transformers, architecture)(given)
    names = {entry.theirs for entry in family.entries(model)}
    learned = (parameter for parameter in net.parameters() if parameter.requires_grad)
    theirs = sum(parameter.numel() for parameter in learned)
    counted = parameters(config)
    ours = counted.backbone if architecture == family.body else counted.published
    assert theirs == ours, sorted(set(dict(net.named_parameters())) ^ names)[:8]


def test_deepseek_moe_is_as_its_table_says():
    """16.4B parameters of which a token passes 2.8B (Dai et al. 2024, table 3)."""
    found = account("deepseek-moe-16b")
    assert round(found.published / 1e9, 1) == 16.4 and round(found.active / 1e9, 1) == 2.8


def test_both_halves_of_electra():
    transformers = pytest.importorskip("transformers")
    from trainer.hub import FAMILIES
    from trainer.hub.table import write_table

    for name in ("electra-small", "electra-base", "electra-large"):
        config = preset(name)
        model, small = config.model, config.model.generator
        embedding = model.vocabulary * model.embedding_channels + (512 + 2 + 2) * model.embedding_channels
        for half, architecture, count in (
            (model, "ElectraForPreTraining", parameters(config).published),
            (small, "ElectraForMaskedLM", parameters(config).generator + embedding),
        ):
            given = transformers.ElectraConfig(**write_table(FAMILIES["electra"].table, half))
            with torch.device("meta"):
                net = getattr(transformers, architecture)(given)
            assert sum(parameter.numel() for parameter in net.parameters()) == count


@pytest.mark.parametrize("name", ["deberta-v3-xsmall", "mdeberta-v3-base", "deberta-mini"])
def test_the_generator_of_deberta_has_an_embedding_of_its_own(name):
    transformers = pytest.importorskip("transformers")
    from trainer.hub import FAMILIES
    from trainer.hub.table import write_table

    config = preset(name)
    half = config.model.generator.model_copy(update={"vocabulary": config.vocabulary})
    given = transformers.DebertaV2Config(**write_table(FAMILIES["deberta-v2"].table, half))
    with torch.device("meta"):
        net = transformers.DebertaV2ForMaskedLM(given)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters(config).generator


def test_account_of_the_command(capsys):
    assert main(["model", "model=bert-base", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"]["total"] == 110_106_428
    assert found["parameters"]["backbone"] == 109_482_240
    parts = ("embedding", "position", "attention", "feed_forward", "norm", "head")
    assert sum(found["parameters"][part] for part in parts) == found["parameters"]["total"]
    assert found["weight_bytes"] == {"fp32": 4 * 110_106_428, "bf16": 2 * 110_106_428}
    assert main(["model", "model=bert-base"]) == 0
    assert "110,106,428" in capsys.readouterr().out


def test_175_billion_cost_nothing_on_the_meta_device():
    build(preset("gpt-mini"))  # imports and first use
    config = preset("gpt3-175b")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.device("meta"):
        net = build(config)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters(config).total
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50_000  # KiB


def test_the_account_needs_no_torch():
    code = (
        "import sys; from trainer.compose import compose; from trainer.books import model_account;"
        "a = model_account(compose(['model=gpt3-175b'])); assert a['parameters']['total'] == 174604259328;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
