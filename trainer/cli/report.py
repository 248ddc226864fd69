"""Verbs about finished runs."""

from __future__ import annotations

from trainer.cli.arguments import folder_and_options, option_as_key, run_and_overrides, split_flags, wants_help
from trainer.utils.errors import UserError


def report(arguments: list[str]) -> int:
    words, flags = split_flags(option_as_key(arguments, "site"), "--json")
    if wants_help(flags, "isoflop report <run> [--site fr-2023] [site.pue=1.2] [--json]\n", keys=False):
        return 0
    from trainer.compose import change
    from trainer.report import finish_report
    from trainer.run_folder import RunFolder

    run, overrides = run_and_overrides("report", words)
    strange = [word for word in overrides if not word.startswith(("site=", "site."))]
    if strange:
        raise UserError(f"{strange[0]}: report takes a run, and a site to price it at (site=..., site.pue=...)")
    site = change(RunFolder(run).load_config(), overrides).site if overrides else None
    finish_report(run, site=site, as_json="--json" in flags, publish=False)
    return 0


def workspace(arguments: list[str]) -> int:
    words, flags = split_flags(arguments)
    if wants_help(
        flags, "isoflop workspace <root>    save a view of the runs below it on the W&B server\n", keys=False
    ):
        return 0
    from trainer.report.workspace import save_workspace

    print(save_workspace(folder_and_options("workspace", words, ())[0]))
    return 0
