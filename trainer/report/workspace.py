"""A saved view of Weights & Biases for the runs of one experiment: held-out loss against size and against cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.run_folder import RunFolder, find_runs, readable
from trainer.trackers import wandb_server
from trainer.trackers.wandb_variables import group_of, leave_to_configuration, project_of
from trainer.utils.errors import UserError

# Axis -> title. A point a run: the size is in its configuration, what it has cost in its summary.
COSTS = {"flop": "FLOPs", "kwh": "kWh", "gco2e": "g CO2e"}


def build_workspace(entity: str, project: str, experiment: str) -> Any:
    """The view as an object of wandb-workspaces; nothing is sent. Raises UserError where the library is missing."""
    try:
        from wandb_workspaces import expr, workspaces
        from wandb_workspaces.reports import v2 as panels
    except ImportError:
        raise UserError("workspace needs the extra: pip install 'isoflop[workspaces]'") from None

    def points(title: str, axis: Any) -> Any:
        last = panels.SummaryMetric("val/loss.last")
        return panels.ScatterPlot(title=f"held-out loss by {title}", x=axis, y=last, log_x=True)

    def curve(metric: str, axis: str, title: str) -> Any:
        return panels.LinePlot(title=f"{metric} by {title}", x=axis, y=[metric], log_x=True)

    by_cost = [points(title, panels.SummaryMetric(axis)) for axis, title in COSTS.items()]
    axes = {"tokens": "tokens", **COSTS}
    curves = [curve(metric, axis, axes[axis]) for metric in ("val/loss", "train/loss") for axis in axes]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"isoflop {experiment}",
        sections=[
            workspaces.Section(
                name="Runs", is_open=True, panels=[points("parameters", panels.Config("parameters")), *by_cost]
            ),
            workspaces.Section(name="Curves", is_open=True, panels=curves),
        ],
        runset_settings=workspaces.RunsetSettings(filters=expr.And(expr.Metric("Group") == experiment)),
    )


def save_workspace(root: Path) -> str:
    """Save the view for the runs below a root; returns its address.

    Raises UserError where there is no run, where runs of several experiments lie there, and without a server.
    """
    configs = list(readable(find_runs(root), lambda run: RunFolder(run).load_config()))
    places = {(config.tracker.entity, project_of(config), group_of(config)) for config in configs}
    if len(places) != 1:
        named = ", ".join(sorted(experiment for _, _, experiment in places)) or "no run"
        raise UserError(f"{root}: {named}; a workspace shows the runs of one experiment")
    ((entity, project, experiment),) = places
    workspace = build_workspace(entity or "", project, experiment)
    wandb_server.tidy_environment()
    leave_to_configuration(configs[0])
    mode, reason = wandb_server.choose_mode("online")
    if mode != "online":
        raise UserError(f"workspace: it is kept by a W&B server, and {reason}")
    import wandb

    try:
        workspace.entity = entity or wandb.Api().default_entity
        workspace.save()
        return str(workspace.url)
    except Exception as error:  # whatever the client raises
        text = " ".join(wandb_server.redact(str(error)).split())[:200]
        raise UserError(f"workspace: W&B did not take it: {type(error).__name__}: {text}") from None
