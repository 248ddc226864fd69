"""Checkpoints with experts: stacked or expert by expert, types that there are none of, and DeepSeek-MoE."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("transformers")

import transformers
from safetensors.torch import load_file, save_file
from test_parity import close
from tiny import ours, tiny
from tiny_experts import DECODERS, PLACES

from trainer.compose import compose
from trainer.config.model import ModelConfig
from trainer.hub import FAMILIES, Imported, read_checkpoint, type_of, write_checkpoint
from trainer.hub.unsupported import REASONS
from trainer.utils.errors import UserError

EXPERT = {"mixtral": "model.layers.1.block_sparse_moe.experts.2.w1.weight"}


def tensors(folder):
    return load_file(folder / "model.safetensors")


def rewritten(folder, target, weights):
    """The folder with other tensors."""
    target.mkdir()
    (target / "config.json").write_text((folder / "config.json").read_text())
    save_file({name: value.contiguous() for name, value in weights.items()}, target / "model.safetensors")
    return target


@pytest.mark.parametrize("name", DECODERS)
def test_stacked_tensors_are_the_same_as_those_of_each_expert(name, saved, tmp_path):
    single = read_checkpoint(saved(name))
    assert any(".experts.0." in tensor for tensor in tensors(saved(name)))
    stacked = rewritten(saved(name), tmp_path / "stacked", tiny(name).state_dict())
    assert "model.layers.1.mlp.experts.gate_up_proj" in tensors(stacked)
    found = read_checkpoint(stacked)
    assert found.weights.keys() == single.weights.keys()
    assert all(torch.equal(found.weights[part], value) for part, value in single.weights.items())
    report = getattr(transformers, DECODERS[name][0]).from_pretrained(stacked, output_loading_info=True)[1]
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe"])
def test_a_wrong_expert_is_named(name, saved, tmp_path):
    good, expert = tensors(saved(name)), EXPERT.get(name, "model.layers.1.mlp.experts.2.gate_proj.weight")
    whole = {
        "model.layers.1.mlp.experts.gate_up_proj": tiny(name).state_dict()["model.layers.1.mlp.experts.gate_up_proj"]
    }
    last = expert.replace(".experts.2.", f".experts.{3 if name == 'mixtral' else 5}.")
    wrong = {
        "gone": ({tensor: value for tensor, value in good.items() if tensor != expert}, f"{expert}: missing, beside"),
        "small": (good | {expert: good[expert][:-1]}, rf"{expert}: of shape \[\d+, 32\], .* is of \["),
        "both": (good | whole, "gate_up_proj: the same tensor stands there as"),
        "fewer": (
            {t: v for t, v in good.items() if last.rsplit(".", 2)[0] not in t},
            r"experts.down_proj: of shape \[\d, 32, \d\d\], \[\d, 32, \d\d\] wanted",
        ),
        "nan": (good | {expert: good[expert] * torch.nan}, "gate_up_proj .* nan or inf"),
        "int": (good | {expert: good[expert].to(torch.int8)}, f"{expert}: stored as I8"),
    }
    for kind, (weights, said) in wrong.items():
        with pytest.raises(UserError, match=said):
            read_checkpoint(rewritten(saved(name), tmp_path / kind, weights))


@pytest.mark.parametrize("name", DECODERS)
def test_a_mixture_is_no_dense_model_and_the_reverse(name, saved):
    """What is said of a model without experts is what its dense type says."""
    model = read_checkpoint(saved(name)).model
    dense = model.model_copy(update={"experts": type(model.experts)()})
    kinds = {"mixtral": "mistral", "olmoe": None, "qwen2-moe": "qwen2", "qwen3-moe": "qwen3"}
    if kinds[name] is None:
        with pytest.raises(UserError, match="has no counterpart in transformers"):
            type_of(dense)
    else:
        assert type_of(dense.model_copy(update={"window": None})).type in (kinds[name], "llama")
    biased = model.experts.model_copy(update={"balance": "bias"})
    with pytest.raises(UserError, match=r"cannot have model.experts.balance=bias"):
        type_of(model.model_copy(update={"experts": biased}))


def test_a_shared_expert_without_a_gate_is_half_of_one_with_a_gate_of_zero(tmp_path):
    """DeepSeek-MoE, which has no class in transformers, as a Qwen2-MoE whose gates give one half to twice as much."""
    keys = PLACES | {"num_hidden_layers": 3, "moe_intermediate_size": 12, "shared_expert_intermediate_size": 24}
    keys |= {"num_experts": 6, "num_experts_per_tok": 3, "mlp_only_layers": [0], "qkv_bias": False}
    torch.manual_seed(0)
    theirs = transformers.Qwen2MoeForCausalLM(transformers.Qwen2MoeConfig(**keys)).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2 * (".shared_expert_gate." not in name))
    theirs.save_pretrained(tmp_path)
    given = read_checkpoint(tmp_path)
    assert given.model.experts.shared == 2 and given.model.experts.dense_layers == 1
    experts = given.model.experts.model_copy(update={"shared_gate": False})
    weights = {
        name: value * 0.5 if ".shared.down." in name else value
        for name, value in given.weights.items()
        if ".shared_gate." not in name
    }
    net = ours(Imported(given.model.model_copy(update={"experts": experts}), weights))
    tokens = torch.randint(101, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        close(net.logits(tokens), theirs(input_ids=tokens).logits)
    with pytest.raises(UserError, match=r"the nearest, qwen2_moe, cannot have model.experts.shared_gate=False"):
        type_of(net.config)


@torch.no_grad()
def test_switch_drops_what_finds_no_place_as_its_class_does(saved, tmp_path):
    """Of one sequence at a time, and nothing of padding's; beyond the limit a token passes by."""
    folder = rewritten(saved("switch"), tmp_path / "few", tensors(saved("switch")))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"expert_capacity": 2}))
    few, all_of_them = read_checkpoint(folder), read_checkpoint(saved("switch"))
    assert (few.model.experts.limit, all_of_them.model.experts.limit) == (2, 64)
    model = transformers.SwitchTransformersForConditionalGeneration.from_pretrained(folder).eval()
    tokens = torch.randint(6, 96, (3, 20), generator=torch.Generator().manual_seed(5))
    want = model(input_ids=tokens, decoder_input_ids=tokens[:, :9]).logits
    close(ours(few).logits(tokens[:, :9], source_tokens=tokens), want)
    other = ours(all_of_them).logits(tokens[:, :9], source_tokens=tokens)
    assert (other - want).abs().max() > 0.1 * want.std()
    unlimited = few.model.experts.model_copy(update={"limit": None})
    (tmp_path / "out").mkdir()
    write_checkpoint(tmp_path / "out", few.model.model_copy(update={"experts": unlimited}), few.weights, {})
    assert read_checkpoint(tmp_path / "out").model.experts.limit is None


@pytest.mark.parametrize("kind", ["deepseek_v3", "qwen3_next", "jamba", "rwkv", "gpt_oss"])
def test_a_type_that_there_is_none_of_names_what_it_has_and_the_nearest(kind, saved, tmp_path):
    folder = rewritten(saved("llama"), tmp_path / kind, {"x": torch.zeros(1)})
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(
        UserError, match=rf"model_type '{kind}' is not supported: it has .*; the nearest .* is \w+$"
    ) as e:
        read_checkpoint(folder)
    assert len(str(e.value).splitlines()) == 1


def test_experts_that_no_type_has_are_one_key():
    shape = {"depth": 1, "decoder_depth": 3, "vocabulary": 512, "experts": {"count": 4, "every": 2}}
    model = compose(["model=t5-mini", "objective=span_corruption"]).model.model_dump() | shape
    with pytest.raises(UserError, match=r"the nearest, t5, cannot have model\.experts\.count=4$"):
        type_of(ModelConfig.model_validate(model))


def test_the_nearest_are_there_and_the_others_are_not():
    assert {near for _, near, _ in REASONS} <= FAMILIES.keys()
    assert not {kind for _, _, kinds in REASONS for kind in kinds} & FAMILIES.keys()
