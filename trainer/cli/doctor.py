"""`isoflop doctor`."""

from __future__ import annotations

import json

from trainer.cli.arguments import split_flags, wants_help

HELP = """\
isoflop doctor [key=value ...] [--json]: what a run of these words would use on this host, and what is missing

  exit code 0: a run can start; 1: what is marked with ! keeps it from that
  lines marked with - are of what only some need, with the words that mend it
"""


def doctor(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, HELP, words):
        return 0
    from launch.doctor import examine, exit_code, format_findings, to_json
    from trainer.compose import compose

    found = examine(compose(words))
    print(json.dumps(to_json(found), indent=1) if "--json" in flags else format_findings(found))
    return exit_code(found)
