"""A checkpoint of the Hugging Face hub as a local folder: weights, configuration, tokenizer, and nothing that runs."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.utils.errors import UserError

HUB = "hub:"
PATTERNS = ("*.safetensors", "*.json", "*.model", "*.jinja", "tokenizer*.txt", "vocab.txt", "merges.txt")


def download(name: str) -> Path:
    """The folder, in huggingface_hub's cache, of `hub:owner/name` or `hub:owner/name@revision`.

    Raises UserError for other names, where the extra is missing and where the hub does not answer.
    """
    match = re.fullmatch(r"hub:([\w.-]+(?:/[\w.-]+)?)(?:@([\w./-]+))?", name)
    if match is None:
        raise UserError(f"{name}: hub:<owner>/<name> or hub:<owner>/<name>@<revision> wanted")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError("import hub:... needs the extra: pip install 'isoflop[hub]'") from None
    try:
        folder = snapshot_download(match[1], revision=match[2], allow_patterns=list(PATTERNS))
    except (OSError, ValueError, RuntimeError) as error:  # what huggingface_hub and its http client raise
        raise UserError(
            f"{name}: not downloaded ({_reason(error)}); a folder that is here already can be given"
        ) from None
    return Path(folder)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no reason given'}"
