"""A project's account as text, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from trainer.books.formatting import format_amount
from trainer.report.project_ledger import SHARES, ProjectAccount
from trainer.report.sums import QUANTITIES, UNITS, Sum

VERSION = 1  # of the JSON document
ROWS = (*SHARES, "total")


def format_projects(projects: Mapping[str, ProjectAccount], note: str = "") -> str:
    """One block a project: its shares, of all quantities that any entry has a figure of, and the grand total."""
    lines = []
    for name, account in projects.items():
        many = len(account.experiments)
        lines.append(f"project {name}: {many} experiment{'' if many == 1 else 's'}{f', {note}' if note else ''}")
        for share in ROWS:
            if not account.count(share):
                continue
            cells = [_cell(account.of(share, quantity), UNITS.get(quantity, quantity)) for quantity in account.names]
            part = account.part_of_total(share)
            told = "" if part is None or share == "total" else f"{part:>5.0%}"
            lines.append((f"  {share:<11} {account.count(share):>4}  {told:>5}  " + "  ".join(cells)).rstrip())
        if account.wasted_kwh:
            lines.append(f"  of it {format_amount(account.wasted_kwh, 'kWh')} for steps that were trained twice")
    return "\n".join(lines)


def _cell(part: Sum, unit: str) -> str:
    if not part.known:
        return f"{'not stated':>14}"
    known = "" if part.known == part.runs else f" ({part.known} of {part.runs})"
    return f"{format_amount(part.value, unit):>14}{known}"


def projects_csv(projects: Mapping[str, ProjectAccount]) -> str:
    """A row for each share of each project, `total` included; an unknown amount is an empty cell, never 0."""
    currencies = sorted({currency for account in projects.values() for currency in account.currencies})
    names = [*QUANTITIES, *currencies]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = [cell for name in names for cell in (_column(name), f"{_column(name)}_known_entries")]
    writer.writerow(["project", "share", "entries", *head])
    for project, account in projects.items():
        for share in ROWS:
            parts = [account.of(share, name) for name in names]
            cells = [cell for part in parts for cell in (f"{part.value:.10g}" if part.known else "", part.known)]
            writer.writerow([project, share, account.count(share), *cells])
    return text.getvalue()


def _column(name: str) -> str:
    return {"hours": "device_hours"}.get(name, name if name in QUANTITIES else f"money_{name}")


HEADS = {
    "hours": "device-hours",
    "kwh": "kWh",
    "kgco2e": r"kg CO$_2$e",
    "embodied_kgco2e": r"kg CO$_2$e embodied",
    "water_l": "water (l)",
    "flop": "FLOP",
}


def projects_latex(projects: Mapping[str, ProjectAccount], command: str) -> str:
    """A table for the package booktabs; the command that makes it again is in its first line."""
    blocks = [f"% {' '.join(command.split())}", "% needs \\usepackage{booktabs}"]
    for name, account in projects.items():
        names = account.names
        heads = " & ".join(["", "entries", *(HEADS.get(one, escaped(one)) for one in names)])
        rows = [_latex_row(account, share) for share in SHARES if account.count(share)]
        blocks += [
            rf"\begin{{tabular}}{{lr{'r' * len(names)}}}",
            r"\toprule",
            rf"{escaped(name)}{heads} \\",
            *(r"\midrule", *rows, r"\midrule", _latex_row(account, "total"), r"\bottomrule"),
            r"\end{tabular}",
        ]
    return "\n".join(blocks) + "\n"


def _latex_row(account: ProjectAccount, share: str) -> str:
    cells = [_latex_cell(account.of(share, name), name) for name in account.names]
    return rf"{share} & {account.count(share)} & {' & '.join(cells)} \\"


def _latex_cell(part: Sum, name: str) -> str:
    """A number of three digits; a lower bound where some entries have none."""
    if not part.known:
        return "--"
    mantissa, _, exponent = f"{part.value:.2e}".partition("e")
    power = int(exponent)
    plain = f"{part.value:,.0f}" if part.value >= 1000 else f"{part.value:.3g}"
    text = plain if name != "flop" and -4 <= power < 9 else rf"${mantissa} \times 10^{{{power}}}$"
    return text if part.known == part.runs else rf"$\geq$ {text}"


def escaped(text: str) -> str:
    """Text as LaTeX prints it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(one, rf"\{one}" if one in "&%$#_{}" else one) for one in text)
