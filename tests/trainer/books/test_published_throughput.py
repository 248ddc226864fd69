"""The roofline against measured throughput that others published; run as a script, it prints the table.

llm-foundry's benchmark on H100 80GB, BF16, FULL_SHARD (github.com/mosaicml/llm-foundry, scripts/train/benchmarking at
061f2c7): tokens per second and GPU. Each row's hosts have 8 GPUs and 400 Gb/s of network per GPU.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import yaml

from trainer.books.clock import step_seconds
from trainer.config import Config

MACHINE = Path(__file__).parents[3] / "conf" / "machine" / "h100-sxm.yaml"
MODELS = {  # width, heads, depth of the MPT models
    "70b": (8192, 64, 80),
    "30b": (7168, 56, 48),
    "13b": (5120, 40, 40),
    "7b": (4096, 32, 32),
    "3b": (2560, 20, 32),
    "1b": (2048, 16, 24),
    "760m": (1536, 12, 24),
}
ROWS = [  # model, sequence, GPUs, micro-batch, batch, recomputed, tokens/s/GPU
    ("70b", 2048, 64, 8, 2048, True, 1039),
    ("30b", 2048, 32, 14, 1344, True, 2308),
    ("30b", 2048, 8, 3, 504, True, 2002),
    ("30b", 8192, 8, 1, 168, True, 1384),
    ("13b", 2048, 64, 2, 128, False, 4800),
    ("13b", 2048, 8, 2, 16, False, 4792),
    ("13b", 16384, 8, 3, 72, True, 2985),
    ("7b", 2048, 8, 6, 48, False, 10643),
    ("7b", 8192, 8, 8, 128, True, 6935),
    ("7b", 65536, 8, 1, 16, True, 1956),
    ("3b", 2048, 16, 10, 480, False, 24142),
    ("3b", 512, 8, 40, 1920, False, 27965),
    ("1b", 2048, 8, 14, 112, False, 45455),
    ("1b", 8192, 8, 3, 96, False, 29157),
    ("760m", 2048, 8, 24, 384, False, 63147),
    ("760m", 512, 8, 96, 1536, False, 83749),
]


def predicted(row: tuple) -> tuple[float, float, float]:
    """Tokens per second and GPU: low, middle, high."""
    name, length, gpus, rows, batch, recompute, _ = row
    width, heads, depth = MODELS[name]
    shape = {"depth": depth, "width": width, "heads": heads, "vocabulary": 50368}
    kind = {"position": "alibi", "gated": False, "activation": "gelu", "norm": "layernorm"}
    config = Config.model_validate(
        {
            "model": shape | kind,
            "data": {"sequence_length": length},
            "optim": {"batch_size": batch},
            "launch": {"processes": gpus},
            "engine": {"zero_stage": 3, "micro_batch": rows, "activation_checkpointing": recompute},
            "machine": yaml.safe_load(MACHINE.read_text()) | {"network_bandwidth": 50e9},
        }
    )
    step = step_seconds(config)
    low, high = step.bounds
    rate = config.curriculum.tokens(1) / gpus
    return rate / high, rate / step.value, rate / low


def test_published_throughput_lies_in_the_interval():
    ratios = []
    for row in ROWS:
        low, middle, high = predicted(row)
        assert low < row[-1] < high, row
        ratios.append(middle / row[-1])
    assert 0.9 < median(ratios) < 1.12
    assert max(ratios) < 1.4 and min(ratios) > 0.8


if __name__ == "__main__":
    print("model  sequence  GPUs  published  predicted (low to high)      ratio")
    for row in ROWS:
        low, middle, high = predicted(row)
        print(
            f"{row[0]:<5}{row[1]:>10}{row[2]:>6}{row[-1]:>11,}{middle:>11,.0f} ({low:,.0f} to {high:,.0f})".ljust(60),
            end="",
        )
        print(f"{middle / row[-1]:.2f}")
    print(f"median ratio {median(predicted(row)[1] / row[-1] for row in ROWS):.2f}")
