"""Every verb is metered or says why it is not, also one that nobody thought of here, and is booked where it belongs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.books.cost_records import cost_records
from trainer.cli import main as command
from trainer.cli.metering import DEEPEST, SHOWING, UNMETERED, place_of
from trainer.config import Config
from trainer.utils.errors import UserError

SLOW_VERB = """
import sys, time
from trainer.cli import main as command
command.VERBS["linger"] = lambda words: print("begun", flush=True) or time.sleep(60) or 0
sys.argv.insert(1, "linger")
sys.exit(command.main())
"""


@pytest.fixture
def tmp_path(tmp_path) -> Path:
    """Farther below the folder that all tests share, where some leave records, than a command looks for its root."""
    deeper = tmp_path.joinpath(*"abc"[:DEEPEST])
    deeper.mkdir(parents=True)
    return deeper


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """Two runs of the project `paper`, in a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    for name in ("a", "b"):
        run = tmp_path / "runs" / "small" / name
        run.mkdir(parents=True)
        settings = {"run": {"project": "paper", "experiment": "small"}, "site": {"name": "here", "pue": 1.5}}
        (run / "config.yaml").write_text(Config.model_validate(settings).to_yaml())
    (tmp_path / "runs" / "ledger.jsonl").touch()
    return tmp_path / "runs"


def as_if(monkeypatch, verb: str, *words: str) -> int:
    """The exit code of the verb with nothing in it."""
    monkeypatch.setitem(command.VERBS, verb, lambda arguments: 0)
    return command.main([verb, *words])


def test_every_verb_leaves_a_record_or_has_a_reason(root, monkeypatch):
    assert UNMETERED.keys() <= command.VERBS.keys() and all(UNMETERED.values())
    for verb in [*command.VERBS, "added"]:
        before = len(cost_records(root))
        assert as_if(monkeypatch, verb, str(root)) == 0
        assert len(cost_records(root)) - before == (verb not in UNMETERED), verb
        assert as_if(monkeypatch, verb, str(root), "--help") == 0
    metered = {one.verb for one in cost_records(root)}
    assert {"fit", "compare", "transfer", "merge", "import", "export", "report", "grid", "preflight"} <= metered
    assert {"plan", "ledger", "config", "schema"} <= UNMETERED.keys() and "--help" in SHOWING


def test_where_it_is_booked(root, tmp_path, monkeypatch):
    run, costs = root / "small" / "a", root / "costs"
    (tmp_path / "table.csv").write_text("parameters,tokens,loss\n")
    cases = {
        ("report", "small/a"): run,
        ("export", f"{run}@100:ema", "to=out"): run,
        ("compare", str(run), str(root / "small" / "b")): costs,
        ("compare", str(root / "small")): costs,
        ("fit", str(root), f"out={tmp_path}"): costs,
        ("fit", "law=law.json", f"out={root}/fit"): costs,
        ("import", "table.csv", f"to={root}/imported/x"): costs,
        ("import", "table.csv"): Path("runs") / "costs",  # where it makes a run
        ("linger",): Path("runs") / "costs",
        ("fit", "table.csv"): None,  # of no root
    }
    for words, folder in cases.items():
        found = place_of(words)
        assert (None if found is None else found[0].resolve()) == (None if folder is None else folder.resolve()), words
    assert place_of(("report", "small/a"))[1].run.project == "paper"


def test_the_ledger_has_them_in_the_project_of_the_runs(root, monkeypatch, capsys):
    """Also work for all runs, at the site that was remembered then."""
    shares = {"fit": "tuning", "compare": "evaluation", "report": "other"}
    assert command.main(["config", "site=fr-2023", "site.pue=2"]) == 0
    assert [as_if(monkeypatch, verb, str(root)) for verb in shares] == [0, 0, 0]
    assert command.main(["config", "site=null"]) == 0
    capsys.readouterr()
    assert command.main(["ledger", str(root), "--json"]) == 0
    paper = json.loads(capsys.readouterr().out)["projects"]["paper"]
    for record in cost_records(root):
        kwh, share = record.total().value / 3.6e6 * 2, paper[shares[record.verb]]
        assert share["kwh"]["value"] == pytest.approx(kwh) and kwh > 0
        assert share["kgco2e"]["value"] == pytest.approx(kwh * 0.056)


def test_what_is_refused_or_only_looked_at_leaves_nothing(root, monkeypatch):
    def refuse(arguments):
        raise UserError("no")

    before = sorted(root.rglob("*"))
    monkeypatch.setitem(command.VERBS, "fit", refuse)
    assert command.main(["fit", str(root)]) == 2
    monkeypatch.setitem(command.VERBS, "fit", lambda arguments: 2)
    assert command.main(["calibrate", "nothing"]) == 2
    assert as_if(monkeypatch, "grid", str(root), "--plan") == 0
    assert sorted(root.rglob("*")) == before


def test_a_killed_verb_keeps_what_was_metered(root):
    process = subprocess.Popen([sys.executable, "-c", SLOW_VERB, str(root)], stdout=subprocess.PIPE, env=os.environ)
    process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    [one] = cost_records(root)
    assert (one.verb, one.outcome) == ("linger", "lost")
    assert one.cpu_seconds > 0.1 and one.total().value > 0  # its imports, from its start on


def test_it_imports_no_torch(root):
    code = "import sys; from trainer.cli import main as command; command.VERBS['added'] = lambda words: 0\n"
    code += "command.main(['added', *sys.argv[1:]]); print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert len(cost_records(root)) == 1
