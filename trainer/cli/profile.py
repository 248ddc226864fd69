"""`isoflop profile`."""

from __future__ import annotations

import os

from trainer.cli.arguments import split_flags, wants_help, whole_numbers
from trainer.utils.errors import UserError

HELP = """\
isoflop profile [key=value ...] [steps=3] [--json]: a short run under PyTorch's profiler, on the ranks of this host

  Prints what the books expect of a step beside what was measured, the largest difference first, and with several
  ranks (launch.processes=2) how far they lie apart. Writes into profile/ of the run's folder: trace.json (for a trace
  viewer), flame.svg, memory.svg and profile.json, on a GPU also memory.json; of several ranks one of each.
"""


def profile(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, HELP, words):
        return 0
    words, numbers = whole_numbers("profile", words, steps=3)
    if not 1 <= numbers["steps"] <= 100:
        raise UserError(f"profile: steps: {numbers['steps']} given, 1 to 100 wanted")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is imported: its profiler talks of itself
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    from trainer.run.profile import profile as profiled

    return profiled(words, numbers["steps"], as_json="--json" in flags)
