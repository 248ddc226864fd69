"""The rates of dropout in config.json: read as the paper's, written as the run's or else the paper's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.hub import FAMILIES
from trainer.hub.table import Dropouts, read_table, write_table
from trainer.utils.errors import UserError

KEYS = {
    "gpt2": ("resid_pdrop", "attn_pdrop"),
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "bart": ("dropout", "attention_dropout"),
    "t5": ("dropout_rate", "dropout_rate"),
    "gpt_neox": ("hidden_dropout", "attention_dropout"),
    "modernbert": ("mlp_dropout", "attention_dropout"),
}


def no_tensor(name: str) -> Tensor:
    return torch.zeros(1)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_type_has_a_row_whose_keys_transformers_knows(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    (row,) = [row for row in FAMILIES[kind].table if isinstance(row, Dropouts)]
    known = transformers.AutoConfig.for_model(kind).to_dict()
    assert set(row.hidden) | set(row.attention) <= known.keys()


@pytest.mark.parametrize("kind", KEYS)
def test_what_is_written_is_read_again(kind: str) -> None:
    table, (hidden, attention) = FAMILIES[kind].table, KEYS[kind]
    row = next(row for row in table if isinstance(row, Dropouts))
    rates = (0.2, 0.2 if hidden == attention else 0.3)
    stated = {"paper_dropout": rates[0], "paper_attention_dropout": rates[1]}
    written = row.write(ModelConfig.model_validate(stated))
    assert (written[hidden], written[attention]) == rates
    plain = write_table(table, ModelConfig.model_validate({"vocabulary": 64, "max_length": 32}))
    assert not {hidden, attention} & plain.keys()  # nothing is stated
    fields = read_table((row,), written, no_tensor)
    assert (fields["paper_dropout"], fields["paper_attention_dropout"]) == rates
    assert read_table((row,), {hidden: None}, no_tensor) == {}
    dropped = row.write(ModelConfig.model_validate({**stated, "dropout": 0.5}))
    assert dropped[hidden] == 0.5 and (hidden == attention or dropped[attention] == 0.0)
    with pytest.raises(UserError, match=f"config.json: {row.hidden[0]}=1.5: a number from 0 to below 1 wanted"):
        read_table((row,), {row.hidden[0]: 1.5}, no_tensor)
