"""What a person gets wrong is answered in one to three lines, with exit code 2, before any worker starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.cli.main import main
from trainer.run.start import ready

# (words after `isoflop train`, what the answer must contain)
WRONG: list[tuple[str, str]] = [
    # misspelt keys and groups: the nearest valid name
    ("optim.lrr=3", "optim.lrr: no such key (did you mean 'optim.lr'?)"),
    ("optm.lr=3", "optm.lr: no such key (did you mean 'optim.lr'?)"),
    ("modle=gpt-mini", "modle: no such key (did you mean 'model'?)"),
    ("model=gpt-mni", "model=gpt-mni: no such option (did you mean 'gpt-mini'?)"),
    ("model.dept=3", "model.dept: no such key (did you mean 'model.depth'?)"),
    ("data=stdlb", "data=stdlb: no such option (did you mean 'stdlib'?)"),
    ("tokenizer=wordpiece", "tokenizer=wordpiece: no such option"),
    ("engine.zero_stag=1", "did you mean 'engine.zero_stage'?"),
    ("seeds=3", "seeds: no such key (did you mean 'seed'?)"),
    ("optim.schedule=[{shape:warmup},{shape:linaer}]", "optim.pieces[1].shape: 'linaer' given"),
    ("optim.averages.ema.halflife=1m", "halflife: no such key (did you mean 'optim.averages.ema.half_life'?)"),
    ("optim.lr_by_role.embed=1", "optim.lr_by_role.embed: 'embed' given, 'embedding', 'head'"),
    ("optim.schedule=cosin", "(did you mean 'cosine'?)"),
    ("experiment=mine", "experiment=mine: no such option"),
    # wrong types
    ("optim.lr=fast", "optim.lr: 'fast' given"),
    ("optim.batch_size=eight", "optim.batch_size: 'eight' given"),
    ("optim.batch_size=2.5", "optim.batch_size: 2.5 given"),
    ("seed=one", "seed: 'one' given"),
    ("model.tied=maybe", "model.tied: 'maybe' given"),
    ("budget.steps=ten", "budget.steps: 'ten' given"),
    ("model=[a,b]", "model"),
    ("engine.deepspeed=3", "engine.deepspeed: 3 given"),
    ("optim.averages.ema=10m", "optim.averages.ema: '10m' given, {name: value} wanted"),
    ("optim.batch_warmup=2", "optim.batch_warmup: 2 given, a list wanted"),
    # out of range
    ("optim.lr=-1", "optim.lr: -1 given, greater than 0"),
    ("optim.batch_size=0", "optim.batch_size: 0 given, greater than or equal to 1 [sequences]"),
    ("engine.zero_stage=4", "engine.zero_stage: 4 given, 0, 1, 2 or 3 wanted"),
    ("engine.precision=fp16", "engine.precision: 'fp16' given, 'auto', 'fp32' or 'bf16' wanted"),
    ("data.held_out=0.9", "data.held_out: 0.9 given"),
    ("optim.beta2=1", "optim.beta2: 1 given, less than 1"),
    ("site.pue=0.5", "site.pue: 0.5 given"),
    ("site.pue=nan", "site.pue"),
    ("optim.lr=inf", "optim.lr: inf given, a finite number wanted"),
    ("anomalies.threshold=inf", "anomalies.threshold: inf given, a finite number wanted"),
    ("seed=-1", "seed: -1 given"),
    # contradictions
    ("model.heads=5", "5 does not divide width"),
    ("model.kv_heads=3", "3 does not divide heads"),
    ("model.head_size=33", "even number of channels"),
    ("optim.batch_size=8 launch.processes=3 engine.micro_batch=4", "more than a rank's share of the batch, 3"),
    ("launch.processes=99", "99 ranks cannot share optim.batch_size 16"),
    ("budget.steps=5 budget.tokens=100", "exactly one"),
    ("budget.tokens=50mm", "k, m, b or t behind it, as in 50m"),
    ("budget.steps=5 optim.warmup_steps=9", "optim.warmup_steps: 9 is more than the run's 5 steps"),
    ("model.vocabulary=1000", "model.vocabulary: 1000 is smaller than tokenizer.vocabulary"),
    ("engine.offload_optimizer=true", "needs engine.zero_stage=1, 2 or 3"),
    ("engine.offload_parameters=true engine.zero_stage=2", "needs engine.zero_stage=3"),
    ("model=gpt-mini model.max_length=64 data.sequence_length=128", "data.sequence_length: 128 is longer than"),
    ("data.path=somewhere", "only data=text reads it"),
    ("site.price_per_kwh=0.3", "needs site.currency and site.price_date"),
    # not in the grammar
    ("--optim.lr=3", "overrides are written without dashes: optim.lr=3"),
    ("lr", "write key=value"),
    ("optim.lr=1e-3,3e-3", "several values need -m"),
    ("--fast", "--fast: no such option"),
    ("optim.lr=[1", "not an override in Hydra's grammar"),
    # run folders
    ("run.id=../elsewhere", "is not a plain folder name"),
    ("model.name=../elsewhere", "model.name: '../elsewhere' is not a plain folder name"),
    ("resume=nowhere", "nowhere: no run folder of that name"),
    ("resume=", "resume: name a run"),
    ("from=", "from: name a run"),
    ("resume=nowhere new_science=yes", "new_science: 'yes' given, true or false wanted"),
    ("new_science=true", "new_science: a new run needs no leave"),
    ("=3", "=3: no key; write key=value"),
    ("data=text data.path=''", "data.path: '' names no file or folder"),
    ("data=text data.path=/dev/null", "data.path: /dev/null is neither a file nor a folder"),
    ("run.cache=/proc/nowhere", "set run.cache to a folder that you own"),
    ("run.root=/proc/nowhere", "cannot write to /proc/nowhere"),
    # what this machine or DeepSpeed cannot do
    ("engine.device=cuda", "CUDA devices found"),
    ("kernels=triton", "there is no GPU here"),
    ("engine.zero_stage=3 engine.deepspeed.zero_optimization.stage3_max_live_parameters=-5", "refused by DeepSpeed"),
    ("engine.deepspeed.zero_optimization.stge=1", "refused by DeepSpeed"),
    ("engine.deepspeed.fp17.enabled=true", "engine.deepspeed.fp17: DeepSpeed knows no such key"),
    ("engine.deepspeed.bf16.enabled=true", "engine.deepspeed.bf16: set engine.precision instead"),
    ("tracker.wandb=online", "wandb"),
]


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Run the command here; it must end with exit code 2, one to three lines and nothing started."""
    code = main(words)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith(("reading", "training", "encoding"))]
    assert code == 2, (code, out, err)
    assert "Traceback" not in err
    assert 1 <= len(lines) <= 3, err
    assert all(line.startswith("isoflop: ") for line in lines), err
    return lines


@pytest.fixture
def here(tmp_path: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "cache"))
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(("words", "expected"), WRONG, ids=[words for words, _ in WRONG])
def test_one_wrong_word(words: str, expected: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if words == "engine.device=cuda" or words == "kernels=triton":
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
    lines = answer(capsys, "train", *words.split())
    assert any(expected in line for line in lines), lines
    assert not (here / "runs").exists()


def test_all_errors_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = answer(capsys, "train", "optim.lrr=3", "model.heads=five", "engine.zero_stage=7")
    assert {line.split(":")[1].strip() for line in lines} == {"optim.lrr", "model.heads", "engine.zero_stage"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "trian: no such verb (did you mean 'train'?)"),
        (["--Version"], "--Version: no such option before a verb (did you mean '--version'?)"),
        (["-v"], "there is --help, --version"),
        (["budget.steps=3"], "overrides follow a verb: isoflop train budget.steps=3"),
        (["eval"], "eval: name one run"),
        (["eval", ""], "'': no run folder"),
        (["export"], "export: name one run, e.g. isoflop export runs/<experiment>/<id>; got none"),
        (["sweep", "jobs=0"], "jobs: 0 given, 1 or more wanted"),
        (["grid", "grid=cpu", "out="], "grid: out: the name of a folder is missing"),
        (["lab", "out="], "lab: out: the name of a folder is missing"),
        (["tokenizer", "out=nowhere/x"], "out: there is no folder nowhere"),
        (["help", "learning", "qqqzzz"], "alone there is learning"),
        (["generate", "nowhere"], "nowhere: no run folder"),
        (["report", "nowhere", "x=1"], "nowhere: no run folder"),
        (["completion", "fish"], "bash and zsh are known"),
        (["train", "-m", "optim.lr=1e-3,-1"], "optim.lr: -1 given"),
    ],
)
def test_wrong_verbs(words: list[str], expected: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert any(expected in line for line in answer(capsys, *words))


@pytest.mark.parametrize(
    ("files", "words", "expected"),
    [
        ({}, [], "nothing matches missing-*.txt"),
        ({"a.txt": b""}, [], "empty"),
        ({"a.txt": b"caf\xe9 and more\n" * 50}, [], "UTF-8"),
        ({"a.jsonl": b'{"txt": "hello"}\n'}, [], "text"),
        ({"a.jsonl": b'{"text": "hello"\n'}, [], "a.jsonl"),
        ({"a.txt": b"ab ab ab ab\n", "b.txt": b"ba ba ba\n"}, ["tokenizer.vocabulary=5000"], "vocabulary"),
        ({"a.txt": b"hello"}, ["tokenizer.path=gone.model"], "no such file: gone.model"),
        ({"a.txt": b"hello", "t.model": b"nonsense"}, ["tokenizer.path=t.model"], "is neither a sentencepiece model"),
    ],
    ids=["nothing", "empty", "latin-1", "field", "torn", "vocabulary", "gone", "nonsense"],
)
def test_wrong_text(
    files: dict[str, bytes], words: list[str], expected: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in files.items():
        (here / name).write_bytes(content)
    paths = ",".join(name for name in files if not name.endswith(".model")) or "missing-*.txt"
    lines = answer(capsys, "train", "data=text", f"data.path=[{paths}]", *words)
    assert any(expected in line for line in lines), lines
    assert not (here / "runs").exists()


@pytest.fixture(scope="module")
def finished(tiny: list[str], command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    result = command(folder)("train", *tiny, "budget.steps=2", "run.id=done")
    assert result.returncode == 0, result.stderr
    return folder / "runs" / "llama-mini-causal-text" / "done"


def test_the_configuration_of_a_resumed_run_is_shown(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", f"resume={finished}", "launch.processes=2"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["budget"]["steps"], shown["launch"]["processes"]) == (2, 2)
    assert "leave -m out" in answer(capsys, "train", "--cfg", "-m", "seed=1,2")[0]


def test_a_folder_that_nobody_can_write_to_is_named(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [line] = answer(capsys, "export", str(finished), "to=/proc/nowhere")
    assert "/proc" in line
    assert "No such file or directory" in line


def test_who_reads_a_damaged_checkpoint_is_told(finished: Path, tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "checkpoints" / "step-00000002" / "model.safetensors").write_bytes(b"")
    lines = answer(capsys, "generate", str(run))
    assert lines[0].startswith("isoflop: checkpoint of step 2 is damaged (model.safetensors: 0 bytes instead of")
    assert "no intact checkpoint" in lines[1]


def test_a_run_folder_of_other_science(
    finished: Path, tiny: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "config.yaml").read_bytes()
    root = f"run.root={finished.parent.parent}"
    lines = answer(capsys, "train", *tiny, "budget.steps=2", root, "run.id=done", "optim.lr=1e-3")
    assert "optim.lr: 0.001 given" in lines[0]
    assert "another experiment" in lines[1]
    assert (finished / "config.yaml").read_bytes() == before
    lines = answer(capsys, "train", f"resume={finished}", "model.width=64")
    assert "model.width: 64 given" in lines[0]


def test_a_folder_in_use_by_a_live_run(finished: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = "import sys, time; from pathlib import Path; from trainer.run_folder import RunFolder\n"
    program += "lock = RunFolder(Path(sys.argv[1])).lock(); print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", program, str(finished)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lines = answer(capsys, "train", f"resume={finished}", "launch.processes=2")
        assert f"in use by process {holder.pid}" in lines[0]
    finally:
        holder.kill()
        holder.wait()
        (finished / ".lock").write_text("")  # else the next one tells that it was taken over


@pytest.mark.parametrize(("word", "weights"), [("model.depth=3", "blocks"), ("model.tied=false", "head.weight")])
def test_new_science_that_the_weights_do_not_fit(
    word: str, weights: str, finished: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "config.yaml").read_bytes()
    [line] = answer(capsys, "train", f"resume={finished}", "new_science=true", word)
    assert "new_science: weights of another shape cannot go on from" in line
    assert weights in line
    assert (finished / "config.yaml").read_bytes() == before


@pytest.mark.parametrize("text", ["model: [", "", "model: {depth: -2}", "seed: 0\nsead: 1"])
def test_a_damaged_configuration_of_a_run(text: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "config.yaml").write_text(text)
    [line] = answer(capsys, "train", f"resume={here}")
    assert "config.yaml: not a configuration of this version: " in line


def test_a_damaged_list_of_overrides_stops_no_run(finished: Path, tmp_path: Path, command: Any) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "overrides.json").write_text("{")
    result = command(tmp_path)("train", f"resume={run}", "engine.zero_stage=1")
    assert result.returncode == 0, result.stderr
    assert [one["overrides"] for one in json.loads((run / "overrides.json").read_text())] == [["engine.zero_stage=1"]]


def test_a_corpus_that_changed_since_the_run_began(finished: Path, here: Path, capsys: Any, corpus: Path) -> None:
    other = here / "other"
    shutil.copytree(corpus, other)
    (other / "d000.txt").write_text("something else " * 50)
    run = here / "runs" / "x" / "moved"
    shutil.copytree(finished, run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace(str(corpus), str(other)))
    lines = answer(capsys, "train", f"resume={run}")
    assert "the corpus or tokenizer changed since this run began" in lines[0]


def test_a_run_goes_on_where_its_text_was_moved_to(finished: Path, here: Path, capsys: Any, corpus: Path) -> None:
    moved, run = here / "moved", here / "run"
    shutil.copytree(corpus, moved)
    shutil.copytree(finished, run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace(str(corpus), "gone"))
    [line] = answer(capsys, "train", f"resume={run}")
    assert f"data.path: no such file or folder: gone (seen from {here})" in line
    config, folder = ready([f"resume={run}", f"data.path={moved}"])
    assert (config.data.path, folder.path) == ((str(moved),), run)
    (moved / "d000.txt").write_text("something else " * 50)
    [line] = answer(capsys, "train", f"resume={run}", f"data.path={moved}")
    assert "the corpus or tokenizer changed since this run began" in line


def test_an_unexpected_failure_shows_that_ranks_traceback_once(isoflop: Any, tiny: list[str]) -> None:
    """Two ranks; one breaks. Its traceback is shown, the other's lost connection is not."""
    (isoflop.folder / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('RANK') == '1':\n"
        "    import trainer.training.lr_schedule as schedule\n"
        "    def broken(*arguments): raise ArithmeticError('the dog ate it')\n"
        "    schedule.learning_rate = broken\n"
    )
    path = os.pathsep.join([str(isoflop.folder), os.environ.get("PYTHONPATH", "")])
    result = isoflop("train", *tiny, "launch.processes=2", "launch.timeout_seconds=30", PYTHONPATH=path)
    assert result.returncode == 1
    assert result.stderr.count("Traceback") == 1, result.stderr
    assert "ArithmeticError: the dog ate it" in result.stderr
    assert "rank 1 failed" in result.stderr


def test_torchrun_starts_it_too_and_wrong_input_is_told_once(isoflop: Any, tiny: list[str]) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trainer"]

    def start(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*torchrun, "train", *tiny, *words], cwd=isoflop.folder, capture_output=True, text=True, timeout=300
        )

    wrong = start("optim.lrr=3")
    assert wrong.returncode != 0
    assert wrong.stderr.count("optim.lrr: no such key") == 1
    right = start("budget.steps=2", "run.id=two")
    assert right.returncode == 0, right.stderr
    entries = json.loads((isoflop.folder / "runs/llama-mini-causal-text/two/environment.json").read_text())
    assert entries[0]["world_size"] == 2


def test_a_foreign_package_of_our_name_is_named(isoflop: Any) -> None:
    foreign = isoflop.folder / "kernels"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("")
    result = isoflop("plan")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "the package 'kernels' is not isoflop's" in result.stderr
    assert str(foreign) in result.stderr
