"""Files of existing tokenizers: which of a folder tells it, as one file with transformers' ids, roles and size.

Nothing of torch is imported; the libraries that convert are imported where a folder needs it.
"""

from __future__ import annotations

from trainer.tokenizer_files.folder import FILES, content_of, find_tokenizer
from trainer.tokenizer_files.roles import ROLES, roles_of, settings, unread, writes_types
from trainer.tokenizer_files.size import ids, is_json, read_file, tokenizer_file

__all__ = [
    "FILES",
    "ROLES",
    "content_of",
    "find_tokenizer",
    "ids",
    "is_json",
    "read_file",
    "roles_of",
    "settings",
    "tokenizer_file",
    "unread",
    "writes_types",
]
