"""Llama and its kin."""

from __future__ import annotations

from trainer.descriptions.models import ModelFamily

FAMILIES = (
    ModelFamily("LLaMA", "Touvron et al. 2023a", ("llama-*",), ("causal",)),
    ModelFamily("Llama 2", "Touvron et al. 2023b", ("llama2-*",), ("causal",)),
    ModelFamily("Llama 3", "Grattafiori et al. 2024", ("llama3-*", "llama3.*"), ("causal",)),
    ModelFamily("TinyLlama", "Zhang et al. 2024", ("tinyllama-*",), ("causal",)),
    ModelFamily("SmolLM2", "Allal et al. 2025", ("smollm2-*",), ("causal",)),
    ModelFamily("SmolLM3", "Bakouch et al. 2025", ("smollm3-*",), ("causal",)),
    ModelFamily("Mistral", "Jiang et al. 2023", ("mistral-*",), ("causal",)),
    ModelFamily("OLMo", "Groeneveld et al. 2024", ("olmo-*",), ("causal",)),
    ModelFamily("OLMo 2", "Walsh et al. 2025", ("olmo2-*",), ("causal",)),
    ModelFamily("OLMo 3", "OLMo team 2025", ("olmo3-*",), ("causal",)),
    ModelFamily("Qwen 2", "Yang et al. 2024", ("qwen2-*",), ("causal",)),
    ModelFamily(
        "Qwen 3",
        "Yang et al. 2025",
        tuple(f"qwen3-{size}" for size in ("0.6b", "1.7b", "4b", "8b", "14b", "32b")),
        ("causal",),
    ),
)
