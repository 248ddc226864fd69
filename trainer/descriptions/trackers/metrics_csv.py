"""Tables for spreadsheets and data frames."""

from __future__ import annotations

from trainer.descriptions.trackers import TrackerDescription
from trainer.utils.schema import key


class MetricsCsv(TrackerDescription):
    name = "metrics_csv"
    help = "metrics.csv and evaluations.csv in the run's folder"
    implementation = "trainer.trackers.metrics_csv:make"
    off = ("metrics_csv", False)

    class Keys(TrackerDescription.Keys):
        metrics_csv: bool = key(
            False, "metrics.jsonl as tables: metrics.csv, a row a step, and evaluations.csv", introduced=False
        )
