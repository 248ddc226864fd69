"""DeBERTa."""

from __future__ import annotations

from trainer.descriptions.models import ModelFamily

FAMILIES = (ModelFamily("DeBERTa-v3", "He et al. 2023", ("deberta-*", "mdeberta-v3-*"), ("replaced_token",)),)
