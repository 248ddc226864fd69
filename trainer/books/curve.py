"""The intensity of a grid as time goes, read from a CSV file of the user's.

    # source: who publishes it
    time,average_gco2e_per_kwh,marginal_gco2e_per_kwh
    2026-01-01T00:00Z,312.5,540
    2026-01-01T01:00Z,298.0,535

`time` is where an interval begins, in UTC and said so (Z); all intervals are as long as the first, 5 minutes to an
hour. One of the two columns is enough. A curve that repeats (`site.curve_repeats`) is whole days long and stands for
all times.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from trainer.config import SiteConfig
from trainer.utils.bounded import read_text
from trainer.utils.errors import UserError, nearest
from trainer.utils.home import expanded

BUCKET = 300  # seconds: joules of a run are kept by such stretches of time
STEPS = (300, 600, 900, 1200, 1800, 3600)  # lengths of an interval in seconds
DAY = 86_400
COLUMNS = {"average": "average_gco2e_per_kwh", "marginal": "marginal_gco2e_per_kwh"}
Kind = Literal["average", "marginal"]


@dataclass(frozen=True)
class Curve:
    """Grams CO2e a kWh by time, without a hole from `begin` to `end`, or for ever where it repeats."""

    begin: int  # seconds since the epoch
    step: int  # seconds
    grams: tuple[float, ...]  # of each interval
    kind: Kind
    source: str
    repeats: bool = False

    @property
    def end(self) -> int:
        return self.begin + self.step * len(self.grams)

    def at(self, time: float) -> float | None:
        """g/kWh at that time; None outside of the curve."""
        place = math.floor((time - self.begin) / self.step)
        if self.repeats:
            return self.grams[place % len(self.grams)]
        return self.grams[place] if 0 <= place < len(self.grams) else None

    @property
    def mean(self) -> float:
        """Over time, whatever is used when."""
        return sum(self.grams) / len(self.grams)

    def weighted(self, joules: Mapping[int, float]) -> float | None:
        """The mean over energy, of joules by bucket of time (seconds // BUCKET); None where the curve does not cover
        all of it, or there is none."""
        used = {bucket: amount for bucket, amount in joules.items() if amount > 0}
        grams = {bucket: self.at(bucket * BUCKET) for bucket in used}
        total = sum(used.values())
        if not total or None in grams.values():
            return None
        return sum((grams[bucket] or 0.0) * amount for bucket, amount in used.items()) / total

    @property
    def text(self) -> str:
        """Its kind, source and reach in words."""
        if self.repeats:
            return f"{self.kind} of {self.source}, repeated every {self.step * len(self.grams) // 3600} h"
        return f"{self.kind} of {self.source}, {stamp(self.begin)} to {stamp(self.end)}"


def stamp(time: float) -> str:
    """A time as a curve writes it."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%MZ}"


def read_curve(path: Path, *, kind: Kind | None = None, repeats: bool = False, small: bool = False) -> Curve:
    """The curve of a file. kind: null for the only one of the file, of two the average. small: intensities below 2 g
    are meant. Raises UserError, in one line with the place."""
    path = expanded(path)
    if not path.is_file():
        raise UserError(f"site.curve: {path}: no such file")
    text = read_text(path).removeprefix("\ufeff")  # with which some spreadsheets begin a file
    source = _source(text, path)
    try:
        times, grams, kind = _values(text, path, kind)
    except csv.Error as error:  # a quote that is never closed, say
        raise UserError(f"{path}: no CSV ({error})") from None
    step = times[1] - times[0] if len(times) > 1 else 0
    if step not in STEPS:
        said = f"{step / 60:g} minutes" if len(times) > 1 else "a single row"
        raise UserError(f"{path}: intervals are of 5, 10, 15, 20, 30 or 60 minutes, {said} found")
    for before, (after, line) in zip(times, _lines(text, times), strict=False):
        if after - before > step:
            raise UserError(f"{path}:{line}: a hole: {stamp(before + step)} is missing before {stamp(after)}")
        if after - before < step:
            raise UserError(
                f"{path}:{line}: {stamp(after)} comes after {stamp(before)}; intervals are {step // 60} min"
            )
    if 0 < max(grams) < 2 and not small:
        raise UserError(
            f"{path}: none has more than {max(grams):g} g/kWh; {max(grams):g} kg would be {max(grams) * 1000:g}. "
            "If grams are meant, say site.intensity_unit=g"
        )
    if repeats and (step * len(grams)) % DAY:
        hours = step * len(grams) / 3600
        raise UserError(f"site.curve_repeats: {path} has {hours:g} hours; what repeats is whole days long")
    return Curve(times[0], step, tuple(grams), kind, source, repeats)


def _source(text: str, path: Path) -> str:
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        name, sign, rest = line.lstrip("# ").partition(":")
        if sign and name.strip().lower() == "source" and rest.strip():
            return rest.strip()
    raise UserError(f"{path}: begin it with a line `# source: who publishes these intensities`")


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are no comments, with their lines."""
    kept = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    for (number, _), row in zip(kept, csv.reader(io.StringIO("\n".join(line for _, line in kept))), strict=False):
        yield number, [cell.strip() for cell in row]


def _lines(text: str, times: list[int]) -> list[tuple[int, int]]:
    """Each time but the first, and the line of the file that says it."""
    numbers = [number for number, _ in _rows(text)][1:]
    return list(zip(times[1:], numbers[1:], strict=True))


def _values(text: str, path: Path, kind: Kind | None) -> tuple[list[int], list[float], Kind]:
    rows = list(_rows(text))
    if len(rows) < 2:
        raise UserError(f"{path}: no rows; a curve has the columns time and {' or '.join(COLUMNS.values())}")
    number, head = rows[0]
    known = ["time", *COLUMNS.values()]
    if strange := [name for name in head if name not in known]:
        near = nearest(strange[0], known)
        raise UserError(f"{path}:{number}: no column {strange[0]!r}{near}; there is {', '.join(known)}")
    there: list[Kind] = [one for one in ("average", "marginal") if COLUMNS[one] in head]  # type: ignore[misc]
    if "time" not in head or not there or len(set(head)) < len(head):
        raise UserError(f"{path}:{number}: the columns are time and {' or '.join(COLUMNS.values())}, each once")
    chosen = kind or there[0]
    if chosen not in there:
        raise UserError(f"site.curve_kind: {kind} given, {path} has the {there[0]} intensity only")
    at, place = head.index("time"), head.index(COLUMNS[chosen])
    times, grams = [], []
    for number, row in rows[1:]:
        if len(row) != len(head):
            hint = "; decimals are written with a point" if len(row) > len(head) else ""
            raise UserError(f"{path}:{number}: {len(row)} cells, {len(head)} wanted{hint}")
        times.append(_time(row[at], f"{path}:{number}"))
        grams.append(_grams(row[place], f"{path}:{number}"))
    return times, grams, chosen


def _time(text: str, where: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{where}: {text!r} is no time; write e.g. 2026-01-01T05:00Z") from None
    offset = time.utcoffset()
    if offset is None:
        raise UserError(f"{where}: {text} has no time zone; times are in UTC, written 2026-01-01T05:00Z")
    seconds = time.timestamp()
    if offset:
        raise UserError(f"{where}: {text} is in another time zone than UTC; write {stamp(seconds)}")
    if seconds % BUCKET:
        raise UserError(f"{where}: {text} is no multiple of 5 minutes")
    return int(seconds)


def _grams(text: str, where: str) -> float:
    try:
        grams = float(text)
    except ValueError:
        what = f"{text!r} is no number" if text else "a hole: the intensity is missing"
        raise UserError(f"{where}: {what}") from None
    if not 0 <= grams <= 3000:
        raise UserError(f"{where}: {text} g/kWh is no grid's intensity (0 to 3000 grams per kWh)")
    return grams


def curve_of(site: SiteConfig) -> Curve | None:
    """The curve of a site, if it has one. Raises UserError as `read_curve`."""
    if site.curve is None:
        return None
    small = site.intensity_unit == "g"
    return read_curve(Path(site.curve), kind=site.curve_kind, repeats=site.curve_repeats, small=small)
