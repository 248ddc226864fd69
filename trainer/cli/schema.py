"""`isoflop schema`: what an editor reads to help with files of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.cli.arguments import split_flags, wants_help
from trainer.utils.errors import UserError, nearest

HELP = """\
isoflop schema [group or document] [out=file]: a JSON Schema, for editors and for programs that read results

  group                   of that group's files, e.g. model; experiment: of a file of overrides; none: of all groups
  document                pricetag, published: of a file; ledger, event, metrics, energy, cost: of a line
                          (docs/publish.md)
  out=file                write it there; none: print it

  A file that begins with this line is checked and completed by editors with a YAML language server:
  # yaml-language-server: $schema=<file>
"""


def schema(arguments: list[str]) -> int:
    words, flags = split_flags(arguments)
    if wants_help(flags, HELP, keys=False):
        return 0
    out = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    names = [word for word in words if not word.startswith("out=")]
    if len(names) > 1:
        raise UserError(f"schema: {' '.join(names)}: one group at a time")
    if out and not out[-1]:
        raise UserError("schema: out: the name of a file is missing")
    text = _text(names[0] if names else None)
    if out:
        Path(out[-1]).write_text(text + "\n")
    else:
        print(text)
    return 0


def _text(name: str | None) -> str:
    """The schema of a group's files, of all groups, or of a document. Raises UserError where there is no such."""
    from trainer.compose.json_schema import json_schema, schemas

    if name is None or name in schemas():
        return json.dumps(json_schema(name), indent=1, ensure_ascii=False)
    from trainer.publish.json_schemas import VERSIONS, schema_text  # not above: an editor's schemas need no numpy

    if name not in VERSIONS:
        known = [*schemas(), *VERSIONS]
        raise UserError(f"schema: {name}: no such group{nearest(name, known)}; there is {', '.join(known)}")
    return schema_text(name).rstrip()
