"""A trained model from its run folder."""

from __future__ import annotations

import pytest
import torch

from trainer.config import Config
from trainer.generation.loaded_model import Trained, load_model
from trainer.models import build, initialize
from trainer.run_folder import RunFolder
from trainer.training.checkpoint import save_weights


@pytest.fixture
def policy(untrained, tmp_path):
    """A policy with weights of its own, and its parent's folder; tied: whether embedding and head are one matrix."""

    def make(tied):
        parent = untrained(tied=tied)
        task = {"kind": "preference", "answer": ["chosen", "rejected"], "train": ["x.jsonl"], "parent": str(parent)}
        config = Config.model_validate(RunFolder(parent).load_config().model_dump(mode="json") | {"task": task})
        model, run = build(config), RunFolder(tmp_path / "policy")
        initialize(model, 7)
        run.path.mkdir()
        run.config.write_text(config.to_yaml())
        run.tokenizer.write_bytes(RunFolder(parent).tokenizer.read_bytes())
        learned = {name: one.detach() for name, one in model.named_parameters() if one.requires_grad}
        save_weights(run.checkpoints, learned, {"best": {}})
        return run.path, model, load_model(parent)[0]

    return make


@pytest.mark.parametrize("tied", [True, False])
def test_the_reference_of_a_policy_is_its_parent(policy, tied):
    run, made, parent = policy(tied)
    found, _, _ = load_model(run)
    tokens = torch.tensor([[1, 5, 6, 7]])
    with torch.no_grad():
        torch.testing.assert_close(found.reference.logits(tokens), parent.logits(tokens))
        torch.testing.assert_close(found.policy.logits(tokens), made.policy.logits(tokens))
        assert not torch.allclose(found.policy.logits(tokens), parent.logits(tokens))
    assert (found.reference.head.output.weight is found.reference.backbone.tokens.weight) == tied
    assert not any(parameter.requires_grad for parameter in found.reference.parameters())


def test_a_policy_writes_by_itself(policy):
    run, made, _ = policy(True)
    tokens = torch.tensor([[1, 5, 6, 7]])
    with torch.no_grad():
        torch.testing.assert_close(Trained.load(run).model.logits(tokens), made.policy.logits(tokens))
