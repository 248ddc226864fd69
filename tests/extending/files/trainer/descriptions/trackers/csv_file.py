"""The losses as a table that a spreadsheet reads."""

from __future__ import annotations

from trainer.descriptions.trackers import TrackerDescription
from trainer.utils.schema import key


class CsvFile(TrackerDescription):
    name = "csv_file"
    help = "losses.csv in the run's folder"
    implementation = "trainer.trackers.csv_file:CsvTracker"
    off = ("csv", False)

    class Keys(TrackerDescription.Keys):
        csv: bool = key(False, "losses.csv in the run's folder: step and loss")
