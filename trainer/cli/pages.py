"""Which page of the documentation tells more of an error."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from trainer.cli.verbs import TABLE


def point_to_page(text: str, words: Sequence[str]) -> None:
    """A line under an error's lines on standard error, where a page tells of it."""
    if (page := page_of(text, words)) is not None:
        print(f"docs: {page} (isoflop help {page} prints it)", file=sys.stderr)


def page_of(text: str, words: Sequence[str]) -> str | None:
    """page#anchor: of the first key that an error's lines begin with, else of the verb that was called.

    words: the command's own.
    """
    from trainer.utils.documentation import about

    for line in text.splitlines():
        key = re.match(r"[+~]*([a-z_]+(?:\.[A-Za-z0-9_<>-]+)*)[:=]", line)
        if key is not None and key[1] not in TABLE and (found := about(key[1])) is not None:
            return found
    verb = next((word for word in words if word in TABLE), None)
    return TABLE[verb].page if verb else None
