"""`isoflop schema`: what an editor reads to help with files of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.cli.arguments import split_flags, wants_help
from trainer.utils.errors import UserError

HELP = """\
isoflop schema [group] [out=file]: a JSON Schema, for editors

  group                   of that group's files, e.g. model; experiment: of a file of overrides; none: of all groups
  out=file                write it there; none: print it

  A file that begins with this line is checked and completed by editors with a YAML language server:
  # yaml-language-server: $schema=<file>
"""


def schema(arguments: list[str]) -> int:
    words, flags = split_flags(arguments)
    if wants_help(flags, HELP, keys=False):
        return 0
    from trainer.compose.json_schema import json_schema

    out = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    names = [word for word in words if not word.startswith("out=")]
    if len(names) > 1:
        raise UserError(f"schema: {' '.join(names)}: one group at a time")
    if out and not out[-1]:
        raise UserError("schema: out: the name of a file is missing")
    text = json.dumps(json_schema(names[0] if names else None), indent=1, ensure_ascii=False)
    if out:
        Path(out[-1]).write_text(text + "\n")
    else:
        print(text)
    return 0
