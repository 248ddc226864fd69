"""What a run has spent of its measured budgets so far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainer.books.budget import shares, spending
from trainer.books.costs import JOULES_PER_KWH
from trainer.books.measured import training_time
from trainer.books.quantity import Quantity, measured_quantity
from trainer.books.records import read_ranks, read_steps
from trainer.config import Config
from trainer.utils.errors import UserError


class BudgetTracker:
    """Hours, kWh, kg CO2e and money over all attempts, steps that were trained again included."""

    def __init__(self, config: Config, run: Path, ranks: int) -> None:
        """`ranks` of this attempt; what earlier ones took is read from the run's folder."""
        seconds, device_hours = training_time(read_steps(run), read_ranks(run), config)
        self._config, self._ranks = config, ranks
        self._seconds, self._device_hours = seconds.value or 0.0, device_hours.value or 0.0

    def used(
        self,
        seconds: float,
        joules: Mapping[str, float | None],
        grams_per_kwh: Quantity | None = None,
        paused: float = 0.0,
    ) -> dict[str, float]:
        """The share of each budget that is used up, after `seconds` of this attempt and `joules` of the whole run, at
        this intensity of its hours (null: the site's). Seconds `paused` are no hours of training.

        A component that cannot be measured is not in it. Raises UserError where that leaves a budget without measure.
        """
        read = [value for value in joules.values() if value is not None]
        hours = measured_quantity((self._seconds + seconds - paused) / 3600, "clock")
        device_hours = measured_quantity(self._device_hours + seconds * self._ranks / 3600, "clock")
        kwh = measured_quantity(sum(read) / JOULES_PER_KWH if read else None, "no instrument here reads energy")
        spent = spending(self._config, hours, device_hours, kwh, grams_per_kwh)
        found = shares(self._config, spent)
        blind = [f"budget.{name}: {spent[name].source}" for name in self._config.budget.measured if name not in found]
        if blind:
            raise UserError("\n".join(blind))
        return found
