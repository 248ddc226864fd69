"""Verbs about cost: of any work, of this machine's time."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.cli.arguments import split_flags, wants_help
from trainer.utils.errors import UserError


def price(arguments: list[str]) -> int:
    from trainer.books.price_inputs import describe_inputs

    words, flags = split_flags(arguments, "--json")
    usage = "isoflop price name=number ... [machine=...] [site=...] [--json]\n\n"
    if wants_help(flags, usage + describe_inputs(), keys=False):
        return 0
    from trainer.books import format_price_tag, price_json
    from trainer.books import price as price_of
    from trainer.compose import compose

    groups = [word for word in words if word.startswith(("machine=", "site=", "machine.", "site."))]
    given: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not (name and sign):
            raise UserError(f"price: {word}: write name=number")
        if name in given:
            raise UserError(f"{name}: given twice, {given[name]} and {value}")
        if word not in groups:
            given[name] = value
    config = compose(groups)
    tag = price_of(machine=config.machine, site=config.site, **given)
    print(json.dumps(price_json(tag), indent=1) if "--json" in flags else format_price_tag(tag, "isoflop price"))
    return 0


def calibrate(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    usage = "isoflop calibrate [key=value ...] [--json]\n"
    usage += "isoflop calibrate runs=<root> [--json]    of a GPU, from own runs\n"
    if wants_help(flags, usage, words):
        return 0
    if any(word.startswith("runs=") for word in words):
        return _calibrate_runs(words, flags)
    from trainer.books.calibration import timed_alike
    from trainer.compose import compose
    from trainer.meter import costs
    from trainer.meter.calibration import calibrate as measure
    from trainer.meter.probe import measure_once
    from trainer.utils.progress import progress_bar

    config = compose(words)
    if config.machine.name != "unstated" or not timed_alike(config):
        raise UserError(
            "calibrate: ranks on this host's processor are measured, at most at engine.zero_stage=1; leave out "
            "machine=..., and of launch=... and engine=... what differs"
        )
    if config.engine.linear != "bf16":
        raise UserError("calibrate: steps in bf16 or fp32 are measured; leave out engine.linear=fp8")
    probed = measure_once(config)
    costs.into_root(config)
    with progress_bar() as progress:
        found = measure(config, progress)
    if "--json" in flags:
        print(json.dumps(found.to_json(), indent=1))
    else:
        if probed is not None:
            print(probed)
        print(f"{found.machine}, {found.precision}, {found.threads} threads: fitted within {found.error:.0%}")
        for step in found.steps:
            shape = f"width {step['width']:>4} depth {step['depth']} sequence {step['sequence_length']:>5}"
            print(f"  {shape}   measured {step['measured_seconds']:.3f} s   fitted {step['fitted_seconds']:.3f} s")
    return 0


def _calibrate_runs(words: list[str], flags: set[str]) -> int:
    """Fit the shares of machines' peaks to finished runs."""
    from trainer.books.own_shares import fit_runs
    from trainer.compose import compose

    roots = [word.removeprefix("runs=") for word in words if word.startswith("runs=")]
    if len(roots) > 1 or not roots[0]:
        raise UserError("calibrate: name one root of runs, runs=<root>")
    found = fit_runs(Path(roots[0]), compose([word for word in words if not word.startswith("runs=")]))
    if "--json" in flags:
        print(json.dumps([shares.to_json() for shares, _, _ in found], indent=1))
        return 0
    for shares, rows, file in found:
        told = f"products {shares.products:.2f}, scores {shares.scores:.2f}, memory {shares.memory:.2f}"
        print(f"{shares.machine}: {told}; planned / {shares.faster:.2f} to planned x {shares.slower:.2f}; in {file}")
        for row, planned in rows:
            print(f"  {row.name:<40} measured {row.seconds:.4g} s   planned {row.seconds * planned:.4g} s")
    return 0
