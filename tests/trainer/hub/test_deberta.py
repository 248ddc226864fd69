"""DeBERTa's two heads, and what a discriminator and its generator are to transformers."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("transformers")

import transformers
from safetensors.torch import load_file, save_file
from test_runs import run_of, tokenizer  # noqa: F401
from tiny import DEBERTA, ours, tiny

from trainer.generation.loaded_model import load_model
from trainer.hub import export_run, import_run, read_checkpoint
from trainer.utils.errors import UserError

MINI = {"name": "deberta-mini", "family": "encoder", "position": "disentangled", "relative_buckets": 6}
MINI |= {"relative_distance": 20, "norm": "layernorm", "norm_position": "post", "gated": False, "activation": "gelu"}
MINI |= {"bias": True, "embedding_norm": True, "head_transform": True, "head_bias": True, "init_residual": False}
MINI |= {"generator_width": 32, "generator_heads": 4, "generator_depth": 1, "embedding_sharing": "disentangled"}


@pytest.mark.parametrize("sharing", ["disentangled", "whole"])
@torch.no_grad()
def test_a_discriminator_goes_as_a_body_with_its_generator_beside_it(sharing, tokenizer, tmp_path):  # noqa: F811
    fields = MINI | {"embedding_sharing": sharing}
    net = run_of(tmp_path / "run", tokenizer, fields, objective={"name": "replaced_token"})
    facts = export_run(tmp_path / "run", tmp_path / "out")
    assert facts["type"] == "deberta-v2"
    body, told = transformers.AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(body).__name__ == "DebertaV2Model"
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    small, told = transformers.AutoModelForMaskedLM.from_pretrained(
        tmp_path / "out" / "generator", output_loading_info=True
    )
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert small.config.num_hidden_layers == 1 and body.config.num_hidden_layers == 2
    tokens = torch.randint(10, 800, (2, 20), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        body.eval()(input_ids=tokens).last_hidden_state, net.backbone(tokens), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        small.eval()(input_ids=tokens).logits, net.head.generator.logits(tokens), rtol=1e-4, atol=1e-5
    )
    table = body.embeddings.word_embeddings.weight
    assert torch.equal(table, net.backbone.rows(torch.arange(832)))
    assert torch.equal(table, small.deberta.embeddings.word_embeddings.weight) == (sharing == "whole")
    facts = import_run(tmp_path / "out", tmp_path / "back", check=True)
    assert facts["exact"] and "the head of pre-training" in facts["new"]
    back, config, _ = load_model(tmp_path / "back")
    assert config.objective.name == "masked_lm" and torch.equal(back.backbone.tokens.weight, table)


def test_a_head_that_config_json_does_not_ask_for_is_none(tmp_path):
    """Released models hold a head of `legacy=false` beside a config.json that says nothing: transformers draws one."""
    tiny("deberta-newer").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    given = json.loads(file.read_text())
    tensors = load_file(tmp_path / "model.safetensors")
    detector = {
        "mask_predictions.dense.weight": torch.zeros(32, 32),
        "mask_predictions.classifier.bias": torch.zeros(1),
    }
    save_file({**tensors, **detector}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert not read_checkpoint(tmp_path).drawn
    del given["legacy"]
    file.write_text(json.dumps(given))
    assert "head.output.bias" in read_checkpoint(tmp_path).drawn
    assert import_run(tmp_path, tmp_path / "run", check=True)["exact"]


@torch.no_grad()
def test_either_head_leaves_as_it_came(tmp_path):
    for name in ("deberta", "deberta-newer"):
        tiny(name).save_pretrained(tmp_path / name)
        import_run(tmp_path / name, tmp_path / f"{name}-run")
        export_run(tmp_path / f"{name}-run", tmp_path / f"{name}-back")
        before, after = (load_file(tmp_path / place / "model.safetensors") for place in (name, f"{name}-back"))
        assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
        again = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / f"{name}-back").eval()
        tokens = torch.arange(10, 40)[None]
        assert torch.equal(again(input_ids=tokens).logits, tiny(name)(input_ids=tokens).logits)


@torch.no_grad()
def test_distances_beyond_the_last_bucket(tmp_path):
    """Longer than every distance that has a row of its own, with logarithmic buckets and without."""
    for number, keys in enumerate(({}, {"position_buckets": -1, "max_relative_positions": 12})):
        torch.manual_seed(0)
        theirs = transformers.DebertaV2ForMaskedLM(transformers.DebertaV2Config(**DEBERTA | keys)).eval()
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
        theirs.save_pretrained(tmp_path / str(number))
        net = ours(read_checkpoint(tmp_path / str(number)))
        for length in (2, 7, 60):
            tokens = torch.randint(5, 96, (2, length))
            torch.testing.assert_close(net.logits(tokens), theirs(input_ids=tokens).logits, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"pos_att_type": None}, r"pos_att_type=None is not supported; 'c2p\|p2c', 'c2p' and 'p2c' are"),
        ({"pos_att_type": 5}, "pos_att_type=5"),
        ({"norm_rel_ebd": 1}, "norm_rel_ebd=1"),
        ({"max_relative_positions": "x"}, "max_relative_positions='x': a whole number wanted, -1 for none"),
        ({"position_buckets": 80}, "relative_distance: 20 must be above half of relative_buckets 80"),
        ({"legacy": 7}, "legacy=7: true or false wanted"),
        ({"pooler_hidden_act": "relu"}, "pooler_hidden_act='relu' is not supported"),
    ],
)
def test_what_a_configuration_may_not_say(keys, said, tmp_path):
    tiny("deberta").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))
    with pytest.raises(UserError, match=said) as error:
        read_checkpoint(tmp_path)
    assert len(str(error.value).splitlines()) == 1
