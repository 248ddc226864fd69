"""Folders that nobody meant well: each is one line, and nothing outside them is opened."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.cli.main import main
from trainer.config import Config
from trainer.hub import read_checkpoint, write_checkpoint
from trainer.hub.runs import config_of
from trainer.models import build, initialize
from trainer.utils.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """A good checkpoint of a tiny Llama, written by us."""
    fields = {"width": 32, "heads": 4, "depth": 2, "vocabulary": 320, "ffn_width": 40, "tied": False}
    config = Config.model_validate({"model": fields, "tokenizer": {"vocabulary": 300}, "data": {"sequence_length": 16}})
    net = build(config)
    initialize(net, 0)
    target = tmp_path / "hub"
    target.mkdir()
    model = config.model.model_copy(update={"max_length": 16})
    write_checkpoint(target, model, {name: value.detach() for name, value in net.named_parameters()}, {})
    return target


def file_of(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def config(text):
    return lambda folder: (folder / "config.json").write_text(text)


def key(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def weights(content):
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def index(weight_map, **files):
    def change(folder):
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return change


def instead(name, make):
    def change(folder):
        (folder / name).unlink()
        make(folder / name)

    return change


def loop(path):
    path.symlink_to(path.name)


def twice(folder):
    tensors = load_file(folder / "model.safetensors")
    for name in ("a", "b"):
        save_file(tensors, folder / f"{name}.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: "a.safetensors" for name in tensors} | {"model.norm.weight": "b.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE = {
    "brackets": (config("[" * 200_000), "nested too deeply"),
    "objects": (config('{"a":' * 200_000), "nested too deeply"),
    "no object": (config("[1]"), "a JSON object wanted, list found"),
    "NaN": (config('{"model_type": "llama", "rms_norm_eps": NaN}'), "NaN found where a number is wanted"),
    "infinity": (config('{"model_type": "llama", "rms_norm_eps": 1e999}'), "1e999 found where a number is wanted"),
    "many digits": (config('{"model_type": "llama", "hidden_size": 1' + "0" * 5000 + "}"), "not readable as JSON"),
    "twice": (config('{"model_type": "llama", "hidden_size": 32, "hidden_size": 64}'), "hidden_size: stands twice"),
    "no text": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{}"), "not readable as JSON"),
    "a folder": (instead("config.json", os.mkdir), "a folder found, a file wanted"),
    "a pipe": (instead("config.json", os.mkfifo), "a named pipe found, a file wanted"),
    "a link to itself": (instead("config.json", loop), "cannot be opened"),
    "no type": (key(model_type=None), "model_type is not stated; there is gpt2"),
    "type": (key(model_type=["llama"]), "model_type \"['llama']\" is not supported"),
    "no vocabulary": (key(vocab_size=0), "vocab_size=0"),
    "text for a number": (key(hidden_size="32"), "hidden_size=32"),
    "yes for a number": (key(num_hidden_layers=True), "num_hidden_layers=True"),
    "negative": (key(num_attention_heads=-4), "num_attention_heads=-4"),
    "half": (key(intermediate_size=40.5), "intermediate_size=40.5"),
    "huge width": (key(hidden_size=10**15), "hidden_size=1000000000000000"),
    "huge depth": (key(num_hidden_layers=10**12), "num_hidden_layers=1000000000000"),
    "huge float": (key(rms_norm_eps=-1e308), "rms_norm_eps=-1e+308"),
    "text for yes": (key(tie_word_embeddings="no"), "tie_word_embeddings='no'"),
    "rope": (key(rope_parameters=[1]), "rope_parameters=[1]: an object wanted"),
    "rope without its factor": (key(rope_parameters={"rope_type": "linear"}), "factor=None: a number above 0"),
    "quantised": (key(quantization_config={"quant_method": "gptq"}), "quantization_config: quantised weights"),
    "outside": (index({"model.norm.weight": "../secret.safetensors"}), "'../secret.safetensors' is no safetensors"),
    "absolute": (index({"model.norm.weight": "/etc/passwd"}), "'/etc/passwd' is no safetensors file in this folder"),
    "another kind": (index({"model.norm.weight": "config.json"}), "'config.json' is no safetensors file"),
    "a list": (index(["a.safetensors"]), "weight_map: a name of a file for every tensor wanted"),
    "numbers": (index({"model.norm.weight": 1}), "weight_map: a name of a file for every tensor wanted"),
    "nothing": (index({}), "names files that are not there: none at all"),
    "tensor that is not there": (index({"x.weight": "a.safetensors"}), "names tensors that no file holds: x.weight"),
    "two files with one tensor": (twice, "another file of"),
    "weights a folder": (instead("model.safetensors", os.mkdir), "a folder found, a file wanted"),
    "weights a pipe": (instead("model.safetensors", os.mkfifo), "a named pipe found, a file wanted"),
    "weights a loop": (instead("model.safetensors", loop), "cannot be opened"),
    "empty": (weights(b""), "not a safetensors file"),
    "long header": (weights(struct.pack("<Q", 2**62) + b"{}"), "not a safetensors file"),
    "header beyond the file": (weights(struct.pack("<Q", 90_000_000) + b"{}"), "not a safetensors file"),
    "deep header": (weights(file_of(b'{"a":' * 100_000)), "not a safetensors file"),
    "overlap": (weights(file_of({"a": F32, "b": F32}, b"\0" * 8)), "not a safetensors file"),
    "beyond": (
        weights(file_of({"a": F32 | {"data_offsets": [0, 800], "shape": [200]}}, b"\0" * 8)),
        "not a safetensors",
    ),
    "shape": (weights(file_of({"a": F32 | {"shape": [2**40, 2**40]}}, b"\0" * 8)), "not a safetensors file"),
    "type of values": (weights(file_of({"a": F32 | {"dtype": "X9"}}, b"\0" * 8)), "not a safetensors file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_line(name, folder, tmp_path, capsys):
    change, told = HOSTILE[name]
    change(folder)
    assert main(["import", str(folder), f"to={tmp_path / 'run'}"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and told in lines[0] and str(folder) in lines[0], lines
    assert len(lines[0]) < 1500 and not (tmp_path / "run").exists()


def test_the_cache_of_the_hub_is_links_to_files_elsewhere(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    assert torch.equal(read_checkpoint(linked).weights["norm.weight"], read_checkpoint(folder).weights["norm.weight"])


VALUES = ["x", "", [], {}, None, True, False, 0, -1, 1, 3, 10**18, 0.5, 1e308, -1e308, [1, 2], {"a": {}}, "relu", "1e9"]
FUZZED = [
    "llama",
    "neox",
    "roberta",
    "modernbert",
    "bart",
    "t5",
    "xlnet",
    "albert",
    "opt",
    "bloom",
    "electra-generator",
]


@pytest.mark.parametrize("name", FUZZED)
def test_whatever_config_json_says_is_read_or_refused_in_a_line(name, saved, tmp_path):
    """Every key of the class with random values of every kind, one or two at once."""
    transformers = pytest.importorskip("transformers")
    shutil.copytree(saved(name), tmp_path / name)
    file = tmp_path / name / "config.json"
    whole = json.loads(file.read_text())
    keys = sorted({*whole, *transformers.AutoConfig.for_model(whole["model_type"]).to_dict(), "rope_scaling"})
    draw = random.Random(7)
    for turn in range(120):
        changes = {draw.choice(keys): draw.choice(VALUES) for _ in range(1 + turn % 2)}
        file.write_text(json.dumps(whole | changes))
        try:
            config_of(read_checkpoint(tmp_path / name), None)
        except UserError as error:
            lines = str(error).splitlines()
            assert all(str(tmp_path) in line for line in lines), (changes, lines)
