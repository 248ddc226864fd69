"""The tables of keys: what is written is read again, and transformers knows every key by that name."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

import transformers
from pydantic import ValidationError
from tiny import ENCODER_DECODERS, MODELS, ours

from trainer.config.model import ModelConfig
from trainer.hub import Imported, read_checkpoint, type_of, write_checkpoint
from trainer.hub.table import write_table
from trainer.models import pretraining_model
from trainer.utils.errors import UserError

ONE_OF_A_TYPE = [
    name for name in MODELS if name not in ("gpt2-relu", "neox-serial", "llama", "opt", "bloom-6-heads", "t5")
]
# Another value of every key that some type can say; width and heads apart, on which others hang.
VARIED = {
    **{"vocabulary": 97, "depth": 3, "ffn_width": 40, "kv_heads": 1, "head_size": 16, "embedding_width": 24},
    **{"max_length": 48, "position_offset": 3, "rotary_base": 500.0, "rotary_fraction": 0.5, "rotary_base_local": 90.0},
    **{"rotary_scaling": "linear", "rotary_factor": 2.0, "window": 3, "global_every": 2},
    **{"relative_buckets": 16, "relative_distance": 64, "norm_epsilon": 1e-3, "activation": "relu"},
    **{"pooler": "pretraining", "sentence_head": True, "token_types": 3},
}
FLIPPED = ("gated", "tied", "parallel", "embedding_scale", "head_scale", "head_bias")


def varied(model):
    """The model with as many keys changed as have a counterpart in transformers, and these keys."""
    changed = []
    for name, value in {**VARIED, **{name: not getattr(model, name) for name in FLIPPED}}.items():
        try:
            other = ModelConfig.model_validate(model.model_dump() | {name: value})
            if type_of(other).architecture == type_of(model).architecture:
                model, changed = other, [*changed, name]
        except (ValidationError, UserError):
            continue
    return model, changed


def logits(net, encoder_decoder):
    tokens = torch.arange(6, 26)[None]
    return net.logits(tokens[:, :7], source_tokens=tokens) if encoder_decoder else net.logits(tokens)


@pytest.mark.parametrize("name", ONE_OF_A_TYPE)
@torch.no_grad()
def test_what_was_written_is_read_as_the_same_model(name, saved, tmp_path):
    model, changed = varied(read_checkpoint(saved(name)).model)
    assert {"vocabulary", "depth"} <= set(changed) and len(changed) >= 4
    net = pretraining_model(model, model.vocabulary, model.max_length or 64).eval()
    for parameter in net.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.2)
    weights, read = dict(net.named_parameters()), []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        write_checkpoint(folder, model, weights, {})
        read.append(read_checkpoint(folder))
        model, weights = read[-1].model, read[-1].weights
    assert read[0].model == read[1].model
    wanted = logits(net, name in ENCODER_DECODERS)
    assert torch.equal(logits(ours(Imported(model, weights)), name in ENCODER_DECODERS), wanted)


@pytest.mark.parametrize("name", MODELS)
def test_transformers_has_every_key_that_is_written(name, saved):
    model = read_checkpoint(saved(name)).model
    family = type_of(model)
    known = transformers.AutoConfig.for_model(family.type).to_dict().keys() | family.synonyms.keys()
    if name in ("qwen2-moe", "qwen3-moe"):
        known |= {"head_dim"}  # which their attention reads where it is there
    if family.type == "deberta-v2":
        known |= {"norm_rel_ebd", "position_buckets", "share_att_key"}  # likewise
    assert write_table(family.table, model).keys() <= known
