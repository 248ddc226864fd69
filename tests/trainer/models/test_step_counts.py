"""What a step asks of a GPU, held to what scripts/bench/step_counts counts: on fake tensors, so in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PRODUCTS = {"gpt2-124m": 4, "llama-7b": 4, "bert-base": 4}  # of a layer's forward pass; each has two backward
CASTS = {"gpt2-124m": 0, "llama-7b": 0, "bert-base": 2}  # forward: BERT's stream is what its norms give


@pytest.fixture(scope="module")
def layers():
    command = [sys.executable, str(ROOT / "scripts" / "bench" / "step_counts.py"), "--json", "--backend", "triton"]
    done = subprocess.run([*command, "--preset", *PRODUCTS, "xlnet-base"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["layers"]


@pytest.mark.parametrize("preset", PRODUCTS)
def test_one_product_for_each_input_and_no_cast_of_a_norm(layers, preset):
    counts = layers[f"{preset}, triton"]
    assert counts["products"] == 3 * PRODUCTS[preset]
    assert counts["activation_casts"] == 2 * CASTS[preset], "each has its gradient's"


def test_ranks_alone_tell_xlnet_who_sees_whom(layers):
    assert layers["xlnet-base, triton"]["masks"] == 0


def test_the_stored_counts_are_of_the_same_models(layers):
    before = json.loads((ROOT / "docs" / "benchmarks" / "step-counts.json").read_text())["before"]["layers"]
    for name, counts in layers.items():
        assert counts.keys() == before[name].keys()
        assert counts["products"] < before[name]["products"]
        assert counts["activation_cast_bytes_per_token"] < before[name]["activation_cast_bytes_per_token"]
