"""Bad input of any kind is one to three lines and exit code 2, soon, and nothing is written.

Beside inputs written by hand there are generated ones: every key of the schema with every kind of wrong value. A sample
of these, chosen by a fixed seed, goes through the command; `-m slow` sends all of them.
"""

from __future__ import annotations

import copy
import math
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import yaml

from trainer.cli import main as command
from trainer.cli.main import VERBS, main
from trainer.compose.interpolations import check_interpolations
from trainer.compose.reading import read
from trainer.config import Config
from trainer.config.validate import keys, section_of, validate
from trainer.utils.bounded import check_yaml, parse_json, read_bytes
from trainer.utils.errors import LONGEST_LINE, UserError

SECONDS = 60
SAMPLE = 60  # generated words that go through the command here
COMPOSING = ("plan", "model", "train", "launch --dry-run", "data", "data show", "tokenizer", "calibrate", "preflight")


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """What does not end is an error of the test, wherever it hangs."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The lines with which the command refuses these words."""
    before = set(Path().iterdir())
    code = main(list(words))
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert code == 2, (words, code, said)
    assert 1 <= len(lines) <= 3 and all(line.startswith("isoflop: ") for line in lines), (words, lines)
    assert all(len(line) <= LONGEST_LINE + 100 for line in lines) and "Traceback" not in said.err
    assert set(Path().iterdir()) == before, words
    return lines


# --- generated: keys x kinds of wrongness ---

KINDS: dict[str, Any] = {
    "text": "fast",
    "empty text": "",
    "null": None,
    "negative": -1,
    "not a number": math.nan,
    "infinite": math.inf,
    "huge": 1e308,
    "more digits than a double": 10**60,
    "a part": 2.5,
    "a truth": True,
    "a list": [1, 2],
    "a list of lists": [[1], [2]],
    "a mapping": {"a": 1},
    "a deep mapping": {"a": {"b": [{"c": 1}]}},
    "no Latin": "é中\U0001f600",
    "a control character": "a\x01b",
    "long": "x" * 3000,
}


def _kinds_of(annotation: Any) -> set[str]:
    """What a key may hold, as far as it decides about the values above: number, text, truth, list, table, null."""
    if get_origin(annotation) is Annotated:
        return _kinds_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*map(_kinds_of, get_args(annotation)))
    if get_origin(annotation) is Literal:
        return set().union(*(_kinds_of(type(one)) for one in get_args(annotation)))
    simple = {bool: "truth", int: "number", float: "number", str: "text", type(None): "null"}
    if annotation in simple:
        return {simple[annotation]}
    return {"list" if get_origin(annotation) is tuple else "table"}


def _annotation(key: str) -> Any:
    *path, name = key.split(".")
    section = section_of(path, Config) if path else Config
    assert section is not None
    return section.model_fields[name].annotation


def _surely_wrong(key: str, kind: str) -> bool:
    """By the type alone, whatever the bounds are."""
    takes = _kinds_of(_annotation(key))
    wants = {
        **{"not a number": set(), "infinite": set()},
        "text": {"text", "list", "table"},
        "null": {"null"},
        "a truth": {"truth", "table", "list"},
        "a list of lists": {"table", "list"},
        "a mapping": {"table"},
        "a deep mapping": {"table"},
    }
    return kind in wants and not (takes & wants[kind]) and not takes & {"table"}


CASES = [(key, kind) for key in keys() for kind in KINDS]
CHANCE = random.Random(0)


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return read([])


def _given(plain: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(plain)
    *path, name = key.split(".")
    section = changed
    for part in path:
        section = section.setdefault(part, {})
    section[name] = value
    return changed


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_with_every_kind_of_value(kind: str, plain: dict[str, Any]) -> None:
    """It is taken, or refused in lines of which one names the key; what its type excludes is never taken."""
    sure = 0
    for key in keys():
        try:
            validate(_given(plain, key, KINDS[kind]))
        except UserError as error:
            lines = str(error).splitlines()
            assert 1 <= len(lines) <= 3 and any(key.split(".")[0] in line for line in lines), (key, lines)
            sure += _surely_wrong(key, kind)
        else:
            assert not _surely_wrong(key, kind), f"{key}: {KINDS[kind]!r} is taken"
    assert sure or kind not in ("text", "not a number", "a mapping")


def _words(key: str, kind: str) -> str:
    value = KINDS[kind]
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf).removesuffix("...\n").strip()
    return f"{key}={text}"


def _generated() -> list[str]:
    """Words that are wrong by their key or by the type of their value."""
    wrong = [_words(key, kind) for key, kind in CASES if _surely_wrong(key, kind) and kind in ("text", "a mapping")]
    for key in keys():
        group = key.partition(".")[0]
        wrong += [f"{key}x=1", f"{group}.zzz=1" if "." in key else "zzz=1", f"{key}=${{nowhere.at.all}}"]
        wrong += [f"{key}=${{oc.env:NO_SUCH_VARIABLE_HERE}}", f"{key}=[[[", f"{key}.a.b.c=1"]
        wrong += [f"{key}=" + "[" * 60 + "]" * 60, f"{key}={'9' * 200}"]
    return wrong


def test_there_are_hundreds() -> None:
    assert len(CASES) > 400 and len(_generated()) > 400


@pytest.mark.parametrize("number", range(SAMPLE))
def test_a_sample_through_the_command(number: int, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    word = random.Random(number).choice(_generated())
    refused(capsys, *COMPOSING[number % len(COMPOSING)].split(), word)


@pytest.mark.slow
@pytest.mark.parametrize("key", keys())
def test_all_through_the_command(key: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, word in enumerate(one for one in _generated() if one.startswith(f"{key}=")):
        signal.alarm(SECONDS)
        refused(capsys, *COMPOSING[number % len(COMPOSING)].split(), word)


# --- words written by hand ---

LONG, MANY = "9" * 100_000, ",".join(map(str, range(40)))
RUN_VERBS = (
    "eval",
    "generate",
    "report",
    "export",
    "finetune",
    "cancel",
    "status",
    "ledger",
    "fit",
    "compare",
    "transfer",
)
BY_HAND = [
    *(f"{verb} {name}" for verb in RUN_VERBS for name in ("pipe", "loop", "nowhere", "bytes.bin", "/dev/null")),
    *(f"{verb} {'x' * 5000}" for verb in RUN_VERBS if verb != "cancel"),
    *(f"plan model={name}" for name in ("pipe.yaml", "loop.yaml", "folder.yaml", "bytes.yaml", "empty.yaml")),
    *(
        f"plan model={name}"
        for name in ("bomb.yaml", "deep.yaml", "itself.yaml", "digits.yaml", "zero.yaml", "latin.yaml")
    ),
    *(f"plan --config-dir {name} seed=1" for name in ("pipe", "loop", "bytes.bin", "/dev/null", "nowhere")),
    *(f"plan {word}" for word in (f"model.depth={LONG}", f"model.name={LONG}", "model.depth=" + "[" * 60_000)),
    *(f"plan {word}" for word in ("model.name=" + "${" * 5000, "model.name=" + "f(" * 3000, "model.depth={a:" * 99)),
    *(f"plan {word}" for word in ("model.depth=100000000", "model.width=1000000000", "budget.steps=1e18")),
    *(
        f"plan {word}"
        for word in ("model.vocabulary=1e15", "budget.tokens=1e30", "budget.flop=1e300", "model.size=1e30")
    ),
    *(f"plan {word}" for word in ("budget.hours=1e300", f"documents={'9' * 5000}", "documents=²", "budget.steps=²")),
    *(f"{verb} seed=range(0,1000000000)" for verb in ("plan -m", "train -m", "launch -m --dry-run", "sweep --plan")),
    *(
        f"plan -m {word}"
        for word in ("seed=shuffle(range(0,1000000000))", "optim.lr=range(0,1,1e-12)", "seed=range(0,9,0)")
    ),
    f"plan -m seed={MANY} model.depth={MANY} optim.batch_size={MANY} budget.steps={MANY}",
    "sweep search=optuna trials=1000000000 optim.lr=interval(1e-4,1e-2) --plan",
    "sweep search=optuna seed=range(0,1000000000) --plan",
    f"sweep jobs={'9' * 5000} seed=1,2 --plan",
    *(
        f"plan tokenizer.path={name}"
        for name in ("pipe", "/dev/zero", "/dev/null", "bytes.bin", "deep.json", "folder.yaml")
    ),
    *(f"fit {name}" for name in ("pipe", "bytes.bin", "empty.yaml", "/dev/zero", "quote.csv")),
    f"fit good.csv replicates={'9' * 5000}",
    f"price gpu_hours={'9' * 5000}",
    "price gpu_hours=1e400",
    *(
        f"data data=text data.path={name}"
        for name in ("/proc/**", "/sys/**", "/*/*/*", "**/**/**", "/dev/zero", "pipe")
    ),
    f"data show step={'9' * 5000}",
    "train resume=pipe",
    "train resume=/dev/zero",
    "train run.root=/dev/null",
    "new /dev/null",
    f"new {'x' * 5000}",
    f"schema {'x' * 100_000}",
    "schema out=folder.yaml",
    "plan plugins=pipe",
    "plan plugins=/dev/zero",
    "plan \udcff",
    "\udcff",
    "plan model.name=\udcff",
    "import loop",
    "import pipe to=out",
]


def bomb() -> str:
    """Nine levels of nine aliases: 9^9 values."""
    lines = ["a: &a [1,1,1,1,1,1,1,1,1]"]
    for one, other in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{other}: &{other} [{','.join([f'*{one}'] * 9)}]")
    return "\n".join(lines)


@pytest.fixture
def hostile(here: Path) -> Path:
    """Files that nobody meant well."""
    texts = {
        "bomb.yaml": bomb(),
        "deep.yaml": "a: " + "[" * 200_000 + "]" * 200_000,
        "itself.yaml": "depth: &a [*a]",
        "digits.yaml": "depth: " + "9" * 10_000_000,
        "empty.yaml": "",
        "zero.yaml": "depth: 3\0",
        "deep.json": "[" * 200_000,
        "quote.csv": 'parameters,tokens,loss\n"' + "a" * 500_000,
        "good.csv": "parameters,tokens,loss\n1,1,1\n",
    }
    for name, text in texts.items():
        (here / name).write_text(text)
    for name in ("bytes.yaml", "bytes.bin"):
        (here / name).write_bytes(bytes(range(256)) * 64)
    (here / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    (here / "folder.yaml").mkdir()
    for name in ("loop", "loop.yaml"):
        (here / name).symlink_to(name)
    for name in ("pipe", "pipe.yaml"):
        os.mkfifo(here / name)
    return here


@pytest.mark.parametrize("words", BY_HAND, ids=lambda words: ascii(words[:60]))
def test_by_hand(words: str, hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, *words.split(" "))


@pytest.mark.parametrize(
    "text",
    [
        bomb(),
        "a: &a [*a]",
        "[" * 100,
        "{a: " * 100,
        "".join(" " * n + "a:\n" for n in range(60)),
        "a: " + "1" * 101,
        "a: 0x" + "f" * 200,
        "a: " + "1:" * 100 + "1",
        "a: '" + "${" * 60 + "'",
        "".join(f"k{n}: 1\n" for n in range(20_001)),
        "x" * (1 << 18) + "x",
        "",
    ],
)
def test_yaml_is_bounded(text: str) -> None:
    with pytest.raises(UserError) as caught:
        check_yaml(text, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml") and len(str(caught.value).splitlines()) == 1


def test_aliases_are_counted_as_what_they_stand_for() -> None:
    twice = "base: &base {lr: 1, beta: [1, 2]}\n" + "".join(f"run{n}: *base\n" for n in range(1000))
    check_yaml(twice, "mine.yaml")
    with pytest.raises(UserError, match="more than 20,000 values"):
        check_yaml(twice + "".join(f"more{n}: *base\n" for n in range(5000)), "mine.yaml")


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "9" * 5000, "", "\0"])
def test_json_that_cannot_be_read_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize("name", ["pipe", "loop", "folder.yaml", "nowhere", "/dev/zero", "a\0b"])
def test_only_plain_files_are_opened(name: str, hostile: Path) -> None:
    with pytest.raises(UserError):
        read_bytes(Path(name))
    assert read_bytes(Path("good.csv"), 100).startswith(b"parameters")
    with pytest.raises(UserError, match="larger than"):
        read_bytes(Path("good.csv"), 5)


DOUBLED = [f"++run.x{n}=${{run.x{n - 1}}}${{run.x{n - 1}}}" for n in range(1, 40)]


def test_interpolations_that_double(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [line] = refused(capsys, "plan", "++run.x0=ab", *DOUBLED)
    assert "brings more than 10,000 values" in line


def test_interpolations_are_counted_once_and_circles_end() -> None:
    many = {"a": "x", "b": {f"k{n}": "${a} ${.k0}" for n in range(3000)}}
    check_interpolations(many)
    check_interpolations({"a": "${b}", "b": "${c.d}", "c": {"d": "${..a}"}})
    with pytest.raises(UserError, match="brings more than"):
        check_interpolations({"c": ["${b}"] * 4, **many, "d": "${b}" * 4})


# --- what isoflop itself gets wrong ---


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("error", [KeyError("depth"), RecursionError("too deep"), MemoryError(), OSError(5, "no file")])
def test_a_failure_of_ours_is_one_line_and_a_file(
    verb: str, error: Exception, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(words: list[str]) -> int:
        raise error

    monkeypatch.setitem(VERBS, verb, broken)
    monkeypatch.setattr("tempfile.tempdir", str(here))
    assert command.main([verb, "x"]) == 1
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert line.startswith(f"isoflop: internal error: {type(error).__name__}") and not said.out
    [log] = here.glob("isoflop-*.log")
    assert line.endswith(str(log)) and "in broken" in log.read_text() and log.stat().st_mode & 0o077 == 0


def test_digits_are_not_converted_without_a_limit() -> None:
    """What the limits above rest on."""
    assert 0 < sys.get_int_max_str_digits() <= 10_000
