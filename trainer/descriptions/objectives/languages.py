"""What an objective asks of a model that is told the language of what it reads (`model.languages`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainer.utils.errors import nearest

MOST_NAMED = 20


def language_misfits(config: Any, *, tells: bool) -> list[str]:
    """A line for each thing that is wrong between a model with languages and its texts. tells: whether the objective
    tells the model which language a text is in."""
    known, data = config.model.languages, config.data
    if not known:
        return []
    if not tells:
        return [
            f"model.languages: objective={config.objective.name} does not tell the model the language of a text; "
            "masked_lm without objective.question and tlm do, or take model.languages=[]"
        ]
    stated = {f"data.sources.{name}.language": source.language for name, source in data.sources.items()}
    stated |= {f"data.parallel.{name}": name for name in data.parallel}
    found = {key: name for key, name in stated.items() if name is not None}
    return [line for key, name in found.items() for line in missing_languages([name], known, key)]


def missing_languages(wanted: Iterable[str], known: tuple[str, ...], key: str) -> list[str]:
    """A line for each language, which `key` states, that the model has no row for."""
    more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    has = ", ".join(known[:MOST_NAMED]) + more
    return [
        f"{key}: the model has no language {one!r}{nearest(one, known)}; model.languages has {has}"
        for one in dict.fromkeys(wanted)
        if one not in known
    ]
