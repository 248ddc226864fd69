"""A checkpoint of the Hugging Face hub as a local folder: weights, configuration, tokenizer, and nothing that runs."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.utils.errors import UserError
from trainer.utils.secrets import without_secrets

HUB = "hub:"
PATTERNS = ("*.safetensors", "*.json", "*.model", "*.jinja", "tokenizer*.txt", "vocab.txt", "merges.txt")
LONGEST = 200  # characters of a reason


def download(name: str) -> Path:
    """The folder, in huggingface_hub's cache, of `hub:owner/name` or `hub:owner/name@revision`.

    What an interrupted download has brought is not brought again. Raises UserError for other names, where the extra is
    missing and where the hub has no such thing, does not give it or does not answer.
    """
    match = re.fullmatch(r"hub:([\w.-]+(?:/[\w.-]+)?)(?:@([\w./-]+))?", name)
    if match is None:
        raise UserError(f"{without_secrets(name)}: hub:<owner>/<name> or hub:<owner>/<name>@<revision> wanted")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError("import hub:... needs the extra: pip install 'isoflop[hub]'") from None
    try:
        folder = snapshot_download(match[1], revision=match[2], allow_patterns=list(PATTERNS))
    except Exception as error:  # of huggingface_hub, and of its http client, which is another one in every version
        shown = without_secrets(name)
        raise UserError(f"{shown}: not downloaded: {without_secrets(_reason(error, match[1], match[2]))}") from None
    return Path(folder)


def _reason(error: BaseException, repository: str, revision: str | None) -> str:
    """One line on why nothing came, and what would help."""
    from huggingface_hub import errors, get_token

    while isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # asked of the cache because the hub did not answer
    code = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return f"its owner grants access one by one; ask for it on the page of {repository}, then set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision or 'main'}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no {repository} on the hub, or it is private; then set HF_TOKEN"
    if code in (401, 403):
        token = f"HF_TOKEN is wrong, out of date or does not cover {repository}" if get_token() else "set HF_TOKEN"
        return f"the hub refuses ({code}): {token}"
    if code is not None:
        return f"the hub answers with {code}; try again later, what has come is kept"
    offline = isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled)
    if offline or re.search("Connect|Timeout", type(error).__name__):
        return f"no connection to the hub ({_first_line(error)}); a folder that is here already can be given"
    return f"{_first_line(error)}; try again, what has come is kept"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:LONGEST] if lines else 'no reason given'}"
