"""The package from Python: the same runs as the command's, returned and raised, never printed and exited."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import isoflop
from isoflop import UserError
from trainer.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def words(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("python") / "runs"
    return [
        *tiny,
        f"run.root={root}",
        "run.experiment=python",
        "run.id=one",
        "budget.steps=6",
        "tokenizer.special_ids.mask=9",
    ]


@pytest.fixture(scope="module")
def run(words: list[str]) -> isoflop.Run:
    return isoflop.train(isoflop.compose(words), quiet=True)


def test_a_run_is_trained_and_read(words: list[str], run: isoflop.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.status == "finished" and run.config == isoflop.compose(words)
    written = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    steps = run.metrics()
    assert steps["loss"] == [record["loss"] for record in written if record["kind"] == "step"]
    assert steps.rows()[0] == {**written[0], "replays": 0} and len(steps["step"]) == 6
    assert [*run.metrics("evaluation")["step"]] == [r["step"] for r in written if r["kind"] == "evaluation"]
    assert "start" in run.events()["name"]
    tag = json.loads((run.path / "pricetag.json").read_text())
    assert run.price()["flop.total"].measured.value == pytest.approx(
        next(row["measured"]["value"] for row in tag["rows"] if row["key"] == "flop.total")
    )
    assert str(isoflop.plan(run.config)).startswith("llama-mini: the price tag before the run")
    assert "<td>6</td>" in steps._repr_html_() and "finished, step 6" in repr(run)
    assert capsys.readouterr() == ("", "")


def test_what_it_learned_is_used(run: isoflop.Run, capsys: pytest.CaptureFixture[str]) -> None:
    model = run.model()
    assert sum(one.numel() for one in model.parameters()) == run.price()["model.parameters"].planned.value
    assert not model.training and run.tokenizer.decode(run.tokenizer.encode("abc def")) == "abc def"
    assert run.tokenizer.specials["<mask>"] == 9
    text = run.generate("abc", tokens=5, temperature=0)
    assert run.generate(["abc", "de"], tokens=5, temperature=0)[0] == text
    assert main(["generate", str(run.path), "prompt=abc", "tokens=5", "temperature=0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == text


def test_what_a_step_reads(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    shown = isoflop.show(isoflop.compose(words), 2, samples=1)
    for flags, text in (((), str(shown)), (("--json",), json.dumps(shown, indent=1, ensure_ascii=False))):
        assert main(["data", "show", *words, "step=2", "samples=1", *flags]) == 0
        assert capsys.readouterr().out == f"{text}\n"


def test_it_goes_on(words: list[str], run: isoflop.Run) -> None:
    other = isoflop.train(isoflop.compose([*words, "run.id=two", "budget.steps=4"]), quiet=True)
    other.resume("budget.steps=6", "new_science=true", quiet=True)
    assert other.metrics()["step"] == run.metrics()["step"]
    found = isoflop.compare(run, other)
    assert len(found.groups) == 1 and sorted(len(group.runs) for group in found.groups) == [2]


def test_a_run_is_tuned(run: isoflop.Run, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps({"text": f"abc {n} def", "label": n % 2}) + "\n" for n in range(64)))
    overrides = ["task.kind=sequence", f"task.train={file}", "run.id=tuned", "optim.batch_size=8"]
    tuned = isoflop.finetune(run, None, *overrides, steps=2, quiet=True)
    assert tuned.status == "finished" and 0 <= tuned.scores()["metrics"]["accuracy"] <= 1
    with pytest.raises(UserError, match="no scores of a task"):
        run.scores()


def test_a_law_through_a_table(tmp_path: Path) -> None:
    rows = [
        f"{n:.0f},{d:.0f},{1.7 + 400 / n**0.34 + 410 / d**0.28}"
        for n in (1e6, 4e6, 1.6e7, 6.4e7)
        for d in (2e7, 1e8, 5e8, 2e9)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["parameters,tokens,loss", *rows]))
    found = isoflop.fit(tmp_path / "t.csv", replicates=20, out=tmp_path / "fit")
    assert found.law is not None and (tmp_path / "fit" / "fit.html").is_file()
    (stored,) = isoflop.predict(tmp_path / "fit" / "law.json", "3.2e7@4e9")
    assert stored.loss.value == pytest.approx(1.7 + 400 / 3.2e7**0.34 + 410 / 4e9**0.28, rel=2e-3)
    proposed = isoflop.next_runs(tmp_path / "t.csv", "loss of 1b@20b", count=2)
    assert 1 <= len(proposed.runs) <= 2
    few = isoflop.fit(tmp_path / "t.csv", replicates=20, where="tokens=100000000|500000000")
    assert len(few.table.runs) == 8


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda run: isoflop.compose(["modl=x"]), r"modl: no such key \(did you mean 'model'\?\)"),
        (lambda run: isoflop.compose([], config_dir="/nowhere"), "/nowhere is no directory"),
        (lambda run: isoflop.change(run.config, ["optim.lr=-1"]), "optim.lr: -1 given"),
        (lambda run: isoflop.Run("/nowhere"), "/nowhere: no run folder"),
        (lambda run: run.metrics("steps"), "metrics: kind: 'steps' given, step or evaluation wanted"),
        (lambda run: run.generate("a", tokns=3), r"tokns: no such option \(did you mean 'tokens'\?\)"),
        (lambda run: run.generate("a", tokens="3"), "tokens: '3' given, a number wanted"),
        (lambda run: run.generate("a", top_p=2), "top_p: 2 given"),
        (lambda run: isoflop.train(isoflop.change(run.config, ["seed=9"])), "seed: 9 given, the run in"),
        (lambda run: isoflop.fit("/nowhere"), "/nowhere: no such folder or table"),
        (lambda run: isoflop.predict("/nowhere.json", "1b@2b"), "/nowhere.json"),
        (lambda run: isoflop.compare(run, axis="token"), "axis: 'token' given"),
        (lambda run: isoflop.finetune(run, "swaped"), r"task=swaped: no such option \(did you mean 'swapped'\?\)"),
    ],
)
def test_what_is_wrong_is_raised(call: object, told: str, run: isoflop.Run) -> None:
    with pytest.raises(UserError, match=told):
        call(run)  # type: ignore[operator]


def test_a_run_that_fails_is_raised_with_its_last_words(words: list[str]) -> None:
    with pytest.raises(isoflop.RunFailed, match="ended with exit code 3") as failed:
        isoflop.train(isoflop.compose([*words, "run.id=odd", "optim.lr=1e30", "optim.clip=null"]), quiet=True)
    assert failed.value.run.status == "halted"


def test_an_interruption_lets_the_run_save(words: list[str], tmp_path: Path) -> None:
    program = f"import isoflop; isoflop.train(isoflop.compose({[*words, 'run.id=long', 'budget.steps=5000']!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    root = Path(next(word for word in words if word.startswith("run.root=")).partition("=")[2])
    metrics, deadline = root / "python" / "long" / "metrics.jsonl", time.monotonic() + 300
    while not (metrics.is_file() and metrics.read_text().count("\n") > 2):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert "KeyboardInterrupt" in err
    assert isoflop.Run(metrics.parent).status == "stopped" and isoflop.Run(metrics.parent).model() is not None


def test_names_are_told() -> None:
    assert set(dir(isoflop)) == set(isoflop.__all__) and all(getattr(isoflop, name) for name in isoflop.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        isoflop.trian  # noqa: B018


@pytest.mark.parametrize("name", ["trainer", "kernels", "launch", "conf"])
def test_a_foreign_package_of_the_same_name_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-m", "isoflop", "plan"], env=paths, capture_output=True, text=True, cwd=ROOT.parent
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and f"the package {name!r} is not isoflop's ({tmp_path}/{name}" in done.stderr
