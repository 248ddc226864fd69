"""Mixtures of experts."""

from __future__ import annotations

from trainer.descriptions.models import ModelFamily

FAMILIES = (
    ModelFamily("Switch", "Fedus et al. 2022", ("switch-*",), ("span_corruption",), lacks="jitter in the router"),
    ModelFamily("Mixtral", "Jiang et al. 2024", ("mixtral-*",), ("causal",)),
    ModelFamily("DeepSeek-MoE", "Dai et al. 2024", ("deepseek-moe-*",), ("causal",)),
    ModelFamily("OLMoE", "Muennighoff et al. 2025", ("olmoe-*",), ("causal",)),
    ModelFamily("Qwen 1.5 MoE", "Qwen team 2024", ("qwen1.5-moe-*",), ("causal",)),
    ModelFamily("Qwen 3 MoE", "Yang et al. 2025", ("qwen3-30b-a3b", "qwen3-235b-a22b"), ("causal",)),
)
