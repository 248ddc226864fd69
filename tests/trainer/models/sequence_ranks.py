"""One of several ranks that share sequences: compares each case with a model that reads them whole, and tells the first
rank's findings as a line of JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from trainer.config.model import ModelConfig
from trainer.models import Model, pretraining_model
from trainer.models.dropout import use_dropout
from trainer.models.sequence import Ring, Ulysses, use_sequences, whole_sequences

VOCABULARY, LENGTH, SOURCE = 32, 16, 11  # the sources are filled up to whole chunks
DROPS: dict[str, Any] = {"dropout": 0.1, "attention_dropout": 0.1}
CASES: dict[str, dict[str, Any]] = {
    "grouped": {"family": "decoder", "kv_heads": 1, "position": "rotary", "norm": "rmsnorm", "score_softcap": 3.0},
    "window": {"family": "decoder", "kv_heads": 2, "position": "rotary", "window": 4},
    "alibi": {"family": "decoder", "position": "alibi", "sinks": True},
    "experts": {"family": "decoder", "position": "rotary", "experts": {"count": 4, "z_loss": 0.01}},
    "prefix": {"family": "decoder", "position": "rotary", "ordered": True},
    "disentangled": {
        **{"family": "encoder", "position": "disentangled", "relative_buckets": 8, "relative_distance": 16},
        "relative_terms": "both",
    },
    "encoder": {"family": "encoder", "position": "learned"},
    "buckets": {
        **{"family": "encoder_decoder", "position": "buckets", "relative_buckets": 8, "relative_distance": 16},
        "dropout_inside": True,
    },
    "learned": {"family": "encoder_decoder", "position": "learned"},
}


def model_of(case: dict[str, Any]) -> Model:
    config = ModelConfig(width=16, heads=4, depth=2, **DROPS, **case)
    model = pretraining_model(config, VOCABULARY, 64)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    use_dropout(model, 5, "auto")
    return model.train()


def batch_of(family: str, ordered: bool) -> dict[str, np.ndarray]:
    """Two packed rows, the second with padding. ordered: each begins with a part that sees itself both ways."""
    numbers = np.random.default_rng(3)
    segments = np.repeat([[0, 1, 2, 2], [0, 1, 1, -1]], [5, 6, 3, 2], axis=1).astype(np.int32)
    batch = {
        "tokens": numbers.integers(0, VOCABULARY, segments.shape),
        "targets": np.where(segments < 0, -100, numbers.integers(0, VOCABULARY, segments.shape)),
        "segments": segments,
        "positions": np.broadcast_to(np.arange(LENGTH) % 7, segments.shape),
        "samples": np.array([7, 2**40]),
    }
    if ordered:
        batch["order"] = np.broadcast_to(np.maximum(np.arange(LENGTH), 9), segments.shape)
    if family == "encoder_decoder":
        batch["source_tokens"] = numbers.integers(0, VOCABULARY, (2, SOURCE))
        batch["source_positions"] = np.broadcast_to(np.arange(SOURCE), (2, SOURCE))
        batch["source_segments"] = np.repeat([[0, 1, 2], [0, 1, -1]], [4, 4, 3], axis=1).astype(np.int32)
    return batch


def gradients(model: Model, batch: dict[str, np.ndarray]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss, _, _ = model(**{name: torch.from_numpy(array.copy()) for name, array in batch.items()})
    loss.backward()
    found = {name: torch.zeros_like(one) if one.grad is None else one.grad for name, one in model.named_parameters()}
    return loss.detach(), {name: gradient.clone() for name, gradient in found.items()}


def compare(kind: str, case: dict[str, Any]) -> dict[str, float]:
    """Relative differences of loss and gradients, summed over the ranks, from those of whole sequences."""
    case = dict(case)
    ordered = case.pop("ordered", False)
    model, batch = model_of(case), batch_of(case["family"], ordered)
    with whole_sequences(model):
        loss, wanted = gradients(model, batch)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    group: Any = dist.group.WORLD
    zigzag = case["family"] != "encoder"
    shared = Ring(group, rank, ranks, zigzag=zigzag) if kind == "ring" else Ulysses(group, rank, ranks)
    use_sequences(model, shared)
    part, found = gradients(model, shared.slices.batch(batch))
    for one in (part, *found.values()):
        dist.all_reduce(one)
    largest = max(float(one.abs().max()) for one in wanted.values())
    worst = max(float((found[name] - wanted[name]).abs().max()) for name in wanted)
    return {"loss": float(abs(part - loss) / loss), "gradient": worst / largest}


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    results = {f"ulysses {name}": compare("ulysses", case) for name, case in CASES.items()}
    merged = {name: case for name, case in CASES.items() if case["position"] != "disentangled"}
    results |= {f"ring {name}": compare("ring", case) for name, case in merged.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results |= {f"{kind} in bf16": compare(kind, CASES["grouped"]) for kind in ("ulysses", "ring")}
    if dist.get_rank() == 0:
        print(json.dumps(results), flush=True)
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)
