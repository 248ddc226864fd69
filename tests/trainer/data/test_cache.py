"""A damaged cache is one line that says what to delete; `data clean` lists the cache and frees it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.cli.main import main
from trainer.compose import compose
from trainer.config import Config
from trainer.config.host import cache_root
from trainer.data import prepare
from trainer.data.cache import entries, hold
from trainer.data.remote import COMPLETE, FILES, fetched_remote


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that another process has made: this one would hold what it reads."""
    cache = tmp_path_factory.mktemp("made") / "cache"
    subprocess.run([sys.executable, "-m", "trainer", "data", *words(corpus, cache)], check=True, capture_output=True)
    return cache


def words(corpus: Path, cache: Path) -> list[str]:
    return ["data=text", f"data.path={corpus}", "tokenizer.vocabulary=512", f"run.cache={cache}"]


@pytest.fixture
def cache(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "cache"))


@pytest.fixture
def small(corpus: Path, cache: Path) -> list[str]:
    return words(corpus, cache)


def the(cache: Path, pattern: str) -> Path:
    (found,) = cache.glob(pattern)
    return found


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "shard, truncated": ("tokens/*/train-00000.tokens", lambda file: os.truncate(file, 100)),
    "shard, a flipped bit": ("tokens/*/train-00000.tokens", flip),
    "index, missing": ("tokens/*/train.documents.npy", Path.unlink),
    "tokenizer of the shards, missing": ("tokens/*/tokenizer.model", Path.unlink),
    "manifest, missing": ("tokens/*/manifest.json", Path.unlink),
    "manifest, binary": ("tokens/*/manifest.json", lambda file: file.write_bytes(bytes(range(256)))),
    "manifest, a list": ("tokens/*/manifest.json", lambda file: file.write_text("[]")),
    "tokenizer, a flipped bit": ("tokenizers/*.model", flip),
    "tokenizer, truncated": ("tokenizers/*.model", lambda file: os.truncate(file, 100)),
    "tokenizer, empty": ("tokenizers/*.model", lambda file: os.truncate(file, 0)),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_one_line_and_its_command_mends_it(
    what: str, small: list[str], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint = prepare(compose(small)).fingerprint
    pattern, damage = DAMAGES[what]
    damage(the(cache, pattern))
    if pattern.startswith("tokenizers"):  # read again only where shards are made from it
        shutil.rmtree(cache / "tokens")
    capsys.readouterr()
    assert main(["data", *small]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("isoflop: ")]
    command = line.rpartition(": ")[2]
    assert command.startswith(("rm -r ", "rm "))
    subprocess.run(command, shell=True, check=True)
    assert prepare(compose(small)).fingerprint == fingerprint


@pytest.mark.parametrize("content", [b"", b'{"folder": "x"', b'{"folder": 1}', b"[]", b"\xff\xfe"])
def test_a_damaged_listing_is_made_anew(content: bytes, small: list[str], cache: Path) -> None:
    listing = the(cache, "listings/????????????????.json")
    before = json.loads(listing.read_bytes())
    listing.write_bytes(content)
    prepare(compose(small))
    assert json.loads(listing.read_bytes()) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / COMPLETE).write_text("{"),
        lambda folder: (folder / COMPLETE).write_text("[]"),
        lambda folder: next((folder / FILES).iterdir()).unlink(),
        lambda folder: os.truncate(next((folder / FILES).iterdir()), 3),
    ],
)
def test_damaged_downloads(damage: Callable[[Path], object], tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    from trainer.data.remote import _folder

    folder = _folder("s3://bucket/a.txt", tmp_path)
    (folder / FILES).mkdir(parents=True)
    (folder / FILES / "a.txt").write_text("some text")
    entry = {"place": "bucket/a.txt", "name": "a.txt", "size": 9, "version": None, "sha256": ""}
    (folder / COMPLETE).write_text(json.dumps({"url": "s3://bucket/a.txt", "files": [entry], "skipped": {}}))
    ask = lambda: fetched_remote("s3://bucket/a.txt", Config().data, tmp_path, lambda *_: None, [])  # noqa: E731
    assert ask() == folder / FILES
    damage(folder)
    with pytest.raises(ValueError, match=rf"^data\.path: .* in {folder}; .* fetched again: rm -r {folder}$"):
        ask()


def test_clean_lists_and_deletes_nothing_by_itself(
    small: list[str], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    before = sorted(cache.rglob("*"))
    assert main(["data", "clean", small[-1], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cache"] == str(cache)
    assert sorted(one["kind"] for one in found["entries"]) == ["listings", "tokenizers", "tokens"]
    (shards,) = [one for one in found["entries"] if one["kind"] == "tokens"]
    assert shards["corpus"].startswith("text: 60 files")
    assert shards["bytes"] == sum(file.stat().st_size for file in the(cache, "tokens/????????????????").iterdir())
    assert main(["data", "clean", small[-1]]) == 0
    assert shards["entry"] in capsys.readouterr().out
    assert sorted(cache.rglob("*")) == before


USER = """
import sys
from pathlib import Path
from trainer.data.cache import hold
hold(Path(sys.argv[1]))
print()
input()
"""


def test_clean_leaves_alone_what_a_process_uses(
    small: list[str], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = the(cache, "tokens/????????????????")
    with subprocess.Popen(
        [sys.executable, "-c", USER, str(shards)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        assert user.stdout is not None
        user.stdout.readline()
        assert main(["data", "clean", small[-1], "all=true"]) == 0
        out = capsys.readouterr().out
        assert f"in use    tokens/{shards.name}\n" in out
        assert "deleted   2 entries" in out
        assert [entry.kind for entry in entries(cache)] == ["tokens"]
        user.communicate(b"\n")
    assert main(["data", "clean", small[-1], f"tokens/{shards.name}"]) == 0
    assert "deleted   1 entry" in capsys.readouterr().out
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_clean_by_age(cache: Path, small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    model = the(cache, "tokenizers/*.model")
    long_ago = model.stat().st_mtime - 40 * 86400
    other = model.with_name("0123456789abcdef.model")
    other.write_bytes(b"")
    os.utime(other, (long_ago, long_ago))
    assert main(["data", "clean", small[-1], "older=30d"]) == 0
    assert not other.exists()
    assert model.exists()


@pytest.mark.parametrize("word", ["older=3", "older=1y", "all=yes", "tokens/0123", "model.depth=3"])
def test_clean_of_what_is_not_there(
    word: str, cache: Path, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(cache.rglob("*"))
    capsys.readouterr()
    assert main(["data", "clean", small[-1], word]) == 2
    assert capsys.readouterr().err.startswith("isoflop: data clean: ")
    assert sorted(cache.rglob("*")) == before


def test_a_cache_that_cannot_be_written_is_used_all_the_same(tmp_path: Path) -> None:
    hold(tmp_path / "no folder" / "entry")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x"}, "/x/isoflop"),
        ({"XDG_CACHE_HOME": "relative"}, "~/.cache/isoflop"),
        ({"XDG_CACHE_HOME": ""}, "~/.cache/isoflop"),
        ({"XDG_CACHE_HOME": "/x", "ISOFLOP_CACHE": "/y"}, "/y"),
    ],
)
def test_where_the_cache_is(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISOFLOP_CACHE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_root(Config()) == Path(expected).expanduser()
