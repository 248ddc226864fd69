"""Whatever is changed in a published folder is found and named; what is not changed is derived again."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from trainer.cli.main import main
from trainer.publish import publish, verify
from trainer.publish.manifest import FILE, RAW, Fingerprint, fingerprints, read_manifest
from trainer.utils.errors import UserError

MUTATIONS = 20


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def refused(folder: Path, **more: object) -> list[str]:
    with pytest.raises(UserError) as told:
        verify(folder, **more)  # type: ignore[arg-type]
    return str(told.value).splitlines()


def test_what_was_published_is_derived_again(published: Path) -> None:
    found = verify(published)
    names = {str(path.relative_to(published)) for path in files_of(published)}
    said = {FILE, *found.manifest.derived, *(f"{RAW}/{name}" for name in found.manifest.sources)}
    assert names == said and {"index.html", "published.json", "paper.tex", "CITATION.cff"} <= names
    assert found.notes == ["default/grid.json: each of its 1 scores stands in a run"] or "grid.json" in found.notes[0]
    verify(published, claim=found.manifest.claim[:12])


def test_published_twice_is_the_same_bytes(root: Path, published: Path, tmp_path: Path) -> None:
    publish(root, tmp_path / "again", {"name": "Ours & theirs", "authors": ["A. One", "B_Two"]})
    for path in files_of(published):
        assert (tmp_path / "again" / path.relative_to(published)).read_bytes() == path.read_bytes(), path


def test_twenty_of_twenty_mutations_are_found(published: Path, tmp_path: Path) -> None:
    """A byte of a file drawn by a seed, every kind of file in turn: the file and the byte are named, and what stood."""
    chance, missed = random.Random(24), []
    folder = tmp_path / "copy"
    shutil.copytree(published, folder)
    kinds: dict[str, list[Path]] = {}
    for path in files_of(folder):
        if path.stat().st_size:
            kinds.setdefault(f"{RAW if RAW in path.parts else 'made'}{path.suffix}", []).append(path)
    assert {"made.tex", "made.json", "made.html", "raw.jsonl", "raw.yaml"} <= kinds.keys()
    for number in range(MUTATIONS):
        path = chance.choice(kinds[sorted(kinds)[number % len(kinds)]])
        content = path.read_bytes()
        places = [place for place, byte in enumerate(content) if number % 2 or chr(byte).isdigit()]
        place = chance.choice(places or range(len(content)))
        old = content[place]
        new = chance.choice([byte for byte in (b"0123456789" if chr(old).isdigit() else range(256)) if byte != old])
        path.write_bytes(content[:place] + bytes([new]) + content[place + 1 :])
        lines = refused(folder)
        named = str(path.relative_to(folder)) in lines[0]
        if path.name != FILE:  # of itself a manifest says only that it is changed
            named = named and f"byte {place:,} " in lines[0] and f"was {bytes([old])!r}" in lines[0]
        missed += [] if named and len(lines) == 1 else [(path, place, lines)]
        path.write_bytes(content)
    assert missed == []
    verify(folder)


def test_a_changed_number_whose_hashes_were_made_to_fit_is_found(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(published, folder)
    table = folder / "tables" / "ledger.tex"
    table.write_text(table.read_text().replace("4 kWh", "3 kWh"))
    before = read_manifest(folder)
    derived = {name: (folder / name).read_bytes() for name in before.derived}
    forged = type(before)(before.settings, before.sources, fingerprints(derived), before.copied)
    (folder / FILE).write_text(forged.to_text())
    [line] = refused(folder)
    assert "tables/ledger.tex" in line and "3 kWh" in line and "4 kWh" in line


def test_changed_readings_whose_hashes_were_made_to_fit_do_not_fit_the_claim(published: Path, tmp_path: Path) -> None:
    claim = read_manifest(published).claim
    runs = tmp_path / "runs"
    shutil.copytree(published / RAW, runs)
    reading = next(runs.glob("*/a0/energy-*.jsonl"))
    reading.write_text(reading.read_text().replace("3600000", "1800000"))
    forged = publish(runs, tmp_path / "forged", {"name": "Ours & theirs", "authors": ["A. One", "B_Two"]})
    verify(tmp_path / "forged")
    assert forged.claim != claim
    assert refused(tmp_path / "forged", claim=claim) == [
        f"{tmp_path / 'forged'}: its claim is {forged.claim[:12]}, and {claim} was quoted"
    ]


@pytest.mark.parametrize("where", ["raw", "tables"])
def test_a_missing_a_longer_and_an_added_file(published: Path, tmp_path: Path, where: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(published, folder)
    path = sorted(one for one in (folder / where).rglob("*") if one.is_file())[0]
    content = path.read_bytes()
    path.unlink()
    assert refused(folder) == [f"{path}: there is no such file"]
    path.write_bytes(content + b"\n")
    assert f"{len(content) + 1:,} bytes where {len(content):,} were" in refused(folder)[0]
    path.write_bytes(content)
    (folder / where / "more.json").write_text("{}")
    assert refused(folder) == [f"{folder / where / 'more.json'}: is no part of what was published"]


def test_by_reference_the_root_is_hashed(published: Path, root: Path, tmp_path: Path) -> None:
    runs, folder = tmp_path / "runs", tmp_path / "paper"
    shutil.copytree(root, runs)
    publish(runs, folder, {}, copied=False)
    assert not (folder / RAW).exists()
    assert refused(folder) == [f"{folder}: holds the hashes of its sources alone; name their root with root=<folder>"]
    verify(folder, root=runs)
    events = next(runs.glob("*/b0/events.jsonl"))
    events.write_text(events.read_text().replace("new", "old"))
    [line] = refused(folder, root=runs)
    assert line.startswith(f"{events}: ")


def test_a_single_byte_is_found_in_a_long_file() -> None:
    content = random.Random(0).randbytes(300_000)
    one = Fingerprint.of(content)
    for place in (0, 65_535, 65_536, 299_999):
        changed = bytearray(content)
        changed[place] ^= 0x55
        assert f"byte {place:,} " in (one.difference(bytes(changed)) or "")
    assert one.difference(content) is None
    assert one.difference(content[:5] + content[6:7] + content[5:6] + content[7:]) == "more than one byte is changed"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["publish", "{root}"], "publish: to: the name of a new folder is missing"),
        (["publish", "{root}", "to={there}"], "{there}: is there already"),
        (["publish", "{there}/nothing", "to={new}"], "{there}/nothing: no such folder"),
        (["publish", "{there}/tables", "to={new}"], "{there}/tables: no runs here"),
        (["publish", "{root}", "to={root}/paper"], "{root}/paper: lies below {root}"),
        (["publish", "{root}", "to={new}", "run=a9"], "run: a9: no such run"),
        (["publish", "{root}", "to={new}", "raw=copied"], "publish: raw: 'copied' given, copy or reference wanted"),
        (["publish", "{root}", "to={new}", "author=me"], "publish: author: no such option (did you mean 'authors'?)"),
        (["verify", "{root}"], "{root}: nothing published here"),
        (["verify", "{there}", "claim=abc"], "{there}: its claim is"),
        (["verify", "{there}", "rerun=a9"], "rerun: a9: no such run"),
        (["verify", "{there}", "rerun="], "verify: rerun: a value is missing"),
    ],
)
def test_what_a_person_got_wrong_is_one_line(
    words: list[str], line: str, root: Path, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"root": root, "there": published, "new": tmp_path / "new"}
    assert main([word.format(**names) for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"isoflop: {line.format(**names)}") and said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_hash_fails_ends_with_2(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(published, folder)
    assert main(["verify", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["claim"] == read_manifest(published).claim
    page = folder / "index.html"
    page.write_bytes(page.read_bytes().replace(b"</html>", b"</htmk>"))
    assert main(["verify", str(folder)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "index.html: byte" in said.err
