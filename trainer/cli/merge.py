"""`isoflop merge`: an average of checkpoints of a run."""

from __future__ import annotations

from trainer.cli.arguments import option_as_key, run_and_overrides, split_flags, wants_help
from trainer.config.averages import NAME
from trainer.utils.bounded import whole_number
from trainer.utils.errors import UserError, nearest

HELP = """\
isoflop merge <run> steps=100,200,300 [weights=uniform|linear|cosine|sqrt] [name=merged] [--json]

  steps=100,200,300  of the checkpoints to merge, two or more (checkpoint.keep_every=... keeps them)
  weights=uniform    their mean; or the decay of the learning rate that they stand in for (WSM)
  name=merged        of the average: isoflop eval <run>:merged, export <run>:merged to=..., train init=<run>:merged
"""
OPTIONS = ("steps", "weights", "name")


def merge(arguments: list[str]) -> int:
    for name in OPTIONS:
        arguments = option_as_key(arguments, name)
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, HELP, keys=False):
        return 0
    run, words = run_and_overrides("merge", words)
    options = dict(word.split("=", 1) for word in words)
    for name in options:
        if name not in OPTIONS:
            raise UserError(f"merge: {name}: no such option{nearest(name, OPTIONS)}; there is {', '.join(OPTIONS)}")
    steps = _steps(options.get("steps", ""))
    name, weights = options.get("name", "merged"), options.get("weights", "uniform")
    if not NAME.fullmatch(name):
        raise UserError(f"merge: name: {name!r} given; letters, digits, _ and - wanted, 40 at most")
    from trainer.cli.hub import print_facts
    from trainer.training.merging import WEIGHTS, merge

    if weights not in WEIGHTS:
        raise UserError(f"merge: weights: {weights!r} given, {', '.join(WEIGHTS)} wanted{nearest(weights, WEIGHTS)}")
    facts = merge(run, steps, weights, name)
    if "--json" not in flags:
        facts["steps"] = ", ".join(map(str, facts["steps"]))
        facts["shares"] = ", ".join(f"{share:.4g}" for share in facts["shares"])
    print_facts(facts, flags)
    return 0


def _steps(text: str) -> list[int]:
    found = [whole_number(part.strip()) for part in text.strip("[]").split(",")] if text else []
    steps = [step for step in found if step is not None]
    if len(steps) != len(found) or len(set(steps)) != len(steps) or len(steps) < 2:
        raise UserError(f"merge: steps: {text or 'none'} given; two or more steps wanted, each once: steps=100,200,300")
    return steps
