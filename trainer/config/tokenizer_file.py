"""The rows of the embedding that an existing tokenizer needs, known before any work."""

from __future__ import annotations

from trainer.config.whole import Config
from trainer.tokenizer_files import ids, tokenizer_file
from trainer.utils.errors import UserError

FEW = 0.1  # share of the embedding that may be without a piece before it is said


def with_rows(config: Config) -> Config:
    """The same run with the rows that its `tokenizer.path` needs, where `model.vocabulary` leaves them open.

    It stays null where that comes to the same. Raises UserError where the tokenizer cannot be read, or has more pieces
    than there are rows.
    """
    rows, path = config.model.vocabulary, config.tokenizer.path
    if path is None or (rows is not None and not tokenizer_file(path).exists()):  # what needs it will tell
        return config
    found = ids(path)
    wanted = -(-found // 64) * 64
    if rows is None:
        if wanted == config.vocabulary:
            return config
        return config.model_copy(update={"model": config.model.model_copy(update={"vocabulary": wanted})})
    if rows < found:
        raise UserError(
            f"model.vocabulary: {rows} is smaller than the {found} pieces of tokenizer.path={path}; "
            f"set model.vocabulary={wanted}, or null"
        )
    return config


def unused_rows(config: Config) -> str | None:
    """A line that tells of rows of the embedding that no piece has, where they are many; None where they are few."""
    rows, path = config.vocabulary, config.tokenizer.path
    try:
        used = config.tokenizer.vocabulary if path is None else ids(path)
    except UserError:  # it lies elsewhere, and the run has been made
        return None
    if rows - used <= FEW * rows:
        return None
    return (
        f"{rows - used:,} of {rows:,} rows of the embedding are unused: the tokenizer has {used:,} pieces; "
        f"model.vocabulary=null has {-(-used // 64) * 64:,} rows"
    )
