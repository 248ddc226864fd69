"""MLflow: one run of a store per run folder, through the client alone, which keeps no state and starts nothing.

Steps that an earlier attempt logged are not logged again: MLflow takes nothing back.
"""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.trackers.background import BackgroundTracker
from trainer.trackers.metrics import HELD_OUT, LOSS, TEXT, facts
from trainer.trackers.mlflow_store import artifacts_of, is_folder, quiet, uri_of
from trainer.trackers.records import Alert, TextSample
from trainer.trackers.tracker import IMPORTS, RunContext
from trainer.trackers.wandb_variables import group_of, project_of
from trainer.utils.files import write_atomic
from trainer.utils.outcomes import Status

KEPT = "mlflow.json"  # in a run's folder: which run of which store it is
STATUS = {Status.FINISHED: "FINISHED", Status.STOPPED: "KILLED"}
# What every record of a step has, and every evaluation, as a number: of a record it is written last.
MARKS = {LOSS: "optim/lr", HELD_OUT: "time/evaluation_seconds"}
MOST_PARAMS, LONGEST_PARAM = 100, 500  # of one request, which any server takes


def make(config: Config, run: Path, resumed_from: int) -> BackgroundTracker:
    return BackgroundTracker("mlflow", config, Store)


class Store:
    """The MLflow run of a run folder."""

    def __init__(self, context: RunContext) -> None:
        uri = uri_of(context.config)
        with IMPORTS:
            quiet()
            from mlflow import MlflowClient
            from mlflow.entities import Metric, Param

            self._metric, self._param = Metric, Param
            self._client = MlflowClient(tracking_uri=uri)  # which imports more
        self._run = self._run_of(context, uri)
        self._unheard = {name: self._last(name) + 1 for name in MARKS.values()}
        self.unheard = (self._unheard[MARKS[LOSS]], self._unheard[MARKS[HELD_OUT]])
        self._mended = context.attempt == 0 or not (is_folder(uri) or uri.startswith("file:"))

    def log(self, step: int, metrics: dict[str, float], ratios: list[float], seconds: float) -> None:
        mark = next(mark for kind, mark in MARKS.items() if kind in metrics)
        if step < self._unheard[mark]:
            return
        self._unheard[mark] = step + 1
        known = {name: value for name, value in metrics.items() if math.isfinite(value)}  # databases have no infinity
        if not self._mended:  # a store of files takes one name after another: a kill may have cut this record in two
            known = {name: value for name, value in known.items() if name == mark or self._last(_name(name)) < step}
            self._mended = True
        names = sorted(known, key=lambda name: name == mark)
        entries = [self._metric(_name(name), float(known[name]), int(seconds * 1000), step) for name in names]
        self._client.log_batch(self._run, metrics=entries)

    def samples(self, samples: list[TextSample]) -> None:
        lines = "".join(json.dumps(one.to_json(), ensure_ascii=False) + "\n" for one in samples)
        self._client.log_text(self._run, lines, f"{TEXT}/step-{samples[0].step:08d}.jsonl")

    def alert(self, alert: Alert) -> None:
        self._client.set_tag(self._run, f"alert.{alert.kind}", alert.text[:LONGEST_PARAM])

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        self._client.set_terminated(self._run, STATUS.get(Status(status), "FAILED"))

    def _run_of(self, context: RunContext, uri: str) -> str:
        """The run that the folder has in this store already, or a new one."""
        kept = context.run / KEPT
        if kept.is_file():
            said = json.loads(kept.read_text())
            if said["uri"] == uri:
                self._client.update_run(said["run_id"], status="RUNNING")
                return str(said["run_id"])
        tracker, config = context.config.tracker, context.config
        tags = {
            "mlflow.note.content": tracker.notes,
            "group": group_of(config),
            "job_type": tracker.job_type,
            "tags": ",".join(tracker.tags),
            "science_hash": config.science_hash(),
        }
        run = self._client.create_run(
            self._experiment(project_of(config), uri),
            run_name=tracker.name or context.run.name,
            tags={name: value for name, value in tags.items() if value},
        )
        params = flat(config.model_dump(mode="json")) | flat(facts(context))
        entries = [self._param(_name(name), text[:LONGEST_PARAM]) for name, text in params.items()]
        for first in range(0, len(entries), MOST_PARAMS):
            self._client.log_batch(run.info.run_id, params=entries[first : first + MOST_PARAMS])
        write_atomic(kept, json.dumps({"uri": uri, "run_id": run.info.run_id}) + "\n")
        return str(run.info.run_id)

    def _experiment(self, name: str, uri: str) -> str:
        """Its id. Another run may make it at the same time."""
        for _ in range(3):
            if (found := self._client.get_experiment_by_name(name)) is not None:
                return str(found.experiment_id)
            try:
                return str(self._client.create_experiment(name, artifact_location=artifacts_of(uri)))
            except Exception:
                time.sleep(0.2)
        raise RuntimeError(f"experiment {name!r} can neither be found nor made")

    def _last(self, name: str) -> int:
        """The last step at which a metric was logged; -1: none was."""
        return max((one.step for one in self._client.get_metric_history(self._run, name)), default=-1)


def flat(plain: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted key -> its value as text; without keys that are null."""
    found: dict[str, str] = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            found[prefix + name] = value if isinstance(value, str) else json.dumps(value)
    return found


def _name(name: str) -> str:
    """With the characters that names have in MLflow."""
    return re.sub(r"[^\w\-. /]", "_", name)
