"""`isoflop data clean`: what lies in the cache, and what of it is deleted."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING

from trainer.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from trainer.data.cache import Entry

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def clean(words: list[str], *, as_json: bool) -> int:
    """List the entries of the cache, or delete those that the words name; returns the exit code. Raises UserError."""
    from trainer.compose import compose
    from trainer.config.host import cache_root
    from trainer.data.cache import entries, free

    keys = [word for word in words if word.startswith("run.cache=")]
    cache = cache_root(compose(keys))
    found = entries(cache)
    words = [word for word in words if word not in keys]
    if not words:
        listed = {"cache": str(cache), "entries": [entry.to_json() for entry in found]}
        print(json.dumps(listed, indent=1) if as_json else _table(str(cache), found))
        return 0
    deleted: list[Entry] = []
    used: list[Entry] = []
    for entry in _chosen(words, found):
        (deleted if free(entry) else used).append(entry)
    if as_json:
        print(json.dumps({"deleted": [one.name for one in deleted], "in_use": [one.name for one in used]}, indent=1))
        return 0
    for entry in used:
        print(f"in use    {entry.name}")
    print(f"deleted   {_count(deleted)} of {cache}")
    return 0


def _chosen(words: list[str], found: list[Entry]) -> list[Entry]:
    """The entries that the words name, together."""
    from trainer.data.cache import older_than

    chosen: list[Entry] = []
    for word in words:
        name, given, value = word.partition("=")
        if name == "all" and given:
            if value.lower() not in ("true", "false"):
                raise UserError(f"data clean: all={value}: true or false wanted")
            chosen += found if value.lower() == "true" else []
        elif name == "older":
            chosen += older_than(found, _seconds(value))
        else:
            named = [entry for entry in found if word in (entry.name, entry.path.name, str(entry.path))]
            if not named:
                hint = nearest(word, [entry.name for entry in found])
                way = "give one, older=30d or all=true; isoflop data clean lists them"
                raise UserError(f"data clean: {word}: no entry of the cache{hint}; {way}")
            chosen += named
    return list(dict.fromkeys(chosen))


def _seconds(given: str) -> float:
    duration = re.fullmatch(r"(\d{1,6})([smhd])", given)
    if not duration:
        raise UserError(f"data clean: older={given}: write a number and s, m, h or d, e.g. older=30d")
    return int(duration[1]) * SECONDS[duration[2]]


def _count(entries: list[Entry]) -> str:
    from trainer.books.formatting import format_amount

    plural = "entry" if len(entries) == 1 else "entries"
    return f"{len(entries)} {plural}, {format_amount(sum(entry.bytes for entry in entries), 'bytes')}"


def _table(cache: str, found: list[Entry]) -> str:
    from trainer.books.formatting import format_amount

    lines = [
        f"{entry.name:<34} {format_amount(entry.bytes, 'bytes'):>9}  last used "
        f"{datetime.fromtimestamp(entry.last_use):%Y-%m-%d %H:%M}  {entry.corpus}".rstrip()
        for entry in found
    ]
    return "\n".join([*lines, f"{_count(found)} in {cache}"])
