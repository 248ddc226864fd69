"""Weights & Biases."""

from __future__ import annotations

from typing import Literal

from trainer.descriptions.trackers import TrackerDescription
from trainer.utils.schema import Paths, key


class Wandb(TrackerDescription):
    name = "wandb"
    help = "curves, price tag, report and data card on a W&B server, or offline for it"
    implementation = "trainer.trackers.wandb:make"
    off = ("wandb", "disabled")
    check = "trainer.trackers.wandb_server:check"
    publish = "trainer.report.publishing:publish"

    class Keys(TrackerDescription.Keys):
        wandb: Literal["auto", "online", "offline", "disabled"] = key(
            "disabled", "auto: online with a key and a server that answers, else offline"
        )
        project: str = key("isoflop", "W&B project")
        entity: str | None = key(None, "W&B entity")
        tags: Paths = key((), "W&B tags")
