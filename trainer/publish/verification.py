"""`isoflop verify`: a publication against its own sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from trainer import __version__
from trainer.publish.derived import derive
from trainer.publish.grid_again import grids_again
from trainer.publish.law_again import law_again
from trainer.publish.manifest import FILE, RAW, Fingerprint, Manifest, read_manifest
from trainer.publish.sources import LEDGER, collect
from trainer.utils.bounded import no_file, read_bytes
from trainer.utils.errors import UserError, cut

LONGEST = 1 << 34
SHOWN = 20  # lines about what differs


@dataclass(frozen=True)
class Verified:
    """What was found to be as it was published."""

    manifest: Manifest
    notes: list[str]


def verify(folder: Path, *, root: Path | None = None, claim: str | None = None) -> Verified:
    """Hash every file of a published folder and derive every number again from its sources.

    root: of the runs, where the publication holds only their hashes. claim: what a paper quotes, or its beginning.
    Raises UserError with a line for each file that is not as it was published, and what differs in it.
    """
    manifest = read_manifest(folder)
    if claim is not None and not (len(claim) >= 8 and manifest.claim.startswith(claim.lower())):
        raise UserError(f"{folder}: its claim is {manifest.claim[:12]}, and {claim} was quoted")
    with _sources(folder, manifest, root) as (raw, wrong):
        if wrong:  # what is derived from changed files would differ everywhere
            _refuse([*wrong, *_changed(folder, manifest.derived), *_strangers(folder, manifest)])
        again = derive(raw, manifest.sources, manifest.settings)
        _refuse([*_differences(folder, manifest, again), *_strangers(folder, manifest)])
        found = [law_again(raw), grids_again(raw)]
    _refuse([f"{folder / RAW / line}" for wrong, _ in found for line in wrong])
    return Verified(manifest, [note for _, notes in found for note in notes])


def _refuse(wrong: list[str]) -> None:
    if wrong:
        more = [f"... and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise UserError("\n".join([*wrong[:SHOWN], *more]))


@contextmanager
def _sources(folder: Path, manifest: Manifest, root: Path | None) -> Iterator[tuple[Path, list[str]]]:
    """The folder of the sources, and a line for each that is not as it was."""
    if manifest.copied:
        if root is not None:
            raise UserError(f"root: {folder} holds its sources; leave it out")
        yield folder / RAW, _changed(folder / RAW, manifest.sources)
        return
    if root is None:
        raise UserError(f"{folder}: holds the hashes of its sources alone; name their root with root=<folder>")
    with TemporaryDirectory(prefix="isoflop-verify-") as temporary:
        there, here = collect(root), Path(temporary) / RAW
        for name in manifest.sources.keys() & there.keys():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_bytes(there[name])
        wrong = [line.replace(str(here), str(root)) for line in _changed(here, manifest.sources)]
        yield here, [line for line in wrong if not line.startswith(str(root / LEDGER))]


def _changed(folder: Path, files: Mapping[str, Fingerprint]) -> list[str]:
    """A line for each file that is missing or is not as it was."""
    wrong = []
    for name, one in files.items():
        path = folder / name
        if missing := no_file(path):
            wrong.append(f"{path}: {missing}")
        elif difference := one.difference(read_bytes(path, LONGEST)):
            wrong.append(f"{path}: {difference}")
    return wrong


def _strangers(folder: Path, manifest: Manifest) -> list[str]:
    """A line for each file that was not published; whoever reads the folder would take it for a part."""
    known = {FILE, *manifest.derived, *(f"{RAW}/{name}" for name in manifest.sources if manifest.copied)}
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
    return [f"{folder / name}: is no part of what was published" for name in found if name not in known]


def _differences(folder: Path, manifest: Manifest, again: dict[str, bytes]) -> list[str]:
    """A line for each derived file that its sources do not give: the first line of it that differs."""
    wrong = []
    for name in sorted({*manifest.derived, *again}):
        path = folder / name
        if name not in again:
            wrong.append(f"{path}: its sources give no such file{_by(manifest)}")
        elif missing := no_file(path):
            wrong.append(f"{path}: {missing}")
        elif (content := read_bytes(path, LONGEST)) != again[name]:
            byte = manifest.derived[name].difference(content) if name in manifest.derived else None
            wrong.append(f"{path}: {f'{byte}; ' if byte else ''}{_first(content, again[name])}{_by(manifest)}")
        elif name not in manifest.derived:
            wrong.append(f"{path}: its sources give it, and {FILE} does not name it")
        elif difference := manifest.derived[name].difference(content):
            wrong.append(f"{path}: {difference}")
    return wrong


def _first(content: bytes, derived: bytes) -> str:
    """The first line that differs, on both sides."""
    there, here = (text.decode(errors="replace").splitlines() for text in (content, derived))
    for number in range(max(len(there), len(here))):
        one, other = (lines[number] if number < len(lines) else "nothing" for lines in (there, here))
        if one != other:
            return f"line {number + 1}: {_about(one, other)} stands, its sources give {_about(other, one)}"
    return "blanks or line ends differ"


def _about(line: str, other: str, around: int = 24) -> str:
    """The part of a line in which it first differs from another one."""
    at = next((i for i, (a, b) in enumerate(zip(line, other, strict=False)) if a != b), min(len(line), len(other)))
    return repr(cut(line[max(0, at - around) : at + around].strip(), 80))


def _by(manifest: Manifest) -> str:
    return (
        "" if manifest.isoflop == __version__ else f" (published by isoflop {manifest.isoflop}, this is {__version__})"
    )
