"""XLM."""

from __future__ import annotations

from trainer.descriptions.models import ModelFamily

FAMILIES = (ModelFamily("XLM", "Lample and Conneau 2019", ("xlm-*",), ("tlm", "masked_lm")),)
