"""Keys of a configuration that say where text lies: no science, as its tokens are compared at the start."""

from __future__ import annotations

ALONE = ("data.path", "tokenizer.path")
OF_TASKS = (".train", ".held_out", ".templates")


def is_place(key: str) -> bool:
    """Whether a key says where a corpus, a source, the text of a language or a labelled task lies."""
    if key.startswith("data.tasks."):
        return key.endswith(OF_TASKS)
    of_source = key.startswith("data.sources.") and key.endswith(".path")
    return key in ALONE or of_source or key.startswith("data.parallel.")
