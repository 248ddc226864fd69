"""CITATION.cff (Citation File Format 1.2.0) and an entry for BibTeX."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import yaml

from trainer import __version__
from trainer.publish.facts import Facts, name_of
from trainer.publish.latex import SHORT, escape

NOBODY = "not stated"  # the format wants an author


def title(facts: Facts) -> str:
    return str(facts.settings.get("name") or facts.model.run.parent.name)


def citation(facts: Facts) -> str:
    """CITATION.cff as text; the date is that of the last event of all runs."""
    authors = facts.settings.get("authors") or []
    model = f"the model is {name_of(facts.model)}"
    data: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use these results, please cite them by this entry.",
        "type": "dataset",
        "title": title(facts),
        "authors": [{"name": name} for name in authors] or [{"name": NOBODY}],
        "identifiers": [
            {"type": "other", "value": f"sha256:{facts.claim}", "description": "claim of isoflop publish"},
        ],
        "keywords": ["isoflop", facts.model.config.model.name, facts.model.config.objective.name],
        **({"date-released": day} if (day := _day(facts)) else {}),
        "abstract": f"Runs, price tags and tables; {model}. Made with isoflop {__version__}.",
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def bibtex(facts: Facts) -> str:
    """One entry of kind misc, which every style knows."""
    day = _day(facts)
    authors = facts.settings.get("authors") or [NOBODY]
    fields = {
        "title": f"{{{escape(title(facts))}}}",
        "author": " and ".join(f"{{{escape(name)}}}" for name in authors),
        **({"year": day[:4]} if day else {}),
        "note": f"isoflop {__version__}, claim sha256 {facts.claim[:SHORT]}",
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@misc{{isoflop-{facts.claim[:SHORT]},", *lines, "}"]) + "\n"


def _day(facts: Facts) -> str | None:
    times = [event["time"] for run in facts.runs for event in run.events if isinstance(event.get("time"), int | float)]
    return f"{datetime.fromtimestamp(max(times), UTC):%Y-%m-%d}" if times else None
