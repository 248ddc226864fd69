"""Every key of a configuration with who said its value, for `--info`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainer.compose.branched import compose
from trainer.compose.composition import ROWS, completed, flat, prefixes
from trainer.compose.continued import TAKEN_OVER
from trainer.compose.overrides import parse
from trainer.compose.reading import origins, read
from trainer.compose.sources import PACKAGE


def explained(texts: Iterable[str]) -> list[tuple[str, Any, str]]:
    """Every key of the configuration that these overrides describe, with its value and who said it.

    Raises UserError as `compose`.
    """
    texts = list(texts)
    config, overrides = compose(texts), completed(parse(texts))
    said = origins(overrides)
    silent = {name for name, group in (("init", config.init), ("branch", config.branch)) if not group.given}
    groups_said = config.model_dump(mode="json", exclude=silent)
    plain = {name: part for name, part in groups_said.items() if part != {}}  # whose keys are all those of plugins
    composed = flat(read(overrides))
    chosen = {one.key for one in parse(texts)}
    whose, before = ("branch", config.branch.run) if config.branch.given else ("init", config.init.run)
    groups = plain if config.branch.given else TAKEN_OVER if config.init.given else ()
    taken = {group for group in groups if group not in chosen}
    rows = []
    for key, value in flat(plain).items():
        origin = next((said[part] for part in prefixes(key) if part in said), None)
        if key.split(".")[0] in taken and (origin is None or origin.layer == PACKAGE):
            rows.append((key, value, f"{whose}: as {before}"))
        elif key == ROWS and value != composed.get(key):
            rows.append((key, value, "null: the pieces of tokenizer.path, rounded up to 64"))
        elif origin is None:
            rows.append((key, value, "default"))
        elif key in composed and composed[key] != value and value is None:
            rows.append((key, value, "left out: another key stands in its place"))
        else:
            rows.append((key, value, str(origin)))
    return rows
