"""Hugging Face checkpoints in and out: safetensors, config.json and a tokenizer that AutoTokenizer loads."""

from __future__ import annotations

from trainer.hub.exchange import FAMILIES, Imported, read_checkpoint, type_of, write_checkpoint

__all__ = ["FAMILIES", "Imported", "read_checkpoint", "type_of", "write_checkpoint"]
