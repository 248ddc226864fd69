"""Types of the hub that are known and not exchanged: what they have that no model here has."""

from __future__ import annotations

from collections.abc import Collection

from trainer.utils.errors import nearest

# (what it has, the nearest type that is exchanged, the types that have it)
REASONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("latent attention", "qwen3_moe", ("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_k25")),
    ("latent attention", "qwen3_moe", ("longcat_flash", "glm4_moe_lite", "mistral4")),
    ("latent attention", "llama", ("minicpm3",)),
    ("linear attention (Gated DeltaNet)", "qwen3_moe", ("qwen3_next", "qwen3_5_moe", "kimi_linear")),
    ("linear attention (Gated DeltaNet)", "qwen3", ("qwen3_5",)),
    ("linear attention (Gated DeltaNet)", "olmo2", ("olmo_hybrid",)),
    ("linear attention", "mixtral", ("minimax",)),
    ("state-space layers (Mamba)", "mixtral", ("jamba", "granitemoehybrid")),
    ("state-space layers (Mamba)", "llama", ("mamba", "mamba2", "falcon_mamba", "bamba", "zamba", "zamba2")),
    ("state-space layers (Mamba)", "llama", ("falcon_h1", "nemotron_h")),
    ("recurrent layers", "llama", ("rwkv", "recurrent_gemma", "xlstm")),
    ("convolutions between its attention layers", "qwen3", ("lfm2",)),
    ("convolutions between its attention layers", "qwen3_moe", ("lfm2_moe",)),
    ("shared experts without a gate, and its class is code of its own repository", "qwen2_moe", ("deepseek",)),
    ("experts with biases and a clamped gate", "mixtral", ("gpt_oss",)),
    ("experts that are weighed before they read, and attention in chunks", "mixtral", ("llama4", "llama4_text")),
    ("queries, keys and values that are clipped", "mixtral", ("dbrx",)),
)


def why(kind: str, there: Collection[str]) -> str:
    """The end of a line that refuses a model_type: what it has and the nearest type, or all there are."""
    for reason, near, kinds in REASONS:
        if kind in kinds:
            return f": it has {reason}; the nearest type that is supported is {near}"
    return f"{nearest(kind, there)}; there is {', '.join(there)}"
