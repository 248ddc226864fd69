"""MLflow: a store of files beside the runs, a database, or a server."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from trainer.descriptions.trackers import _Naming
from trainer.utils.errors import nearest
from trainer.utils.schema import key

SERVERS = ("http", "https", "databricks")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def store(text: str) -> str:
    """What names a store of MLflow, without anything secret in it. Raises ValueError."""
    scheme, separator, rest = text.partition("://")
    base = scheme.partition("+")[0]  # postgresql+psycopg2
    known = ("file", *SERVERS, *DATABASES)
    if separator and base not in known:
        raise ValueError(f"a place of {scheme!r} given{nearest(base, known)}; a folder, or one of {', '.join(known)}")
    if separator and "@" in rest.partition("/")[0]:
        raise ValueError(
            "a user or password in it would be written down; MLflow reads them from MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, drivers of databases from settings of their own"
        )
    if not text.strip() or "?" in text:
        raise ValueError(f"{text.partition('?')[0]!r} given; a folder or a URI without parameters wanted")
    return text


Store = Annotated[str, AfterValidator(store)]


class MLflow(_Naming):
    name = "mlflow"
    help = "curves, text samples and the configuration in a store of MLflow"
    implementation = "trainer.trackers.mlflow:make"
    off = ("mlflow", False)
    check = "trainer.trackers.mlflow_store:check"
    settle = "trainer.trackers.mlflow_store:settle"
    library = ("mlflow", "isoflop[mlflow]")
    of_one_run = ("name",)

    class Keys(_Naming.Keys):
        mlflow: bool = key(False, "curves in a store of MLflow", introduced=False)
        mlflow_uri: Store | None = key(
            None,
            "its store: a folder, sqlite:///file.db, http://server; null: $MLFLOW_TRACKING_URI, else <run.root>/mlruns",
            introduced=None,
        )
