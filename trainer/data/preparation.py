"""From a corpus to shards that are ready to be read, once: cached by content.

<cache>/listings/<key>.json       these files, sizes and times were read before: the folder that came of it
        listings/<key>.card.md    their data card, also as JSON
        datasets/<key>/           data sets of the Hugging Face hub (see huggingface_dataset.py)
        remote/<key>/             files of buckets and web servers (see remote.py)
        tokenizers/<key>.model    trained tokenizers
        tokens/<key>/             prepared corpora (see shards.py)
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import hashlib
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.config import Config, DataConfig
from trainer.config.data import OF_A_SOURCE
from trainer.config.host import cache_root
from trainer.data.cache import beside, hold
from trainer.data.card import card, format_card
from trainer.data.corpus import sources
from trainer.data.document import Source
from trainer.data.encoding import encode
from trainer.data.huggingface_dataset import fetched, stored
from trainer.data.parallel import texts_are
from trainer.data.remote import fetched_remote, stored_remote
from trainer.data.shards import FORMAT, Prepared, open_prepared, write_whole
from trainer.data.survey import Corpus, Progress, kept_parts, survey
from trainer.data.tokenizer import SPECIALS, Tokenizer, train
from trainer.data.verification import check_opened
from trainer.descriptions.readers import reader_of
from trainer.tokenizer_files import content_of, tokenizer_file
from trainer.utils.errors import DiskFull, UserError
from trainer.utils.files import FULL, fsync_folder, sha256
from trainer.utils.urls import is_remote


def prepare(config: Config, progress: Progress | None = None) -> Prepared:
    """The corpus, tokenizer and token shards of a config; made if they are not there yet.

    Safe when several processes ask for the same, and after an interruption: a folder is complete or absent.
    progress(what, done bytes, total bytes) is called during long work. Raises UserError on bad input.
    """
    root = cache_root(config)
    try:
        return _prepare(config, root, progress or (lambda what, done, total: None))
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(
                f"data: the disk of {root} is full; free some space or set run.cache to another folder"
            ) from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
            raise UserError(
                f"data: cannot write to {error.filename or root} ({error.strerror}); "
                "set run.cache to a folder that you own"
            ) from None
        raise


def _prepare(config: Config, root: Path, progress: Progress) -> Prepared:
    imported = _imported(config)
    notes: list[str] = []
    files = _files(config, root, progress, notes)
    listing = _listing(config, root, files, imported)
    folder = _remembered(root, listing)
    if folder is None:
        with _lock(listing, progress):
            folder = _remembered(root, listing)
            if folder is None:
                for note in notes:
                    print(f"isoflop: {note}", file=sys.stderr)
                folder, report = _build(config, root, files, imported, progress)
                report["notes"] = notes
                described = card(config, replace(open_prepared(folder), report=report))
                write_whole(listing.with_suffix(".card.md"), format_card(described).encode())
                write_whole(listing.with_suffix(".card.json"), json.dumps(described, indent=1).encode())
                write_whole(listing, json.dumps({"folder": folder.name, "report": report}).encode())
    report = _listed(listing)["report"]
    hold(folder)
    prepared = replace(
        open_prepared(folder), report={**report, "notes": notes, "card": str(listing.with_suffix(".card.md"))}
    )
    check_opened(prepared)
    if prepared.vocabulary > config.vocabulary:
        raise UserError(
            f"model.vocabulary: {config.vocabulary} is smaller than the tokenizer's {prepared.vocabulary} pieces; "
            f"set model.vocabulary={-(-prepared.vocabulary // 64) * 64}"
        )
    return prepared


def prepared_folder(config: Config) -> Path | None:
    """Where the prepared corpus of a config lies; null where there is none. Nothing is made and nothing fetched."""
    root = cache_root(config)
    try:
        files = sources(config.data, lambda uri, data, notes: _stored(uri, data, root))
    except FileNotFoundError:
        return None
    return _remembered(root, _listing(config, root, files, _imported(config)))


def prepare_tokenizer(config: Config, progress: Progress | None = None) -> Path:
    """The tokenizer of a config, trained if it is not there yet, and nothing encoded: a sentencepiece model file."""
    root = cache_root(config)
    if config.tokenizer.path:
        return _as_one_file(tokenizer_file(config.tokenizer.path), root)
    progress = progress or (lambda what, done, total: None)
    files = _files(config, root, progress)
    return _trained(config, root, files, survey(config, files, progress), progress)


def _stored(uri: str, data: DataConfig, root: Path) -> Path:
    return stored_remote(uri, root) if is_remote(uri) else stored(uri, data.field, root)


def _as_one_file(file: Path, root: Path) -> Path:
    """The file, or its copy in the cache where it says only half without the files beside it."""
    content = content_of(file)
    if content == file.read_bytes():
        return file
    copy = root / "tokenizers" / f"{hashlib.sha256(content).hexdigest()[:16]}.json"
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not copy.exists():
        write_whole(copy, content)
    return copy


def _files(config: Config, root: Path, progress: Progress, notes: list[str] | None = None) -> list[Source]:
    """The corpus's files; data sets of the hub are streamed into the cache first. notes: as `sources` takes them."""

    def fetch(uri: str, data: DataConfig, said: list[str]) -> Path:
        if is_remote(uri):
            with _lock(root / "remote" / _key({"uri": uri}), progress):
                folder = fetched_remote(uri, data, root, progress, said)
                hold(folder.parent)
                return folder
        with _lock(root / "datasets" / _key({"uri": uri}), progress):
            folder = fetched(uri, data.field, root, progress)
            hold(folder)
            return folder

    return sources(config.data, fetch, notes)


def _imported(config: Config) -> Tokenizer | None:
    given = config.tokenizer
    return Tokenizer(tokenizer_file(given.path), given.special_ids) if given.path else None


def _listing(config: Config, root: Path, files: list[Source], imported: Tokenizer | None) -> Path:
    return root / "listings" / f"{_listing_key(config, files, imported)}.json"


def _trained(config: Config, root: Path, files: list[Source], corpus: Corpus, progress: Progress) -> Path:
    model = root / "tokenizers" / f"{_key({'corpus': corpus.digest, **_tokenizer_identity(config)})}.model"
    digest = beside(model, ".sha256")
    if not model.exists():
        progress("training tokenizer", 0, 1)
        trained = train(_training_texts(config, files, corpus), config.tokenizer)
        write_whole(digest, hashlib.sha256(trained).hexdigest().encode())
        write_whole(model, trained)
        progress("training tokenizer", 1, 1)
    hold(model)
    if not _is_whole(model, digest):
        again = f"rm {shlex.quote(str(model))}"
        raise UserError(f"tokenizer: {model} is not as it was made; delete it and it is trained again: {again}")
    return model


def _is_whole(model: Path, digest: Path) -> bool:
    """Whether a trained tokenizer is as it was made; one of version 0.1.0, without a digest, whether it can be read."""
    if digest.exists():
        return sha256(model) == digest.read_text().strip()
    try:
        Tokenizer(model)
    except UserError:
        return False
    return True


def _remembered(root: Path, listing: Path) -> Path | None:
    listed = _listed(listing)
    folder = root / "tokens" / listed["folder"] if listed else None
    return folder if folder is not None and folder.exists() else None


def _listed(listing: Path) -> dict[str, Any]:
    """What a listing says; empty where there is none, or a damaged one, which is made anew."""
    try:
        listed = json.loads(listing.read_bytes())
    except (OSError, ValueError):
        return {}
    whole = (
        isinstance(listed, dict) and isinstance(listed.get("folder"), str) and isinstance(listed.get("report"), dict)
    )
    return listed if whole else {}


def _build(
    config: Config, root: Path, files: list[Source], imported: Tokenizer | None, progress: Progress
) -> tuple[Path, dict[str, Any]]:
    """The folder, and what there is to report of these files beside it."""
    corpus = survey(config, files, progress)
    tokenizer = imported or Tokenizer(_trained(config, root, files, corpus, progress))
    key = _key({"corpus": corpus.digest, "tokenizer": tokenizer.identity})
    folder = root / "tokens" / key
    with _lock(folder, progress):
        if not folder.exists():
            partial = folder.with_name(f"{key}.partial")
            partial.mkdir(parents=True, exist_ok=True)
            encode(kept_parts(config, files, corpus), tokenizer, partial, corpus.digest, corpus.read_bytes, progress)
            os.rename(partial, folder)
            fsync_folder(folder.parent)
    for note in (said := [one.text(origin, texts_are(config.data)) for origin, one in corpus.pairs.items()]):
        print(f"isoflop: {note}", file=sys.stderr)
    report = {
        "date": datetime.date.today().isoformat(),
        "files": dict(Counter(file.origin for file in files)),
        "file_bytes": sum(file.size for file in files),
        "dropped": corpus.dropped,
        **({"pairs": {origin: one.to_json() for origin, one in corpus.pairs.items()}} if said else {}),
    }
    return folder, report


def _training_texts(config: Config, files: list[Source], corpus: Corpus) -> Iterator[str]:
    """Parts of the training split, about tokenizer.training_bytes in all, chosen by their hash.

    The parts of a mixture share them in proportion to their size to the power of data.alpha.
    """
    smoothed = {origin: size**config.data.alpha for origin, size in corpus.train_bytes.items()}
    scale = config.tokenizer.training_bytes / sum(smoothed.values())
    shares = {origin: scale * smoothed[origin] / size for origin, size in corpus.train_bytes.items()}
    for origin, part, held_out in kept_parts(config, files, corpus):
        if not held_out and (shares[origin] >= 1 or _share(part.text) < shares[origin]):
            yield part.text


def _share(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


# --- keys, locks, whole files ---------------------------------------------------------------------------------------


def _tokenizer_identity(config: Config) -> dict[str, Any]:
    return {
        "tokenizer": config.tokenizer.model_dump(mode="json", exclude={"special_ids"}),
        "specials": SPECIALS,
        "alpha": config.data.alpha,
    }


def _listing_key(config: Config, files: list[Source], imported: Tokenizer | None) -> str:
    """Of what 0.1.0 read as it is read now, the key that it had then."""
    data = config.data
    unchanged = {name for name, value in data.introduced().items() if getattr(data, name) == value}
    left_out = {"path", "sequence_length", "packing", "boundaries", "sources", "stages", "tasks", "mixing"}
    left_out |= {"parallel", "parallel_share"} | unchanged
    own = {
        name: source.model_dump(mode="json", include=set(OF_A_SOURCE) - {"path"})
        for name, source in data.sources.items()
    }
    return _key(
        {
            "format": FORMAT,
            "files": [_file_identity(file) for file in files],
            "data": data.model_dump(mode="json", exclude=left_out),
            "tokenizer": imported.identity if imported else _tokenizer_identity(config),
            **({"sources": own} if any(any(keys.values()) for keys in own.values()) else {}),
        }
    )


def _file_identity(file: Source) -> list[Any]:
    """How it is read belongs to it where its name alone does not say that."""
    named = file.reader == reader_of(file.path.name).name and file.encoding == "utf-8"
    known = [file.origin, file.name, str(file.path.absolute()), file.size, file.mtime_ns]
    own = known if named else [*known, file.reader, file.encoding]
    return own if file.partner is None else [*own, _file_identity(file.partner)]


def _key(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _lock(path: Path, progress: Progress) -> Iterator[None]:
    """One process at a time; the lock dies with its holder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that prepares the same", 0, 1)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
