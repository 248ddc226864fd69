"""The verb that lists the families of models."""

from __future__ import annotations

import json

from trainer.cli.arguments import split_flags, wants_help
from trainer.utils.errors import UserError

MODELS = """\
isoflop models [--json]

A row for each family: paper, presets by size, objectives that the paper trains with, the types of transformers that
come in (isoflop import) and the classes that go out (isoflop export), and what is compared with transformers: counts of
parameters, logits both ways, greedy text. One preset part by part: isoflop model model=<preset>.
"""


def models(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, MODELS, keys=False):
        return 0
    if words:
        raise UserError(f"models: {words[0]!r}: it takes no words; of one preset: isoflop model model=<preset>")
    from trainer.hub.model_table import format_rows, model_rows, rows_to_json

    rows = model_rows()
    print(json.dumps(rows_to_json(rows), indent=1, ensure_ascii=False) if "--json" in flags else format_rows(rows))
    return 0
