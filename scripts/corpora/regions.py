#!/usr/bin/env python3
"""conf/site/regions.csv: grids of countries and of cloud regions, from the data of a maintained package.

    pip download --no-deps codecarbon==3.3.2 pycountry==26.2.16
    scripts/corpora/regions.py codecarbon-3.3.2-*.whl pycountry-26.2.16-*.whl > conf/site/regions.csv

Countries: Our World in Data / Ember, CC BY 4.0, the newest year of each that the package has; from 2020 on. Regions of
Google Cloud: its table of 2023 as the package has it (github.com/GoogleCloudPlatform/region-carbon-info, whose files
state no licence). codecarbon is under the MIT licence; of pycountry (LGPL 2.1) only the two-letter codes of ISO 3166-1
are used. What a file of conf/site is called is left out. Neither states a PUE or a use of water of any place.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile
from pathlib import Path

SITES = Path(__file__).resolve().parents[2] / "conf" / "site"
EMBER = "Our World in Data / Ember, national average (CC BY 4.0)"
GOOGLE = "Google Cloud, carbon data across regions, as codecarbon (MIT) has it"
FIRST_YEAR = 2020
GOOGLE_YEAR = 2023
KOSOVO = {"XKX": "xk"}  # no code of ISO 3166-1
MISSPELT = {"me-cenrtal1": "me-central1"}
HEAD = ("name", "place", "gco2e_per_kwh", "intensity_year", "intensity_source")


def countries(package: zipfile.ZipFile, codes: zipfile.ZipFile) -> list[tuple[str, ...]]:
    """A row for each country with an intensity and a code of two letters."""
    listed = json.loads(codes.read("pycountry/databases/iso3166-1.json"))["3166-1"]
    two = {one["alpha_3"]: one["alpha_2"].lower() for one in listed} | KOSOVO
    rows = []
    for code, grid in json.loads(package.read("codecarbon/data/private_infra/global_energy_mix.json")).items():
        grams, year = grid.get("carbon_intensity"), grid.get("year")
        if code in two and grams is not None and year >= FIRST_YEAR:
            rows.append((f"{two[code]}-{year}", grid["country_name"], f"{grams:.1f}", str(year), EMBER))
    return rows


def regions(package: zipfile.ZipFile) -> list[tuple[str, ...]]:
    """A row for each region of a cloud."""
    text = package.read("codecarbon/data/cloud/impact.csv").decode("utf-8-sig")
    rows = []
    for one in csv.DictReader(io.StringIO(text)):
        assert one["provider"] == "gcp", f"{one['provider']}: of which year, under which licence?"
        name = MISSPELT.get(one["region"], one["region"])
        place = f"{one['city']}, {one['country_name']}"
        rows.append((f"gcp-{name}-{GOOGLE_YEAR}", place, f"{float(one['impact']):.1f}", str(GOOGLE_YEAR), GOOGLE))
    return rows


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as package, zipfile.ZipFile(sys.argv[2]) as codes:
        rows = countries(package, codes) + regions(package)
    files = {file.stem for file in SITES.glob("*.yaml")}
    version = Path(sys.argv[1]).name.split("-")[1]
    print(f"# Made by scripts/corpora/regions.py from codecarbon {version}; not to be edited.")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows(sorted(row for row in rows if row[0] not in files))


if __name__ == "__main__":
    main()
