"""UTF-8 as a tokenizer, beside transformers' ByT5Tokenizer."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import transformers
from strings import strings
from test_runs import run_of
from tiny import T5

from trainer.cli.main import main
from trainer.compose import compose
from trainer.config import TokenizerConfig
from trainer.data.tokenizer import Tokenizer, train
from trainer.generation import Decoding
from trainer.generation.loaded_model import Trained
from trainer.generation.text import continue_texts, generate, prompt_ids
from trainer.hub import export_run, import_run
from trainer.hub.runs import import_tokenizer
from trainer.tokenizer_files import ids, tokenizer_file
from trainer.utils.errors import UserError

PLAIN = [text for text in strings() if not any(name in text for name in ("</s>", "<unk>", "<pad>", "<extra_id_0>"))]
PLAIN = [text for text in PLAIN if len(text) < 200]
BYTES = {"name": "bytes", "vocabulary": 384}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bytes") / "tokenizer.model"
    path.write_bytes(train(iter(()), TokenizerConfig(**BYTES)))
    return path


def test_ids_are_those_of_transformers(file):
    ours, theirs = Tokenizer(file), transformers.ByT5Tokenizer()
    texts = strings()
    changed = [text.replace("</s>", "</ s>").replace("<", "(") for text in texts]
    assert len(texts) == 200 and [[*one, 1] for one in ours.encode_all(changed)] == theirs(changed).input_ids
    assert [ours.decode(one) for one in ours.encode_all(texts)] == texts
    assert ours.vocabulary == len(theirs) == ids(file) == 384
    assert ours.piece(383) == "<extra_id_124>" and theirs.convert_tokens_to_ids("<extra_id_124>") == 383
    assert ours.decode([0, 1, 2, 68, 300, 3 + 0xC3]) == "A\ufffd"
    assert [ours.piece(token) for token in (0, 1, 2, 68)] == ["<pad>", "</s>", "<unk>", "<0x41>"]
    assert ours.id_of("<0x41>") == 68 and ours.id_of("<0xZZ>") is None and ours.id_of("</s>") == 1
    assert ours.places("aé") == [(0, 1), (1, 2), (1, 2)]


def test_sentinels_are_the_last_bytes(file):
    """Xue et al. 2022, section 3.1: the final byte ids, from 258 down; the first eleven are in no text of UTF-8."""
    table = Tokenizer(file).table()
    assert table.sentinels(100, "span_corruption").tolist() == list(range(258, 158, -1))
    every = {byte for point in range(0x110000) if not 0xD800 <= point < 0xE000 for byte in chr(point).encode()[:1]}
    assert not {token - 3 for token in table.sentinels(11, "span_corruption").tolist()} & every
    with pytest.raises(UserError, match="needs 101 sentinels, the tokenizer has 100"):
        table.sentinels(101, "span_corruption")


def byt5(folder):
    """A tiny model with ByT5's tokenizer, as transformers writes them."""
    torch.manual_seed(0)
    keys = T5 | {"vocab_size": 384, "num_decoder_layers": 1, "feed_forward_proj": "gated-gelu"}
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**keys, decoder_start_token_id=0)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + (parameter.dim() == 1) * 0.5)
    model.save_pretrained(folder)
    transformers.ByT5Tokenizer().save_pretrained(folder)
    return model


def test_a_folder_of_transformers_there_and_back(tmp_path):
    model = byt5(tmp_path / "theirs")
    facts = import_run(tmp_path / "theirs", tmp_path / "run", check=True)
    assert facts["exact"] and facts["tokenizer"].endswith("tokenizer_config.json")
    ours, words = Trained.load(tmp_path / "run"), transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    assert ours.config.model.decoder_depth == 1
    for prompt in ("import os", "naïve 漢字"):
        given = prompt_ids(ours, prompt)
        assert given == words(prompt).input_ids
        theirs = model.generate(torch.tensor([given]), max_new_tokens=24, do_sample=False)[0, 1:].tolist()
        theirs = theirs[: theirs.index(1) if 1 in theirs else None]
        greedy = Decoding(temperature=0, tokens=24)
        assert generate(ours, [given], greedy) == generate(ours, [given], greedy, cached=False) == [theirs]
    assert continue_texts(ours, ["x"], greedy)[0].tokens == 24
    export_run(tmp_path / "run", tmp_path / "back")
    for name in ("tokenizer_config.json", "config.json"):
        before, after = (json.loads((tmp_path / place / name).read_text()) for place in ("theirs", "back"))
        of_the_file = ("transformers_version", "architectures")
        assert {key for key, value in before.items() if after.get(key) != value} <= set(of_the_file)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    assert type(again).__name__ == "ByT5Tokenizer" and again(PLAIN).input_ids == words(PLAIN).input_ids


@pytest.mark.parametrize("objective", ["span_corruption", "causal", "mass"])
def test_a_run_on_bytes_as_transformers_reads_it(objective, file, tmp_path):
    t5 = {"family": "encoder_decoder", "position": "buckets", "attention_scale": 1.0, "dropout_inside": True}
    run_of(tmp_path / "run", file, {} if objective == "causal" else t5, objective={"name": objective})
    export_run(tmp_path / "run", tmp_path / "hub")
    ours, theirs = Tokenizer(file), transformers.AutoTokenizer.from_pretrained(tmp_path / "hub")
    before, behind = {"span_corruption": ([], [1]), "causal": ([1], []), "mass": ([1], [1])}[objective]
    assert (type(theirs).__name__ == "ByT5Tokenizer") == (objective == "span_corruption")
    assert theirs(PLAIN).input_ids == [[*before, *one, *behind] for one in ours.encode_all(PLAIN)]
    assert [theirs.decode(one) for one in ours.encode_all(PLAIN)] == PLAIN
    assert len(theirs) == 384 and theirs.pad_token_id == 0 and theirs.eos_token_id == 1
    if objective == "span_corruption":
        assert json.loads((tmp_path / "hub" / "config.json").read_text())["decoder_start_token_id"] == 0
        import_tokenizer(tmp_path / "hub", tmp_path / "alone")
        assert Tokenizer(tokenizer_file(tmp_path / "alone")).model == ours.model


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"eos_token": "<end>"}, "eos_token='<end>' is not supported; '</s>' is"),
        ({"extra_ids": -1}, "extra_ids: -1 is no number of ids"),
        ({"added_tokens_decoder": {"300": {"content": "<x>"}}}, "added_tokens_decoder: ids from 259 on, without gaps"),
        (
            {"added_tokens_decoder": {"259": {"content": "<extra_id_0>"}, "260": {"content": "<x>"}}},
            "added_tokens_decoder: '<x>' stands among",
        ),
    ],
)
def test_settings_that_are_not_byt5s(settings, said, tmp_path):
    stated = {"tokenizer_class": "ByT5Tokenizer", **settings}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
    with pytest.raises(UserError, match=said) as error:
        Tokenizer(tokenizer_file(tmp_path))
    assert len(str(error.value).splitlines()) == 1


def test_special_tokens_of_ones_own_take_extra_ids(tmp_path):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(train(iter(()), TokenizerConfig(**BYTES, symbols=("<mask>", "<de>"))))
    ours = Tokenizer(path)
    assert ours.specials["<mask>"] == 259 and ours.specials["<de>"] == 260 and ours.vocabulary == 384
    with pytest.raises(UserError, match=r"tokenizer.symbols: 126 given; of bytes, 125 ids are free"):
        train(iter(()), TokenizerConfig(**BYTES, symbols=tuple(f"<{number}>" for number in range(126))))


def test_other_sizes_are_refused(capsys):
    assert main(["plan", "tokenizer=bytes", "tokenizer.vocabulary=512"]) == 2
    assert "tokenizer.vocabulary: bytes have 384 ids, 512 given; take tokenizer=bytes" in capsys.readouterr().err
    assert main(["plan", "model=byt5-small", "objective=byt5"]) == 2
    assert "smaller than tokenizer.vocabulary 2048; take tokenizer=bytes" in capsys.readouterr().err
    assert compose(["tokenizer=bytes"]).vocabulary == 384
