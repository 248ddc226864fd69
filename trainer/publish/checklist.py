"""A paragraph on cost that answers what checklists of conferences ask: which devices, how long, how much in all.

NeurIPS asks for the kind of workers, memory and time of each run, the total, and whether the project took more than the
runs that are told of; ACL for parameters, the budget in device-hours and the infrastructure.
"""

from __future__ import annotations

from trainer.books.formatting import format_amount, format_quantity
from trainer.books.quantity import Quantity
from trainer.publish.facts import Facts, name_of
from trainer.publish.forms import NOT_COUNTED, hardware
from trainer.publish.latex import SHORT, code, escape

NOT_STATED = "not stated"
BESIDE = ("evaluation", "data", "other")  # shares of a project that are no training


def sentences(facts: Facts) -> list[str]:
    """The paragraph, a sentence each, as plain text."""
    run = facts.model
    memory, wall, hours = (
        format_quantity(facts.figure(key), unit)
        for key, unit in (("memory.rank", "bytes"), ("time.wall", "s"), ("machine.device_hours", "h"))
    )
    devices = facts.figure("machine.devices").value
    ranks = NOT_STATED if devices is None else f"{devices:.0f}"
    kind = hardware(facts) or NOT_STATED
    amounts = f"{_plain(facts.figure('flop.total'), 'FLOP')}, {_plain(facts.figure('energy.kwh'), 'kWh')}"
    counts = _counts(facts)
    return [
        f"The published model ({name_of(run)}, {facts.parameters:,} parameters) was trained on {ranks} device(s) "
        f"(ranks), {kind}, with {memory} of memory a rank, in {wall} ({hours} on devices): {amounts}.",
        f"The root holds {counts}.",
        f"Together they took {_total(facts, 'hours', 'h')} on devices, {_total(facts, 'flop', 'FLOP')}, "
        f"{_total(facts, 'kwh', 'kWh')} and {_total(facts, 'kgco2e', 'kg CO2e')}{_where_stated(facts)}: "
        "failed, stopped and tuning runs are within these totals.",
        *_with_commands(facts),
        f"Energy is {facts.figure('energy.kwh').source or NOT_STATED}; its carbon is "
        f"{facts.figure('carbon.kgco2e').source or NOT_STATED}.",
        f"Not counted: {'; '.join(NOT_COUNTED)}.",
    ]


def _with_commands(facts: Facts) -> list[str]:
    """What projects took with evaluation, data and other commands, where anything says it."""
    told = []
    entries = sum(account["total"]["entries"] for account in facts.projects.values())
    if entries <= facts.total("flop")[2]:  # runs alone
        return []
    for account in facts.projects.values():
        total = account["total"]["kwh"]
        if total["value"] is None:
            continue
        shares = [(share, account[share]["share_of_kwh"]) for share in BESIDE]
        parts = ", ".join(f"{share} {part:.0%}" for share, part in shares if part is not None)
        least = "" if total["known"] == total["runs"] else "at least "
        text = f"{least}{format_amount(total['value'], 'kWh')}"
        told.append(f"With other commands the project took {text}{f' ({parts})' if parts else ''}.")
    return told


def _plain(figure: Quantity, unit: str) -> str:
    name = {"kWh": "energy", "FLOP": "FLOPs"}[unit]
    return format_quantity(figure, unit) if figure.value is not None else f"{name} {NOT_STATED}"


def _total(facts: Facts, name: str, unit: str) -> str:
    whole = facts.whole(name)
    if whole.value is None:
        return f"{unit} {NOT_STATED}"
    text, (_, known, runs) = format_quantity(whole, unit), facts.total(name)
    return text if known == runs else f"{text} ({known} of {runs} runs say it)"


def _where_stated(facts: Facts) -> str:
    """What only some sites and machines state: manufacture and water."""
    said = {"embodied_kgco2e": ("kg CO2e", "of making the devices"), "water_l": ("l", "of water")}
    known = {name: words for name, words in said.items() if facts.whole(name).value is not None}
    return "".join(f", {_total(facts, name, unit)} {words}" for name, (unit, words) in known.items())


def _counts(facts: Facts) -> str:
    """How many runs there are of each kind."""
    counts: dict[str, int] = {}
    for account in facts.ledger.values():
        for kind, sums in account.items():
            if isinstance(sums, dict) and kind not in ("total", "wasted"):
                counts[kind] = counts.get(kind, 0) + max((part["runs"] for part in sums.values()), default=0)
    parts = [f"{number} {kind.replace('_', ' ')}" for kind, number in counts.items() if number]
    whole = sum(counts.values())
    return f"{whole} run{'s' * (whole != 1)} ({', '.join(parts)})"


def paragraph_latex(facts: Facts) -> str:
    """cost.tex: the paragraph, with the claim that it can be verified by."""
    lines = [escape(sentence) for sentence in sentences(facts)]
    return "% isoflop publish: cost\n" + "\n".join([*lines, f"Claim: {code(facts.claim[:SHORT])}."]) + "\n"


def paragraph_markdown(facts: Facts) -> str:
    return "\n".join([*sentences(facts), f"Claim: `{facts.claim}`."]) + "\n"
