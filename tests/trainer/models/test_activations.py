"""The activations: their formulas, and kernels for the gated product that compute the same."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.config.model import ModelConfig
from trainer.descriptions.activations import ACTIVATIONS
from trainer.models.activations import activation, gated_product

FORMULAS = {
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_it_and_its_gated_product_are_the_formula(name: str) -> None:
    config = ModelConfig(activation=name)
    gate, up = torch.linspace(-4, 4, 33, dtype=torch.float64), torch.linspace(1, 2, 33, dtype=torch.float64)
    wanted = torch.tensor([FORMULAS[name](x) for x in gate.tolist()], dtype=torch.float64)
    torch.testing.assert_close(activation(config)(gate), wanted)
    product = gated_product(config)
    assert (product is None) == (name == "relu")
    if product is not None:
        torch.testing.assert_close(product(gate.float(), up.float(), backend="torch"), (wanted * up).float())
