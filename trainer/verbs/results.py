"""Verbs about finished runs."""

from __future__ import annotations

import json

from trainer.errors import UserError
from trainer.verbs.words import run_and_overrides, split_flags, wants_help


def evaluate(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, "isoflop eval <run> [key=value ...] [--json]\n"):
        return 0
    from trainer.evaluate import format_scores, held_out, score_task
    from trainer.folder import RunFolder

    run, overrides = run_and_overrides("eval", words)
    if RunFolder(run).load_config().task.kind is not None:
        if overrides:
            raise UserError(f"eval: {overrides[0]}: a tuned run is scored on the task that it has")
        scores = score_task(run)
        print(json.dumps(scores, indent=1) if "--json" in flags else format_scores(scores))
        return 0
    result = held_out(run, overrides)
    if "--json" in flags:
        print(json.dumps(result, indent=1))
    elif result["bits_per_byte"] is None:
        print(f"step {result['step']}: held-out loss {result['loss']:.4f} nats per target")
    else:
        print(
            f"step {result['step']}: {result['bits_per_byte']:.4f} bits/byte on held-out text "
            f"(unigram yardstick {result['unigram_bits_per_byte']:.4f}, {result['below_unigram']:.1%} below it)"
        )
    return 0


def report(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, "isoflop report <run> [site=...] [--json]\n"):
        return 0
    from trainer.compose import change
    from trainer.folder import RunFolder
    from trainer.report import finish_report

    run, overrides = run_and_overrides("report", words)
    strange = [word for word in overrides if not word.startswith(("site=", "site."))]
    if strange:
        raise UserError(f"{strange[0]}: report takes a run, and a site to price it at (site=..., site.pue=...)")
    site = change(RunFolder(run).load_config(), overrides).site if overrides else None
    finish_report(run, site=site, as_json="--json" in flags)
    return 0
