"""Where MLflow keeps what it is told: settled before a run starts, without importing it."""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

from trainer.config import Config
from trainer.descriptions.trackers.mlflow import DATABASES, SERVERS, store
from trainer.utils.errors import UserError
from trainer.utils.home import expanded

VARIABLE = "MLFLOW_TRACKING_URI"
FOLDER = "mlruns"  # in run.root
# For the client. Nothing is told to MLflow's makers; a store of files is what its lighter package can write; a server
# that does not answer is given up in time.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_LOGGING_LEVEL": "ERROR",  # a database that is made says so at length
}
FORCED = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")


def settle(config: Config, before: Config | None) -> Config:
    """The configuration with the store that $MLFLOW_TRACKING_URI names, where nobody names another; a folder by its
    whole path, so that a resume from elsewhere finds it. before: of a run that goes on, whose store holds.

    Raises UserError for a variable that names none."""
    uri = config.tracker.mlflow_uri
    if uri is None and before is not None and before.tracker.mlflow:
        uri = before.tracker.mlflow_uri
    elif uri is None and (said := os.environ.get(VARIABLE, "").strip()):
        try:
            uri = store(said)
        except ValueError as error:
            raise UserError(f"{VARIABLE}: {error}") from None
    if uri is not None and is_folder(uri):
        uri = str(expanded(uri).absolute())
    if uri == config.tracker.mlflow_uri:
        return config
    return config.model_copy(update={"tracker": config.tracker.model_copy(update={"mlflow_uri": uri})})


def check(config: Config) -> None:
    """Raise UserError where the store is a database and what speaks to it is not installed."""
    uri = config.tracker.mlflow_uri or ""
    if uri.partition("://")[0].partition("+")[0] in DATABASES:
        missing = [name for name in ("sqlalchemy", "alembic") if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"tracker.mlflow_uri: a database needs more than mlflow-skinny: pip install {' '.join(missing)}"
            )


def uri_of(config: Config) -> str:
    """The store of a run."""
    return config.tracker.mlflow_uri or str(Path(config.run.root).absolute() / FOLDER)


def is_folder(uri: str) -> bool:
    return "://" not in uri and uri not in SERVERS and not uri.startswith("file:")


def artifacts_of(uri: str) -> str | None:
    """Where the files of a database's runs lie: beside an SQLite file; null: the store knows by itself."""
    if not uri.startswith("sqlite"):
        return None
    return str(Path(urlsplit(uri).path.removeprefix("/")).absolute().with_name("mlartifacts"))


def quiet() -> None:
    """Before MLflow is imported: its settings, and silence below warnings."""
    for name, value in SETTINGS.items():
        if name in FORCED:
            os.environ[name] = value
        else:
            os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
