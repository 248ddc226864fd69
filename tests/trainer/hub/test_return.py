"""There and back: what leaves again behaves in transformers as what came; what was made here, as it was trained."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import transformers
from test_runs import MODELS, run_of, tokenizer  # noqa: F401
from test_special_ids import KINDS, saved
from test_tuned import run, small  # noqa: F401
from tiny import ENCODER

from trainer.data import Tokenizer
from trainer.generation.loaded_model import Trained
from trainer.generation.text import prompt_ids
from trainer.hub import export_run, import_run
from trainer.hub.exchange import type_of
from trainer.tasks.formats import Rows
from trainer.utils.errors import UserError

OF_THE_FILE = {"transformers_version", "_name_or_path", "torch_dtype", "dtype", "architectures"}
# An empty second text is none to transformers, and is one here.
PAIRS = [("the cats sleep", "a dog sees"), ("the old", "near the dogs near the dogs"), ("a", "b"), ("日本 😀", "x\ty")]


@pytest.mark.parametrize("kind", KINDS)
def test_an_import_leaves_as_it_came(kind, tmp_path):
    """Configurations key by key, ids of texts and pairs, and greedy text of which nobody says where it begins."""
    (tmp_path / "came").mkdir()
    model, words = saved(tmp_path / "came", kind)
    import_run(tmp_path / "came", tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "gone")
    for name in ("config.json", "generation_config.json"):
        came, gone = (json.loads((tmp_path / place / name).read_text()) for place in ("came", "gone"))
        both = {key for key in {**came, **gone} if key not in OF_THE_FILE}
        # A value of the class that the file left out may be new.
        assert {key: gone.get(key) for key in both & came.keys()} == {key: came[key] for key in both & came.keys()}
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "gone")
    assert type(again) is type(transformers.AutoTokenizer.from_pretrained(tmp_path / "came"))
    for first, second in PAIRS:
        assert again(first).input_ids == words(first).input_ids
        assert dict(again(first, second)) == dict(words(first, second))
    loader = getattr(transformers, KINDS[kind][0])
    returned = loader.from_pretrained(tmp_path / "gone").eval()
    ids = torch.tensor([words("import os, sys").input_ids])
    settings = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 9, "do_sample": False}
    assert returned.generate(ids, **settings).tolist() == model.generate(ids, **settings).tolist()


def test_a_head_for_pairs_alone_stays(tmp_path):
    """BertForNextSentencePrediction has no head that predicts tokens; the one that is drawn goes no further."""
    torch.manual_seed(0)
    came = transformers.BertForNextSentencePrediction(transformers.BertConfig(**ENCODER)).eval()
    with torch.no_grad():
        for parameter in came.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    came.save_pretrained(tmp_path / "came")
    import_run(tmp_path / "came", tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "gone")
    assert json.loads((tmp_path / "gone" / "config.json").read_text())["architectures"] == [type(came).__name__]
    gone = type(came).from_pretrained(tmp_path / "gone")
    weights = gone.state_dict()
    assert weights.keys() == came.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in came.state_dict().items())


def test_a_head_for_pairs_alone_is_refused_where_no_class_has_it(tmp_path):
    came = transformers.AlbertForPreTraining(transformers.AlbertConfig(**ENCODER, embedding_size=16))
    weights = {name: value for name, value in came.state_dict().items() if not name.startswith("predictions.")}
    came.save_pretrained(tmp_path / "came", state_dict=weights)
    with pytest.raises(UserError, match=r"sop_classifier.classifier.weight without predictions.* no class of albert"):
        import_run(tmp_path / "came", tmp_path / "run")


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "bert"])
def test_the_type_stays(name, tmp_path):
    """XLM-R and RoBERTa have the same keys, BERT has two classes."""
    kinds = {"roberta": ("Roberta", 514), "xlm-roberta": ("XLMRoberta", 514), "bert": ("Bert", 512)}
    stem, length = kinds[name]
    keys = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = getattr(transformers, f"{stem}Config")(vocab_size=400, max_position_embeddings=length, **keys)
    getattr(transformers, f"{stem}ForMaskedLM")(config).save_pretrained(tmp_path / "came")
    import_run(tmp_path / "came", tmp_path / "run")
    assert export_run(tmp_path / "run", tmp_path / "gone")["type"] == name
    assert json.loads((tmp_path / "gone" / "config.json").read_text())["architectures"] == [f"{stem}ForMaskedLM"]


@pytest.mark.parametrize("name", [name for name in MODELS if name in ("gpt2", "llama", "bert", "bart", "t5")])
def test_an_exported_tokenizer_writes_what_the_run_reads(name, tokenizer, tmp_path):  # noqa: F811
    run_of(tmp_path / "run", tokenizer, MODELS[name])
    export_run(tmp_path / "run", tmp_path / "hub")
    words, trained = transformers.AutoTokenizer.from_pretrained(tmp_path / "hub"), Trained.load(tmp_path / "run")
    text = "def f(x): 日本"
    assert words.model_max_length == trained.config.max_length
    assert words.padding_side == ("left" if trained.family == "decoder" else "right")
    if trained.family == "encoder":
        rows = Rows(trained.config, trained.tokenizer)
        assert (words.cls_token_id, words.sep_token_id) == (rows.bos, rows.eos)
        assert {"<cls>", "<sep>"} <= {str(token) for token in words.added_tokens_decoder.values()}
        for pair in [(text,), (text, "import os")]:
            tokens, types, _ = rows.row([trained.tokenizer.encode(one) for one in pair])
            batch = words(*pair)
            assert batch.input_ids == tokens
            assert "token_type_ids" not in batch or batch.token_type_ids == types
    else:
        assert words(text).input_ids == prompt_ids(trained, text)
    batch = words([text, "x"], padding=True, return_tensors="pt")
    shown = words.decode(batch.input_ids[0])
    assert text in shown and ("<s>" in shown or "</s>" in shown)
    assert words.decode(batch.input_ids[0], skip_special_tokens=True) == text
    transformers.AutoModel.from_pretrained(tmp_path / "hub")(
        **batch, **({"decoder_input_ids": batch.input_ids} if trained.family == "encoder_decoder" else {})
    )


@torch.no_grad()
@pytest.mark.parametrize("name", ["bert-base", "roberta-base", "gpt2-124m"])
def test_a_pair_classifier_says_the_same_through_a_pipeline(name, run, tmp_path):  # noqa: F811
    task = {"kind": "sequence", "labels": ["no", "yes"], "text": ["first", "second"], "train": ["x.jsonl"]}
    folder, config, model = run(small(name), task)
    export_run(folder.path, tmp_path / "out")
    pipeline = transformers.pipeline("text-classification", model=str(tmp_path / "out"), device="cpu")
    own = Tokenizer(folder.tokenizer)
    rows, labels = Rows(config, own), set()
    for first, second in [*PAIRS, *((f"{a} {b}", a) for a, b in PAIRS), ("a dog", "cats"), ("cats", "a dog")]:
        tokens, types, _ = rows.row([own.encode(first), own.encode(second)])
        batch = {k: torch.from_numpy(v)[None] for k, v in rows.arrays(tokens, types).items()}
        logits = model.logits(**batch)[0]
        said = pipeline({"text": first, "text_pair": second}, top_k=None)
        wanted = torch.softmax(logits.reshape(-1)[:2], 0)
        found = {one["label"]: one["score"] for one in said}
        assert [found["no"], found["yes"]] == pytest.approx(wanted.tolist(), abs=1e-5)
        labels.add(max(found, key=found.get))


def test_a_model_of_ours_keeps_the_first_type_that_says_all():
    from trainer.config import Config

    model = Config().model.model_copy(update={"vocabulary": 320, "max_length": 64})
    assert type_of(model).type == "llama"
