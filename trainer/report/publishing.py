"""What a run's folder says, beside its curves in Weights & Biases: the price tag, the report page and the data card."""

from __future__ import annotations

from typing import Any

from trainer.report.run_data import RunData
from trainer.run_folder import REPORT
from trainer.trackers import wandb_server
from trainer.trackers.tracker import warn
from trainer.trackers.wandb_variables import leave_to_configuration, print_unless_silent
from trainer.utils.files import write_atomic

DATA_CARD = "data_card.md"


def publish(run_data: RunData) -> None:
    """Continue the W&B run of this folder with the price tag as its summary and two artifacts. Never raises.

    Does nothing for a run that W&B has not heard of. Offline it is one more folder for `wandb sync`.
    """
    config, folder = run_data.config, run_data.run
    if config.tracker.wandb == "disabled" or not (folder / "wandb" / "id").is_file():
        return
    try:
        wandb_server.tidy_environment()
        leave_to_configuration(config)
        mode, _ = wandb_server.choose_mode(config.tracker.wandb)
        if mode != "disabled":
            _publish(run_data, mode)
    except Exception as error:  # nothing that wandb raises may fail a run
        warn(f"wandb: {type(error).__name__}: {wandb_server.redact(str(error))[:200]}; the report was not published")


def _publish(run_data: RunData, mode: Any) -> None:
    import wandb

    from trainer.trackers.wandb import begin, run_id, sync_line

    folder = run_data.run
    run = begin(folder, run_data.config, mode)
    for column in ("planned", "measured"):
        run.summary.update({f"price_tag_{column}": known(run_data.tag.values(column))})  # type: ignore[arg-type]
    for kind, names in (("report", REPORT), ("data-card", (DATA_CARD,))):
        files = [folder / name for name in names if (folder / name).is_file()]
        artifact = wandb.Artifact(f"{kind}-{run_id(folder)}", type=kind)
        for file in files:
            artifact.add_file(str(file))
        if files:
            run.log_artifact(artifact)
    where = None if mode == "online" else run.settings.sync_dir
    run.finish()
    if where:
        print_unless_silent(f"and its report with: {sync_line(str(where), run_data.config)}")


def write_data_card(run_data: RunData) -> None:
    """data_card.md of the run's corpus, from the cache; nothing for a task, or where the corpus has gone."""
    from trainer.data.card import format_card
    from trainer.data.summary import card

    try:
        write_atomic(run_data.run / DATA_CARD, format_card(card(run_data.config)))
    except (ValueError, OSError):
        return


def known(values: dict[str, Any]) -> dict[str, Any]:
    """The same nested numbers without those that are None."""
    plain = {name: known(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: value for name, value in plain.items() if value is not None}
