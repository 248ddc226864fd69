"""The verb that goes on from a trained run."""

from __future__ import annotations

from trainer.cli.arguments import run_and_overrides, split_flags, wants_help


def finetune(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json", "-m", "--multirun")
    begun = [word if "=" in word else f"from={word}" for word in words]
    if wants_help(flags, "isoflop finetune <run> task=... [key=value ...] [-m] [--json]\n", begun):
        return 0
    from trainer.run.many_runs import start_many
    from trainer.run.start import start

    run, overrides = run_and_overrides("finetune", words)
    begin = start_many if flags & {"-m", "--multirun"} else start
    return begin([f"from={run}", *overrides], as_json="--json" in flags)
