"""Every key of a configuration with who said its value, for `--info`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainer.compose.composition import ROWS, flat, prefixes
from trainer.compose.continued import TAKEN_OVER, compose
from trainer.compose.overrides import parse
from trainer.compose.reading import origins, read
from trainer.compose.sources import PACKAGE


def explained(texts: Iterable[str]) -> list[tuple[str, Any, str]]:
    """Every key of the configuration that these overrides describe, with its value and who said it.

    Raises UserError as `compose`.
    """
    texts = list(texts)
    config, said = compose(texts), origins(parse(texts))
    groups_said = config.model_dump(mode="json", exclude=None if config.init.given else {"init"})
    plain = {name: part for name, part in groups_said.items() if part != {}}  # whose keys are all those of plugins
    composed = flat(read(parse(texts)))
    chosen = {one.key for one in parse(texts)}
    taken = {group for group in TAKEN_OVER if config.init.given and group not in chosen}
    rows = []
    for key, value in flat(plain).items():
        origin = next((said[part] for part in prefixes(key) if part in said), None)
        if key.split(".")[0] in taken and (origin is None or origin.layer == PACKAGE):
            rows.append((key, value, f"init: as {config.init.run}"))
        elif key == ROWS and value != composed.get(key):
            rows.append((key, value, "null: the pieces of tokenizer.path, rounded up to 64"))
        elif origin is None:
            rows.append((key, value, "default"))
        elif key in composed and composed[key] != value and value is None:
            rows.append((key, value, "left out: another key stands in its place"))
        else:
            rows.append((key, value, str(origin)))
    return rows
