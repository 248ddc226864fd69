"""There and back again: what we write, transformers reads; what it wrote comes back bit for bit."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("transformers")

import transformers
from safetensors.torch import load_file
from test_parity import close, logits_of
from tiny import ENCODER_DECODERS, MODELS, ours, tiny

from trainer.compose import compose
from trainer.hub import read_checkpoint, type_of, write_checkpoint
from trainer.models import build


@pytest.mark.parametrize("name", [name for name in MODELS if name != "deberta-newer"])  # see test_deberta.py
def test_weights_return_bit_for_bit(name, saved, tmp_path):
    imported = read_checkpoint(saved(name))
    write_checkpoint(tmp_path, imported.model, imported.weights, imported.special_tokens)
    before, after = (load_file(folder / "model.safetensors") for folder in (saved(name), tmp_path))
    aliases = {"final_logits_bias"} if name not in ("bart", "mbart", "pegasus") else set()
    assert after.keys() == before.keys() - aliases
    assert all(torch.equal(after[key], before[key]) for key in after)
    again = read_checkpoint(tmp_path)
    assert again.weights.keys() == imported.weights.keys()
    assert all(torch.equal(again.weights[key], imported.weights[key]) for key in again.weights)
    assert again.special_tokens.items() >= imported.special_tokens.items()


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7])
def test_a_modernbert_of_any_depth_has_a_counterpart(depth):
    """Too shallow for a second global layer, it is told from every other n all the same."""
    config = compose(["model=modernbert-base", "objective=masked_lm", f"model.depth={depth}"])
    assert type_of(config.model).type == "modernbert"


def test_a_modernbert_of_ours_names_no_token_beyond_its_vocabulary(tmp_path):
    config = compose(["model=modernbert-base", "objective=masked_lm", "model.depth=1"])
    model = config.model.model_copy(update={"max_length": 16, "vocabulary": 320})
    built = build(config.model_copy(update={"model": model}))
    weights = {name: tensor.detach() for name, tensor in built.named_parameters()}
    write_checkpoint(tmp_path, model, weights, {"bos_token_id": 1, "eos_token_id": 2})
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert (theirs.bos_token_id, theirs.cls_token_id, theirs.eos_token_id, theirs.sep_token_id) == (1, 1, 2, 2)


@torch.no_grad()
def test_a_modernbert_whose_layers_are_all_global(tmp_path):
    torch.manual_seed(0)
    shape = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    settings = transformers.ModernBertConfig(
        **shape, num_attention_heads=4, global_attn_every_n_layers=1, local_attention=4, pad_token_id=0
    )
    theirs = transformers.ModernBertForMaskedLM(settings).eval()
    theirs.save_pretrained(tmp_path)
    imported = read_checkpoint(tmp_path)
    tokens = torch.arange(20, 52)[None]
    got = ours(imported).logits(tokens, torch.arange(32)[None], torch.zeros_like(tokens))
    close(got, logits_of(theirs(input_ids=tokens)), torch.ones(1, 32, dtype=torch.bool))
    assert type_of(imported.model).type == "modernbert"


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_transformers_reads_what_we_write(name, saved, tmp_path):
    imported = read_checkpoint(saved(name))
    write_checkpoint(tmp_path, imported.model, imported.weights, imported.special_tokens)
    architecture = json.loads((tmp_path / "config.json").read_text())["architectures"][0]
    model, report = getattr(transformers, architecture).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    tokens = torch.randint(6, 96, (2, 20), generator=torch.Generator().manual_seed(5))
    net = ours(imported)
    if name in ENCODER_DECODERS:
        targets = tokens[:, :7]
        want = model.eval()(input_ids=tokens, decoder_input_ids=targets).logits
        close(net.logits(targets, source_tokens=tokens), want)
    else:
        close(net.logits(tokens), logits_of(model.eval()(input_ids=tokens)))
    assert type(model) is type(tiny(name)) or architecture in ("RobertaForMaskedLM", "T5ForConditionalGeneration")


def test_electra_is_two_checkpoints_that_share_an_embedding(tmp_path):
    torch.manual_seed(0)
    sizes = {"vocab_size": 96, "embedding_size": 16, "num_hidden_layers": 2, "max_position_embeddings": 64}
    big = transformers.ElectraConfig(**sizes, hidden_size=32, num_attention_heads=4, intermediate_size=48)
    small = transformers.ElectraConfig(**sizes, hidden_size=16, num_attention_heads=2, intermediate_size=24)
    small.embedding_size = 16
    discriminator = transformers.ElectraForPreTraining(big).eval()
    generator = transformers.ElectraForMaskedLM(small).eval()
    with torch.no_grad():
        for net in (discriminator, generator):
            for parameter in net.parameters():
                parameter.copy_(torch.randn(parameter.shape) * 0.2)
        generator.electra.embeddings.load_state_dict(discriminator.electra.embeddings.state_dict())
    folder = tmp_path / "theirs"
    discriminator.save_pretrained(folder)
    generator.save_pretrained(tmp_path / "generator")
    imported = read_checkpoint(folder, generator=tmp_path / "generator")
    assert type_of(imported.model).type == "electra"
    net = ours(imported)
    tokens = torch.randint(6, 96, (2, 20))
    with torch.no_grad():
        close(net.head.generator.logits(tokens), generator(input_ids=tokens).logits)
        want = discriminator(input_ids=tokens).logits
        assert (net.logits(tokens) - want).abs().max() < 1e-5
    out = tmp_path / "ours"
    out.mkdir()
    write_checkpoint(out, imported.model, imported.weights, {})
    for path, original in ((out, folder), (out / "generator", tmp_path / "generator")):
        after, before = load_file(path / "model.safetensors"), load_file(original / "model.safetensors")
        assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in after)
