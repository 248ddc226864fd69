"""metrics.jsonl and events.jsonl, which resume, report and ledger read: always written."""

from __future__ import annotations

from trainer.descriptions.trackers import TrackerDescription


class Jsonl(TrackerDescription):
    name = "jsonl"
    help = "metrics.jsonl and events.jsonl in the run's folder"
    implementation = "trainer.trackers.jsonl:make"
    off = None
