"""Weights & Biases."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator

from trainer.descriptions.trackers import _Naming
from trainer.utils.schema import key
from trainer.utils.urls import checked_urls


def run_id(text: str) -> str:
    """What can be the id of a W&B run. Raises ValueError."""
    if not re.fullmatch(r"[^/\\#?%:\s]{1,64}", text):
        raise ValueError(f"{text!r} given; an id of W&B has 1 to 64 characters, none of them / \\ # ? % : or a space")
    return text


def server_url(text: str) -> str:
    """The address of a server, without anything secret in it. Raises ValueError."""
    if not text.startswith(("http://", "https://")):
        raise ValueError(f"{text!r} given; an address that begins with https:// or http:// wanted")
    return checked_urls([text])[0].rstrip("/")


RunId = Annotated[str, AfterValidator(run_id)]
ServerUrl = Annotated[str, AfterValidator(server_url)]


class Wandb(_Naming):
    name = "wandb"
    help = "curves, price tag, report and data card on a W&B server, or offline for it"
    implementation = "trainer.trackers.wandb:make"
    off = ("wandb", "disabled")
    check = "trainer.trackers.wandb_server:check"
    publish = "trainer.report.publishing:publish"
    settle = "trainer.trackers.wandb_variables:settle"
    notes = "trainer.trackers.wandb_variables:notes"
    of_one_run = ("name", "run_id", "resume")

    class Keys(_Naming.Keys):
        wandb: Literal["auto", "online", "offline", "disabled"] = key(
            "disabled", "auto: $WANDB_MODE, else online with a key and a server that answers, else offline"
        )
        entity: str | None = key(None, "W&B entity; null: $WANDB_ENTITY, else the key's own")
        dir: str | None = key(None, "folder of W&B's files; null: $WANDB_DIR, else the run's folder")
        run_id: RunId | None = key(None, "id of the W&B run; null: $WANDB_RUN_ID, else drawn once and kept")
        resume: Literal["allow", "must", "never"] | None = key(
            None,
            "whether a W&B run of that id may or must be there at the first start; null: $WANDB_RESUME, else allow",
        )
        base_url: ServerUrl | None = key(None, "W&B server; null: $WANDB_BASE_URL, else the one of `wandb login`")
