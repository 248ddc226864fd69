"""From the copied files to everything that is published: a function of these files and the settings alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from trainer.publish.checklist import paragraph_latex, paragraph_markdown
from trainer.publish.citation import bibtex, citation, title
from trainer.publish.document import published
from trainer.publish.facts import plain, read_facts
from trainer.publish.forms import hub_fields
from trainer.publish.latex import document
from trainer.publish.manifest import Fingerprint
from trainer.publish.page import page
from trainer.publish.tables import tables

PAPER, DOCUMENT, PAGE = "paper.tex", "published.json", "index.html"


def derive(raw: Path, sources: Mapping[str, Fingerprint], settings: Mapping[str, Any]) -> dict[str, bytes]:
    """Name in the published folder -> content. Raises UserError where the files are no runs."""
    facts = read_facts(raw, sources, settings)
    found = tables(facts)
    texts = {f"tables/{table.name}.tex": table.to_latex() for table in found}
    texts["tables/cost.tex"] = paragraph_latex(facts)
    texts[PAPER] = document(title(facts), [], ["tables/cost", *(f"tables/{table.name}" for table in found)])
    texts["cost.md"] = paragraph_markdown(facts)
    texts["hub-metadata.yaml"] = yaml.safe_dump(
        {"co2_eq_emissions": hub_fields(facts)}, sort_keys=False, allow_unicode=True
    )
    texts[DOCUMENT] = plain(asdict(published(facts, found)))
    texts[PAGE] = page(facts, found)
    texts["CITATION.cff"], texts["citation.bib"] = citation(facts), bibtex(facts)
    return {name: text.encode() for name, text in sorted(texts.items())}
