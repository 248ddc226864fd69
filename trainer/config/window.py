"""`launch.window`: when a run may work, in words: while the grid is clean enough, or at some hours of the day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, tzinfo

from trainer.utils.errors import nearest

CLEAN = "clean"
EXAMPLES = "write clean:200 (g/kWh, of site.curve), 22-06 (hours, UTC) or 22:30-06@Europe/Berlin"


@dataclass(frozen=True)
class WindowConfig:
    """Either a bound on the grid's intensity, or minutes of the day between which a run works."""

    grams: float | None = None  # g/kWh at most
    begin: int = 0  # minutes after midnight
    end: int = 0  # of the next day where it is before `begin`
    zone: str = "UTC"

    @property
    def share(self) -> float:
        """Of a day, of hours."""
        return (self.end - self.begin) % 1440 / 1440


def read_window(text: str) -> WindowConfig:
    """The window that a text describes. Raises ValueError."""
    word, sign, number = text.partition(":")
    if sign and not word.strip().isdigit():
        return WindowConfig(grams=_grams(word, number, text))
    hours, sign, zone = text.partition("@")
    match = re.fullmatch(r"(\d{1,2})(?::(\d\d))?-(\d{1,2})(?::(\d\d))?", hours.strip())
    if match is None:
        raise ValueError(f"{text!r} is no window; {EXAMPLES}")
    begin, end = (int(match[at]) * 60 + int(match[at + 1] or 0) for at in (1, 3))
    if max(begin, end) > 1440 or any(int(match[at] or 0) > 59 for at in (2, 4)):
        raise ValueError(f"{text!r}: hours are from 0 to 24; {EXAMPLES}")
    if begin % 1440 == end % 1440 and abs(begin - end) != 1440:
        raise ValueError(f"{text!r} never opens: it closes when it opens")
    try:
        zone_of(zone or "UTC")
    except (KeyError, ValueError, OSError):  # not found; no name of one; a folder of zones
        raise ValueError(f"{text!r}: no time zone {zone!r} on this host; write e.g. 22-06@Europe/Berlin") from None
    return WindowConfig(begin=begin, end=end, zone=zone or "UTC")


def zone_of(name: str) -> tzinfo:
    """The time zone of that name. Raises KeyError, ValueError or OSError where this host knows none."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def _grams(word: str, number: str, text: str) -> float:
    if word != CLEAN:
        raise ValueError(f"{text!r} is no window{nearest(word, [CLEAN])}; {EXAMPLES}")
    try:
        grams = float(number)
    except ValueError:
        raise ValueError(f"{text!r}: {number!r} is no number of g/kWh; {EXAMPLES}") from None
    if not 0 <= grams <= 3000:
        raise ValueError(f"{text!r}: 0 to 3000 g/kWh wanted")
    return grams


def a_window(value: str) -> str:
    """The text of a window, checked. Raises ValueError."""
    read_window(value)
    return value
