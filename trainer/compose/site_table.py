"""Sites that are rows of conf/site/regions.csv in place of files: `site=no-2023`, `site=gcp-europe-west1-2023`.

The table is made by scripts/corpora/regions.py, which names the source and the licence of its numbers.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

GROUP = "site"
TABLE = Path(__file__).resolve().parents[2] / "conf" / GROUP / "regions.csv"
NUMBERS = {"gco2e_per_kwh": float, "intensity_year": int}
PLACE = "place"  # a column for people
# Of the sites that are files.
PRESETS = {
    **{"ca-2023": "Canada", "cn-2023": "China", "de-2023": "Germany", "fr-2023": "France", "gb-2023": "United Kingdom"},
    **{"in-2023": "India", "pl-2023": "Poland", "se-2023": "Sweden", "us-2023": "United States"},
}


@cache
def regions() -> dict[str, tuple[dict[str, Any], int]]:
    """By name: the keys of the site, and the line of the table."""
    found: dict[str, tuple[dict[str, Any], int]] = {}
    for line, row in _rows():
        keys = {name: NUMBERS.get(name, str)(text) for name, text in row.items() if name != PLACE}
        found[row["name"]] = (keys, line)
    return found


def _rows() -> list[tuple[int, dict[str, str]]]:
    with TABLE.open(newline="") as file:
        reader = csv.DictReader(line for line in file if not line.startswith("#"))
        return [(reader.line_num + 1, row) for row in reader]  # the comment above the head


def nearest_site(given: str, options: Sequence[str]) -> str:
    """The sites that a name may stand for, in words: of that code or place, or of a place that is written alike, else
    of the most similar name."""
    places = {**PRESETS, **{row["name"]: row[PLACE] for _, row in _rows()}}
    place = re.sub(r"-\d{4}$", "", given).lower().replace("_", " ")
    at_place = [name for name in places if re.sub(r"-\d{4}$", "", name) == place]
    if not at_place and len(place) > 3:  # shorter ones are in many names
        at_place = [name for name, of in places.items() if place in of.lower()]
    if not at_place:
        alike = difflib.get_close_matches(place, [of.lower() for of in places.values()], n=1, cutoff=0.8)
        at_place = [name for name, of in places.items() if of.lower() in alike]
    close = at_place[:3] or difflib.get_close_matches(given.lower(), options, n=1, cutoff=0.3)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def region_of(path: str) -> dict[str, Any] | None:
    """The keys of `site/<name>`, if that is a row of the table."""
    group, _, name = path.removesuffix(".yaml").partition("/")
    known = regions().get(name) if group == GROUP else None
    return None if known is None else known[0]


def lines_of(path: str) -> dict[str, tuple[int, str | None]]:
    """The line that says each key of `site/<name>`; none where that is no row."""
    region = region_of(path)
    if region is None:
        return {}
    line = regions()[path.partition("/")[2]][1]
    return dict.fromkeys(region, (line, None))
