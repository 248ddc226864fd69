"""Gemma and Cohere's models."""

from __future__ import annotations

from trainer.descriptions.models import ModelFamily

FAMILIES = (
    ModelFamily("Gemma", "Mesnard et al. 2024", ("gemma-*",), ("causal",)),
    ModelFamily("Gemma 2", "Riviere et al. 2024", ("gemma2-*",), ("causal",), lacks="distillation"),
    ModelFamily("Gemma 3", "Kamath et al. 2025", ("gemma3-*",), ("causal",), lacks="images, distillation"),
    ModelFamily("Command R", "Cohere 2024", ("command-r-*",), ("causal",)),
    ModelFamily("Aya 23", "Aryabumi et al. 2024", ("aya-23-*",), ("causal",)),
    ModelFamily("Aya Expanse", "Dang et al. 2024", ("aya-expanse-*",), ("causal",)),
)
