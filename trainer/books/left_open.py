"""What `null` and `auto` come to: values that a configuration leaves open, where they are known without torch."""

from __future__ import annotations

import sys
from typing import Any

from trainer.books.layout import micro_batch, zero_stage
from trainer.books.run_length import known_steps, run_tokens, warmup_steps
from trainer.config import Config
from trainer.config.host import cache_root, has_accelerator, precision, threads


def left_open(config: Config) -> dict[str, Any]:
    """Key -> what a run on this host would take for it, of keys that are null or auto."""
    found = _of_model(config) | _of_length(config) | _of_host(config)
    plain = config.model_dump(mode="json")
    return {key: value for key, value in found.items() if _at(plain, key) in (None, "auto") and value is not None}


def _of_model(config: Config) -> dict[str, Any]:
    model = config.model
    learned, rotary, local = model.position == "learned", model.position == "rotary", model.window is not None
    return {
        "model.vocabulary": config.vocabulary,
        "model.kv_heads": model.key_heads,
        "model.head_size": model.head_channels,
        "model.ffn_width": model.ffn_channels,
        "model.experts.width": model.expert_channels if model.experts.count else None,
        "model.embedding_width": model.embedding_channels,
        "model.max_length": config.max_length if learned else None,
        "model.attention_scale": float(f"{model.head_channels**-0.5:.4g}"),
        "model.rotary_base_local": model.rotary_base if rotary and local else None,
        "model.rotary_attention_factor": float(f"{model.yarn_factor:.4g}") if model.rotary_scaling == "yarn" else None,
    }


def _of_length(config: Config) -> dict[str, Any]:
    steps = known_steps(config)
    if steps is None:
        return {}
    return {
        "budget.steps": steps,
        "budget.tokens": run_tokens(config),
        "optim.warmup_steps": warmup_steps(config.optim, steps),
    }


def _of_host(config: Config) -> dict[str, Any]:
    return {
        "engine.precision": precision(config),
        "engine.device": None if has_accelerator() else "cpu",
        "engine.zero_stage": zero_stage(config),
        "engine.micro_batch": micro_batch(config),
        "engine.threads": threads(config),
        "launch.python": sys.executable,
        "launch.min_nodes": config.launch.nodes,
        "run.experiment": config.experiment,
        "run.cache": str(cache_root(config)),
    }


def _at(plain: Any, key: str) -> Any:
    for name in key.split("."):
        plain = plain[name]
    return plain
