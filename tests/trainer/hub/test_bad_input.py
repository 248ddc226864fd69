"""Checkpoints that must not be loaded: each line names what is wrong and where."""

from __future__ import annotations

import contextlib
import itertools
import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.cli.main import main
from trainer.config import Config
from trainer.hub import read_checkpoint, write_checkpoint
from trainer.models import build, initialize
from trainer.utils.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """A good checkpoint of a tiny GPT-2, written by us."""
    fields = {"width": 32, "heads": 4, "depth": 2, "vocabulary": 320, "max_length": 16, "position": "learned"}
    fields |= {"norm": "layernorm", "bias": True, "gated": False, "activation": "gelu_tanh"}
    config = Config.model_validate({"model": fields, "tokenizer": {"vocabulary": 300}, "data": {"sequence_length": 16}})
    net = build(config)
    initialize(net, 0)
    target = tmp_path / "hub"
    target.mkdir()
    weights = {name: value.detach() for name, value in net.named_parameters()}
    write_checkpoint(target, config.model, weights, {"eos_token_id": 2})
    return target


def change(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder, *words):
    with pytest.raises(UserError) as error:
        read_checkpoint(folder)
    lines = str(error.value).splitlines()
    assert len(lines) == len(words)
    for line, word in zip(lines, words, strict=True):
        assert word in line, line


def test_the_good_one_loads(folder):
    assert read_checkpoint(folder).special_tokens == {"eos_token_id": 2}


def test_every_wrong_tensor_is_named_at_once(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.ln_f.bias"]
    tensors["transformer.wpe.weight"] = torch.zeros(16, 31)
    tensors["transformer.h.2.ln_1.weight"] = torch.zeros(32)
    save_file(tensors, folder / "model.safetensors")
    refused(
        folder,
        "transformer.wpe.weight: of shape [16, 31], [16, 32] wanted",
        "transformer.ln_f.bias: missing, [32] wanted",
        "transformer.h.2.ln_1.weight: left over",
    )


def test_a_tied_head_that_differs(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"] + 1
    save_file(tensors, folder / "model.safetensors")
    refused(folder, "lm_head.weight: differs from transformer.wte.weight")


def test_unsupported_type(folder):
    change(folder, model_type="gpt3")
    refused(folder, "model_type 'gpt3' is not supported (did you mean 'gpt2'?)")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_function", "mish"),
        ("scale_attn_by_inverse_layer_idx", True),
        ("n_head", None),
        ("n_head", 5),
        ("layer_norm_epsilon", -1.0),
    ],
)
def test_what_the_zoo_cannot_do(folder, key, value):
    change(folder, **{key: value})
    with pytest.raises(UserError, match=r"config\.json") as error:
        read_checkpoint(folder)
    assert key.split("_")[-1][:4] in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["llama", "roberta", "modernbert"])
def test_values_of_the_wrong_kind(name, saved, tmp_path):
    """Whatever stands in config.json, it is read or refused in words: no key breaks the reader."""
    pytest.importorskip("transformers")
    shutil.copytree(saved(name), tmp_path / name)
    file = tmp_path / name / "config.json"
    whole = json.loads(file.read_text())
    for key, value in itertools.product(whole, ["x", [], 0, None]):
        file.write_text(json.dumps(whole | {key: value}))
        with contextlib.suppress(UserError):
            read_checkpoint(tmp_path / name)


def test_a_bert_without_token_types(saved, tmp_path):
    pytest.importorskip("transformers")
    shutil.copytree(saved("bert"), tmp_path / "bert")
    change(tmp_path / "bert", type_vocab_size=0)
    refused(tmp_path / "bert", "config.json: type_vocab_size=0: a whole number of 1 or more wanted")


def test_pickles_are_never_read(folder):
    class Bomb:
        def __reduce__(self):
            return (open, (str(folder / "exploded"), "w"))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    refused(folder, "pytorch_model.bin: pickles can run code")
    assert not (folder / "exploded").exists()


def test_damaged_files(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(folder, "not a safetensors file, or a damaged one")
    (folder / "model.safetensors").unlink()
    refused(folder, "no model.safetensors")
    (folder / "config.json").write_text("{")
    refused(folder, "not readable as JSON")
    (folder / "config.json").unlink()
    refused(folder, "config.json: no such file")


def test_a_shard_is_missing(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"transformer.wte.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "names files that are not there: model-00001-of-00002.safetensors")


def test_large_weights_are_divided_and_read_again(folder, tmp_path):
    from trainer.hub.files import TensorFiles, write_tensors

    tensors = load_file(folder / "model.safetensors")
    parts = tmp_path / "parts"
    parts.mkdir()
    write_tensors(parts, tensors, largest=20_000)
    assert len(list(parts.glob("*.safetensors"))) > 2
    again = TensorFiles(parts)
    assert again.shapes.keys() == tensors.keys()
    assert all(torch.equal(again.read(name), tensors[name]) for name in tensors)


def test_a_model_without_counterpart(folder, tmp_path):
    imported = read_checkpoint(folder)
    other = imported.model.model_copy(update={"norm_position": "reordered", "name": "mine"})
    with pytest.raises(UserError, match=r"mine has no counterpart .* model\.norm_position=reordered"):
        write_checkpoint(tmp_path, other, imported.weights, {})


def test_the_verbs(folder, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    assert main(["import", str(folder), f"to={run}", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["type"] == "gpt2" and facts["tokenizer"] is None
    assert main(["export", str(run), f"to={out}"]) == 0
    before, after = load_file(folder / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert "AutoModelForCausalLM" in (out / "README.md").read_text()
    capsys.readouterr()
    for words, told in (
        (["import", str(folder), f"to={run}"], "exists already"),
        (["import", str(tmp_path / "nowhere")], "no such folder"),
        (["import", str(folder), "too=x"], "did you mean 'to'?"),
        (["export", str(run), f"to={out}"], "exists already"),
        (["export", str(tmp_path / "nowhere")], "no run folder"),
        (["export", str(run), "tokenizer=maybe"], "yes or no wanted"),
    ):
        assert main(words) == 2
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1 and told in errors[0]


def test_an_imported_run_is_complete_or_absent(folder, tmp_path, monkeypatch):
    from trainer.hub import runs

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(runs, "save_weights", fail)
    with pytest.raises(OSError):
        runs.import_run(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists() and not list(tmp_path.glob(".run*"))
