"""XLM: languages by their names, both ways; tuned heads; its own tokenizer is not read, and that is said."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("transformers")

import transformers
from tiny import XLM, ours, tiny

from trainer.cli.main import main
from trainer.config import Config
from trainer.hub import export_run, import_run, read_checkpoint
from trainer.models import build, initialize
from trainer.run_folder import RunFolder
from trainer.training.checkpoint import save_weights
from trainer.utils.errors import UserError


@torch.no_grad()
def test_logits_in_every_language(saved):
    """Languages that take turns within a row; null is none on both sides."""
    net, theirs = ours(read_checkpoint(saved("xlm"))), tiny("xlm")
    assert net.config.languages == ("0", "1", "2")
    tokens = torch.randint(6, 96, (2, 20), generator=torch.Generator().manual_seed(0))
    languages = torch.arange(20).expand(2, 20) // 4 % 3
    mask = torch.ones_like(tokens)
    for told in (languages, None):
        want = theirs(tokens, attention_mask=mask, langs=told).logits
        got = net.logits(tokens) if told is None else net.logits(tokens, languages=told)
        assert (got - want).abs().max() <= 2e-5 * want.std()


def test_names_of_languages_come_and_go(tmp_path):
    config = transformers.XLMConfig(**XLM, lang2id={"de": 2, "en": 0, "fr": 1})
    torch.manual_seed(0)
    transformers.XLMWithLMHeadModel(config).save_pretrained(tmp_path / "came")
    facts = import_run(tmp_path / "came", tmp_path / "run", check=True)
    assert facts["exact"] and facts["type"] == "xlm"
    assert RunFolder(tmp_path / "run").load_config().model.languages == ("en", "fr", "de")
    export_run(tmp_path / "run", tmp_path / "gone")
    came, gone = (json.loads((tmp_path / one / "config.json").read_text()) for one in ("came", "gone"))
    assert {key: gone[key] for key in came if key != "transformers_version"} == {
        key: value for key, value in came.items() if key != "transformers_version"
    }
    back = transformers.XLMWithLMHeadModel.from_pretrained(tmp_path / "gone")
    weights = transformers.XLMWithLMHeadModel.from_pretrained(tmp_path / "came").state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in back.state_dict().items())


@torch.no_grad()
def test_a_run_of_ours_leaves_with_its_languages(tmp_path):
    fields = {"name": "xlm-mine", "family": "encoder", "depth": 2, "width": 32, "heads": 4, "gated": False}
    fields |= {"activation": "relu", "norm": "layernorm", "norm_position": "post", "position": "learned", "bias": True}
    fields |= {"embedding_norm": True, "head_bias": True, "norm_epsilon": 1e-12, "max_length": 32, "vocabulary": 320}
    fields |= {"languages": ["de", "en"], "init_residual": False}
    config = Config.model_validate(
        {"model": fields, "objective": {"name": "masked_lm"}, "tokenizer": {"vocabulary": 300},
         "data": {"sequence_length": 32}}
    )  # fmt: skip
    net = build(config).eval()
    initialize(net, 0)
    for parameter in net.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(config.to_yaml())
    save_weights(run.checkpoints, dict(net.named_parameters()), {"best": {}})
    assert export_run(run.path, tmp_path / "hub")["type"] == "xlm"
    theirs = transformers.XLMWithLMHeadModel.from_pretrained(tmp_path / "hub").eval()
    assert theirs.config.lang2id == {"de": 0, "en": 1}
    tokens = torch.randint(6, 300, (2, 16), generator=torch.Generator().manual_seed(2))
    languages = (torch.arange(16) > 8).long().expand(2, 16)
    want = theirs(tokens, attention_mask=torch.ones_like(tokens), langs=languages).logits
    assert (net.logits(tokens, languages=languages) - want).abs().max() <= 2e-5 * want.std()


def test_tuned_heads(tmp_path):
    """Classes of words come in and go out; classes of texts, one matrix without a tanh layer, are refused by name."""
    torch.manual_seed(0)
    config = transformers.XLMConfig(**XLM, num_labels=3)
    transformers.XLMForTokenClassification(config).save_pretrained(tmp_path / "words")
    facts = import_run(tmp_path / "words", tmp_path / "run", check=True)
    assert facts["exact"] and facts["task"].startswith("token")
    export_run(tmp_path / "run", tmp_path / "gone")
    gone = json.loads((tmp_path / "gone" / "config.json").read_text())
    assert gone["architectures"] == ["XLMForTokenClassification"]
    transformers.XLMForSequenceClassification(config).save_pretrained(tmp_path / "texts")
    with pytest.raises(UserError, match=r"XLMForSequenceClassification.*not supported"):
        import_run(tmp_path / "texts", tmp_path / "other")


def test_its_own_tokenizer_is_not_read(tmp_path, capsys):
    """The weights come in and say so; the files alone are refused. A tokenizer.json beside them is read."""
    folder = tmp_path / "came"
    transformers.XLMWithLMHeadModel(transformers.XLMConfig(**XLM)).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({"<s>": 0, "</s>": 1, "<pad>": 2, "<unk>": 3, "a</w>": 4}))
    (folder / "merges.txt").write_text("")
    assert main(["import", str(folder), f"to={tmp_path / 'run'}", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "the XLMTokenizer of" in facts["tokenizer"] and "is not read" in facts["tokenizer"]
    assert not RunFolder(tmp_path / "run").tokenizer.exists()
    assert main(["train", f"init={tmp_path / 'run'}", f"tokenizer.path={folder}", "budget.steps=1"]) == 2
    said = capsys.readouterr().err
    assert "XLMTokenizer" in said and "is not read" in said
    (folder / "model.safetensors").unlink()
    assert main(["import", str(folder), f"to={tmp_path / 'words'}"]) == 2


def test_a_body_gets_a_head(tmp_path):
    torch.manual_seed(0)
    transformers.XLMModel(transformers.XLMConfig(**XLM)).save_pretrained(tmp_path / "came")
    facts = import_run(tmp_path / "came", tmp_path / "run", check=True)
    assert facts["exact"] and "head.output.bias" in facts["new"]
    export_run(tmp_path / "run", tmp_path / "gone")
    assert json.loads((tmp_path / "gone" / "config.json").read_text())["architectures"] == ["XLMModel"]
