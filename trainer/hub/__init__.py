"""Hugging Face checkpoints in and out: safetensors, config.json and a tokenizer that AutoTokenizer loads."""

from __future__ import annotations

from trainer.hub.exchange import type_of, write_checkpoint
from trainer.hub.families import FAMILIES
from trainer.hub.reading import Imported, read_checkpoint
from trainer.hub.runs import export_run, import_run

__all__ = ["FAMILIES", "Imported", "export_run", "import_run", "read_checkpoint", "type_of", "write_checkpoint"]
