"""Places that are not on this disk: which words name one, and which would write down a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlsplit

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "http", "https", "hdfs")
# Parameters that open a place to whoever knows them: those of presigned links, and what calls itself a secret.
SECRET_PARAMETER = re.compile(
    r"(^|[-_])(sig|signature|key|apikey|token|secret|password|passwd|credential|auth)s?($|[-_])", re.I
)


def is_remote(path: str) -> bool:
    """Whether a path is a URL of one of SCHEMES."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


def redacted(url: str) -> str:
    """The URL without user, password and parameters: what may be shown."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def checked_urls(paths: Iterable[str]) -> tuple[str, ...]:
    """The same paths. Raises ValueError, which does not repeat it, where a URL holds a secret."""
    for path in filter(is_remote, paths):
        shown = redacted(path)
        if path.partition("://")[0].lower() in ("http", "https", "s3", "gs") and "@" in path.split("/")[2]:
            raise ValueError(
                f"{shown}: user and password in a URL would be written down; https reads them from ~/.netrc, "
                "s3 and gs from their own settings (AWS_ACCESS_KEY_ID ..., ~/.aws, GOOGLE_APPLICATION_CREDENTIALS)"
            )
        if named := [name for name, _ in parse_qsl(urlsplit(path).query, True) if SECRET_PARAMETER.search(name)]:
            raise ValueError(
                f"{shown}: the parameter {named[0]} is a secret, and would be written down; fetch it yourself"
            )
    return tuple(paths)
