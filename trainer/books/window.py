"""When a run may work (`launch.window`): open and closed times, and what they cost."""

from __future__ import annotations

import math
from datetime import datetime

from trainer.books.curve import Curve, curve_of, stamp
from trainer.config import Config
from trainer.config.window import WindowConfig, read_window, zone_of
from trainer.utils.errors import UserError

MINUTE = 60


class Window:
    """Open and closed times. All times are seconds since the epoch."""

    def __init__(self, text: str, curve: Curve | None) -> None:
        self.text, self.curve = text, curve
        self.said: WindowConfig = read_window(text)
        self._zone = zone_of(self.said.zone)

    def open(self, time: float) -> bool | None:
        """Whether a run may work now; None where the curve does not tell."""
        if self.said.grams is None:
            return self._within_hours(time)
        grams = None if self.curve is None else self.curve.at(time)
        return None if grams is None else grams <= self.said.grams

    def _within_hours(self, time: float) -> bool:
        local = datetime.fromtimestamp(time, self._zone)
        minute, said = local.hour * 60 + local.minute, self.said
        length = (said.end - said.begin) % 1440 or 1440
        return (minute - said.begin) % 1440 < length

    def opens(self, time: float) -> float | None:
        """The next time, from this one on, at which it is open; None where there is none in the curve."""
        if self.said.grams is None:
            starts, step = math.ceil(time / MINUTE), MINUTE
            many = 3 * 1440  # a day with its change of clock
        elif self.curve is None:
            return None
        else:
            starts, step = math.floor((time - self.curve.begin) / self.curve.step) + 1, self.curve.step
            many = len(self.curve.grams)
        if self.open(time):
            return time
        origin = 0 if self.said.grams is None or self.curve is None else self.curve.begin
        places = (origin + (starts + number) * step for number in range(many + 1))
        return next((float(place) for place in places if self.open(place)), None)

    @property
    def share(self) -> float:
        """Of all time, or of the curve's, that it is open."""
        if self.said.grams is None or self.curve is None:
            return self.said.share or 1.0
        return sum(grams <= self.said.grams for grams in self.curve.grams) / len(self.curve.grams)

    @property
    def grams(self) -> list[float]:
        """The intensities of the curve while it is open."""
        curve = self.curve
        times = [] if curve is None else [curve.begin + number * curve.step for number in range(len(curve.grams))]
        return [gram for time, gram in zip(times, curve.grams if curve else (), strict=True) if self.open(time)]


def window_of(config: Config) -> Window | None:
    """The window of a run, if it has one. Raises UserError where its curve cannot be read."""
    return None if config.launch.window is None else Window(config.launch.window, curve_of(config.site))


def window_misfits(config: Config) -> list[str]:
    """What is wrong with the site's curve, or with a window that it does not open."""
    try:
        curve, text = curve_of(config.site), config.launch.window
    except UserError as error:
        return [str(error)]
    if text is None:
        return []
    window = Window(text, curve)
    if window.said.grams is None:
        return []
    if curve is None:
        return [f"launch.window: {text} needs the grid's intensity by time: site.curve=<file>.csv (docs/carbon.md)"]
    if not window.share:
        least = min(curve.grams)
        return [f"launch.window: {text} never opens: the cleanest hour of site.curve has {least:g} g/kWh"]
    return []


def require_opening(config: Config, now: float) -> None:
    """Raise UserError where the window of a run that begins now is not known to open any more."""
    window = window_of(config)
    if window is None or window.opens(now) is not None:
        return
    curve = window.curve
    assert curve is not None
    if curve.at(now) is None:
        where = f"it is {stamp(now)}, and site.curve reaches from {stamp(curve.begin)} to {stamp(curve.end)}"
        raise UserError(f"launch.window: {where}; take a forecast, or a typical day with site.curve_repeats=true")
    raise UserError(f"launch.window: {window.text} never opens from now on until the curve ends at {stamp(curve.end)}")
