"""Special tokens of an imported model: part of the run, and used where it reads and writes."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import tiny_experts
import transformers
from test_tokenizer_folder import FAIRSEQ, trained
from tiny import BART, ENCODER, OPT, T5, XGLM
from tiny_experts import SWITCH

from trainer.config import Config
from trainer.data.tokenizer import Tokenizer
from trainer.generation import Decoding
from trainer.generation.loaded_model import Trained
from trainer.generation.text import generate, prompt_ids
from trainer.hub import import_run
from trainer.hub.runs import holds_weights, import_tokenizer
from trainer.run_folder import RunFolder
from trainer.tasks.formats import Rows
from trainer.tokenizer_files import tokenizer_file
from trainer.utils.errors import UserError

KINDS = {  # architecture, configuration, its keys, the tokenizer's class
    "bart": ("BartForConditionalGeneration", "BartConfig", BART | {"decoder_start_token_id": 2}, "RobertaTokenizer"),
    "forced": ("BartForConditionalGeneration", "BartConfig", BART | {"decoder_start_token_id": 2}, "RobertaTokenizer"),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5 | {"decoder_start_token_id": 1}, "RobertaTokenizer"),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 2},
        "GPT2Tokenizer",
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", ENCODER | {"num_key_value_heads": 2}, "GPT2Tokenizer"),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", BART | {"decoder_start_token_id": 0}, "RobertaTokenizer"),
    "mt5": ("MT5ForConditionalGeneration", "MT5Config", T5, "RobertaTokenizer"),
    "pegasus": ("PegasusForConditionalGeneration", "PegasusConfig", BART, "RobertaTokenizer"),
    "xglm": ("XGLMForCausalLM", "XGLMConfig", XGLM | {"max_position_embeddings": 64}, "GPT2Tokenizer"),
    "opt": ("OPTForCausalLM", "OPTConfig", OPT, "GPT2Tokenizer"),
    "mixtral": (*tiny_experts.DECODERS["mixtral"], "GPT2Tokenizer"),
    "switch": (
        *tiny_experts.ENCODER_DECODERS["switch"][:2],
        SWITCH | {"decoder_start_token_id": 0},
        "RobertaTokenizer",
    ),
    "bloom": ("BloomForCausalLM", "BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4}, "GPT2Tokenizer"),
}
GENERATION = {"forced": {"forced_bos_token_id": 0, "forced_eos_token_id": 2, "eos_token_id": [2, 60, 61]}}


def saved(folder, kind):
    """A tiny random model of that kind with a byte-level tokenizer, and both as transformers has them."""
    architecture, config, keys, named = KINDS[kind]
    trained(folder / "vocab.json", FAIRSEQ)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": named}))
    if named == "GPT2Tokenizer":
        roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": named, **roles}))
    tokenizer = getattr(transformers, named).from_pretrained(folder)
    torch.manual_seed(2)
    model = getattr(transformers, architecture)(getattr(transformers, config)(**keys | {"vocab_size": 500})).eval()
    with torch.no_grad():
        for parameter in (one for one in model.parameters() if one.requires_grad):
            parameter.copy_(
                torch.randn_like(parameter) * (0.3 if parameter.dim() > 1 else 0.1) + (parameter.dim() == 1)
            )
    for key, value in GENERATION.get(kind, {}).items():
        setattr(model.generation_config, key, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_text_is_that_of_transformers(kind, beams, tmp_path):
    """Neither is told where to begin, or where to end."""
    model, tokenizer = saved(tmp_path, kind)
    import_run(tmp_path, tmp_path / "run")
    ours, prompt = Trained.load(tmp_path / "run"), "import os, sys"
    ids = prompt_ids(ours, prompt)
    assert ids == tokenizer(prompt).input_ids
    settings = {"max_new_tokens": 9, "do_sample": False, "num_beams": beams}
    theirs = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), **settings)[0].tolist()
    written = theirs[1:] if model.config.is_encoder_decoder else theirs[len(ids) :]
    ends = ours.tokenizer.ends
    wanted = written[: next((place for place, token in enumerate(written) if token in ends), len(written))]
    if beams == 1:
        assert generate(ours, [ids], Decoding(temperature=0, tokens=9)) == [wanted]
        if kind == "forced":
            assert wanted[0] == 0 and (len(wanted) < 9)
    else:
        [found] = generate(ours, [ids], Decoding(beams=4, temperature=None, tokens=9))
        assert found == wanted
        assert kind != "forced" or (found[0] == 0 and len(found) < 9)


def test_the_files_beside_the_weights_are_kept(tmp_path):
    saved(tmp_path, "bart")
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    import_run(tmp_path, tmp_path / "run")
    hub = RunFolder(tmp_path / "run").hub
    for name in (
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ):
        assert (hub / name).read_bytes() == (tmp_path / name).read_bytes()
    assert not list(hub.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("file", "key", "value", "said"),
    [
        ("generation_config.json", "eos_token_id", [2, 500], "eos_token_id: 500 given, the model has 500 rows"),
        ("config.json", "bos_token_id", "x", "bos_token_id: 'x' is no id"),
        ("generation_config.json", "decoder_start_token_id", True, "decoder_start_token_id: True is no id"),
    ],
)
def test_an_id_that_is_none_is_refused(file, key, value, said, tmp_path):
    saved(tmp_path, "bart")
    (tmp_path / file).write_text(json.dumps({**json.loads((tmp_path / file).read_text()), key: value}))
    with pytest.raises(UserError, match=said):
        import_run(tmp_path, tmp_path / "run")


def test_sizes_are_compared(tmp_path):
    """A tokenizer that is larger than the model's table is not its own; rows without a piece are said."""
    folder = tmp_path / "small"
    folder.mkdir()
    transformers.BertForPreTraining(transformers.BertConfig(**ENCODER | {"vocab_size": 420})).save_pretrained(folder)
    trained(folder / "vocab.txt", {})
    assert "20 rows of 420" in import_run(folder, tmp_path / "run")["unused"]
    transformers.BertForPreTraining(transformers.BertConfig(**ENCODER | {"vocab_size": 390})).save_pretrained(folder)
    with pytest.raises(UserError, match=r"400 pieces, and vocab_size in config[.]json is 390"):
        import_run(folder, tmp_path / "other")


def test_the_configuration_decides_what_a_decoder_begins_with(tmp_path):
    """Objectives ask the vocabulary; without a stated id <s> begins, as it always did."""
    trained(tmp_path / "vocab.json", FAIRSEQ)
    plain = Tokenizer(tmp_path / "vocab.json")
    assert plain.start == plain.table().start("bart") == plain.specials["<s>"] == 0
    given = Config.model_validate({"tokenizer": {"special_ids": {"decoder_start": 2, "eos": 3, "pad": 4}}})
    ours = Tokenizer(tmp_path / "vocab.json", given.tokenizer.special_ids)
    assert ours.table().start("bart") == 2 and ours.specials["</s>"] == 3 and ours.specials["<pad>"] == 4
    assert ours.identity != plain.identity == plain.sha256


def test_keys_that_are_null_change_no_hash():
    assert Config().science_hash() == "f59e61c6fd2c"
    assert Config.model_validate({"tokenizer": {"special_ids": {"bos": 1}}}).science_hash() != Config().science_hash()


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_a_pair_is_framed_as_the_tokenizer_frames_it(kind, tmp_path):
    """What a tuned encoder reads of two texts is what its tokenizer makes of them in transformers."""
    file, how = ("vocab.txt", {}) if kind == "bert" else ("vocab.json", FAIRSEQ)
    trained(tmp_path / file, how)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = {role: getattr(theirs, f"{role}_token_id") for role in ("cls", "sep", "pad")}
    config = Config.model_validate({"model": {"family": "encoder"}, "tokenizer": {"special_ids": ids}})
    rows = Rows(config, Tokenizer(tmp_path / file, config.tokenizer.special_ids))
    tokens, types, cut = rows.row([rows.tokenizer.encode(text) for text in ("import os", "self")])
    found = theirs("import os", "self", return_token_type_ids=kind == "bert")
    assert tokens == found.input_ids and not cut
    assert (
        types == found.token_type_ids
        if kind == "bert"
        else theirs("import os").input_ids == rows.row([rows.tokenizer.encode("import os")])[0]
    )


def test_a_tokenizer_alone(tmp_path):
    """The old files become what `tokenizer.path` takes, with the same ids; a folder of weights is a model's."""
    (tmp_path / "old").mkdir()
    trained(tmp_path / "old" / "vocab.json", FAIRSEQ)
    (tmp_path / "old" / "config.json").write_text('{"model_type": "roberta"}')
    assert not holds_weights(tmp_path / "old")
    assert import_tokenizer(tmp_path / "old", tmp_path / "new")["pieces"] == 500
    before, after = (Tokenizer(tokenizer_file(tmp_path / name)) for name in ("old", "new"))
    assert before.encode("import os") == after.encode("import os") and before.specials == after.specials
    (tmp_path / "old" / "model.safetensors").write_bytes(b"")
    assert holds_weights(tmp_path / "old")
