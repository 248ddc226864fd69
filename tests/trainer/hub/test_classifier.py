"""A classifier of transformers that is imported and evaluated on records here."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import transformers
from strings import strings
from test_tokenizer_folder import ALBERT, FAIRSEQ, trained
from tiny import ENCODER

from trainer.cli.main import main

LABELS = ["no", "maybe", "yes"]
# name: (class, file, how it is trained, rows, type_vocab_size, model_input_names)
TYPED, UNTYPED = ["input_ids", "token_type_ids", "attention_mask"], ["input_ids", "attention_mask"]
KINDS = {
    "bert": ("Bert", "vocab.txt", {}, 400, 2, None),
    "bert-untyped": ("Bert", "vocab.txt", {}, 400, 2, UNTYPED),
    "roberta": ("Roberta", "vocab.json", FAIRSEQ, 500, 1, None),  # as published
    "roberta-types": ("Roberta", "vocab.json", FAIRSEQ, 500, 2, None),
    "roberta-typed": ("Roberta", "vocab.json", FAIRSEQ, 500, 2, TYPED),
    "albert": ("Albert", "spiece.model", ALBERT, 500, 2, None),
    "albert-typed": ("Albert", "spiece.model", ALBERT, 500, 2, TYPED),
}


@pytest.mark.parametrize("fields", [("text",), ("first", "second")], ids=["texts", "pairs"])
@pytest.mark.parametrize("kind", KINDS)
def test_its_accuracy_is_that_of_a_pipeline(kind, fields, tmp_path, capsys):
    """Two records in three are labelled as transformers classifies them: any other answer would move the accuracy."""
    stem, file, how, rows, types, given_names = KINDS[kind]
    came = tmp_path / "came"
    came.mkdir()
    trained(came / file, how)
    words = getattr(transformers, f"{stem}Tokenizer").from_pretrained(came)
    names = dict(enumerate(LABELS))
    keys = ENCODER | {"vocab_size": rows, "id2label": names, "label2id": {name: one for one, name in names.items()}}
    keys |= {"type_vocab_size": types} | ({"embedding_size": 16} if stem == "Albert" else {})
    torch.manual_seed(0)
    model = getattr(transformers, f"{stem}ForSequenceClassification")(getattr(transformers, f"{stem}Config")(**keys))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter))
    words.model_max_length = 48
    model.save_pretrained(came)
    words.save_pretrained(came)
    if given_names:
        stated = json.loads((came / "tokenizer_config.json").read_text())
        (came / "tokenizer_config.json").write_text(json.dumps(stated | {"model_input_names": given_names}))
    spelled = words.all_special_tokens  # are special tokens to a pipeline, and text here
    plain = [text for text in strings() if text.strip() and not any(one in text for one in spelled)]
    texts = [text for text in plain if len(words(text, text).input_ids) < 48][:60]
    given = [dict(zip(fields, (text, texts[-place]), strict=False)) for place, text in enumerate(texts)]
    pipeline = transformers.pipeline("text-classification", model=str(came), device="cpu")
    asked = [{"text": one[fields[0]], **({"text_pair": one["second"]} if len(fields) > 1 else {})} for one in given]
    found = [pipeline(one)["label"] for one in asked]
    assert len(set(found)) > 1
    true = [label if place % 3 else LABELS[LABELS.index(label) - 1] for place, label in enumerate(found)]
    lines = [json.dumps(one | {"label": label}) + "\n" for one, label in zip(given, true, strict=True)]
    (tmp_path / "records.jsonl").write_text("".join(lines))

    assert main(["import", str(came), f"to={tmp_path / 'run'}", "--json"]) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    records = [str(tmp_path / "records.jsonl")]
    config["task"] |= {"train": records, "held_out": records, "text": list(fields), "answer": ["label"]}
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "run"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    right = sum(one == label for one, label in zip(found, true, strict=True))
    assert said["metrics"]["accuracy"] == pytest.approx(right / len(true)) and said["records"] == len(true)
