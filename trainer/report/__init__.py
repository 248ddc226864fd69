"""What a person reads after a run: the price tag, the model card and the page, made from the run's folder alone."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from trainer.books import format_price_tag
from trainer.config import SiteConfig
from trainer.descriptions.registry import imported
from trainer.descriptions.trackers import trackers_on
from trainer.report.ledger import format_ledger, ledger, ledger_json
from trainer.report.ledger_file import append_ledger, reserve_ledger
from trainer.report.run_data import NOT_STARTED, RUNNING, RunData, read_run, state_of
from trainer.run_folder import RunFolder
from trainer.utils.files import write_atomic
from trainer.utils.outcomes import EXIT_CODES

PRICE_TAG_VERSION = 1  # of its JSON Schema (docs/publish.md)

__all__ = [
    "NOT_STARTED",
    "PRICE_TAG_VERSION",
    "RUNNING",
    "RunData",
    "append_ledger",
    "finish_report",
    "format_ledger",
    "ledger",
    "ledger_json",
    "read_run",
    "report_attempt",
    "reserve_ledger",
    "state_of",
    "write_report",
]


def write_report(run: Path, site: SiteConfig | None = None) -> RunData:
    """Write pricetag.json, card.md and report.html of a run's folder; each is complete or absent. Returns what they
    tell of.

    With `site` the run is priced as if it had run there; its readings and its configuration stay as they are.
    """
    from trainer.report.card import card  # not above: `isoflop plan` draws no page
    from trainer.report.html_page import run_page

    run_data = read_run(run, site)
    facts = {"version": PRICE_TAG_VERSION, **run_data.tag.to_json()}
    write_atomic(run / "pricetag.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    write_atomic(run / "card.md", card(run_data))
    write_atomic(run / "report.html", run_page(run_data))
    return run_data


def finish_report(run: Path, *, site: SiteConfig | None = None, as_json: bool = False, publish: bool = True) -> None:
    """Write the run's report, add its line to the ledger of its root, and print its price tag. With `site` the run is
    priced as if it had run there, and the ledger stays as it is. publish: trackers publish it where they do so."""
    run_data = write_report(run, site)
    if site is None:
        append_ledger(run, run_data=run_data)
        places = [one.publish for one in trackers_on(run_data.config.tracker) if one.publish is not None]
        if publish and places:
            from trainer.report.publishing import write_data_card

            write_data_card(run_data)
            for place in places:
                imported(place)(run_data)
    tag = run_data.tag
    if as_json:
        print(json.dumps({"run": str(run), **tag.to_json()}, indent=1))
    else:
        again = RunFolder(run).command("report", str(run))
        print(f"\n{format_price_tag(tag, again)}\n\nreport   {run / 'report.html'}")


def report_attempt(run: Path, code: int, *, as_json: bool = False) -> None:
    """As `finish_report`, when an attempt at a run has ended with this exit code. What the disk refuses is told in one
    line and is not raised; the ledger has room for its line all the same."""
    from trainer.meter import costs

    try:
        with costs.phase("report"):
            finish_report(run, as_json=as_json)
    except OSError as error:
        with contextlib.suppress(OSError):
            append_ledger(run, next((status for status, known in EXIT_CODES.items() if known == code), None))
        again = RunFolder(run).command("report", str(run))
        print(f"isoflop: the report could not be written ({error.strerror}); later: {again}", file=sys.stderr)
