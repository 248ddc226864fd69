"""Tasks that are asked while a model trains: the training does not notice, no point is lost, ranks agree."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.books import parameters, plan
from trainer.books.asked_rows import times_asked
from trainer.compose import compose
from trainer.config import Config, DataConfig
from trainer.evaluate.in_loop import plain
from trainer.evaluate.in_loop_tasks import check, flop
from trainer.evaluate.tasks import Item, Metric, Task, find_tasks, run_task
from trainer.generation.loaded_model import Trained
from trainer.report import read_run
from trainer.report.task_points import TaskPoint, task_points
from trainer.trackers.scores import flat, lines
from trainer.training.distributed import World
from trainer.utils.errors import UserError

ASKED = ["evaluation.tasks=[agreement,recall]", "evaluation.tasks_limit=20", "evaluation.shots=1"]
EVERY = "evaluation.tasks_every_tokens=1500"  # a step has 12 x 32 tokens: after steps 4, 8 and 12


def records(run: Path, kind: str) -> dict[int, dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {one["step"]: one for one in lines if one["kind"] == kind}


def losses(run: Path) -> list[float]:
    return [one["loss"] for one in records(run, "step").values()]


@pytest.fixture(scope="module")
def words(tiny: list[str]) -> list[str]:
    return [*tiny, "model.dropout=0.1", "data.sequence_length=64", "optim.batch_size=6", "budget.steps=9"]


@pytest.fixture(scope="module")
def trained(words: list[str], command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was asked tasks as it trained."""
    done = command(tmp_path_factory.mktemp("asked"))("train", *words, *ASKED, EVERY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  agreement  ") == 3 and "FLOPs of asking tasks" in done.stdout
    return Path(done.stdout.splitlines()[0])


def test_training_is_the_same_to_the_bit(trained: Path, words: list[str], isoflop: Any) -> None:
    done = isoflop("train", *words)
    alone = Path(done.stdout.splitlines()[0])
    assert losses(alone) == losses(trained) and len(losses(alone)) == 9
    assert alone.name.split("-")[-1] == trained.name.split("-")[-1]  # of the science hash


def test_the_last_point_is_what_eval_says(trained: Path) -> None:
    points = task_points(read_run(trained))
    assert [(one.step, one.tokens) for one in points] == [(s, 384.0 * s) for s in (4, 8, 9) for _ in range(2)]
    model = Trained.load(trained)
    for point, task in zip(points[-2:], find_tasks(["agreement", "recall"], 20, 0, DataConfig()), strict=True):
        found = run_task(model, task, 1)
        assert found.bits_per_byte is not None and point.task == task.name
        assert point.bits_per_byte == pytest.approx(found.bits_per_byte.value, rel=1e-6)
        assert point.accuracy == found.values["acc"].value


def test_a_run_that_goes_on_loses_no_point(trained: Path, tmp_path: Path, isoflop: Any) -> None:
    """Killed after its last checkpoint, before what was measured there: it is measured, and nothing twice."""
    run = tmp_path / "killed"
    shutil.copytree(trained, run)
    kept = [line for line in (run / "metrics.jsonl").read_text().splitlines() if '"evaluation","step":9' not in line]
    (run / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    (run / "events.jsonl").write_text("")
    for _ in range(2):
        assert isoflop("train", f"resume={run}").returncode == 0
        assert task_points(read_run(run)) == task_points(read_run(trained))
    assert len((run / "metrics.jsonl").read_text().splitlines()) == len(kept) + 1


@pytest.mark.parametrize("stage", [3, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_two_ranks_say_the_same(stage: int, trained: Path, words: list[str], isoflop: Any) -> None:
    done = isoflop("train", *words, *ASKED, EVERY, "launch.processes=2", f"engine.zero_stage={stage}")
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.splitlines()[0])
    assert losses(run) == pytest.approx(losses(trained), rel=1e-5)
    for ours, theirs in zip(task_points(read_run(run)), task_points(read_run(trained)), strict=True):
        assert (ours.step, ours.task, ours.accuracy) == (theirs.step, theirs.task, theirs.accuracy)
        assert ours.bits_per_byte == pytest.approx(theirs.bits_per_byte, rel=1e-5)


def test_the_report_shows_them(trained: Path) -> None:
    page = (trained / "report.html").read_text()
    assert "Tasks: accuracy" in page and "Asked in the loop, after step 9" in page and "time of asking tasks" in page
    seconds = [one["scores_seconds"] for one in records(trained, "evaluation").values()]
    tag = {row["key"]: row for row in json.loads((trained / "pricetag.json").read_text())["rows"]}
    assert tag["time.tasks"]["measured"]["value"] == pytest.approx(sum(seconds))
    assert tag["flop.tasks"]["planned"]["source"].startswith("asked 3 times")


def test_points_of_a_run_that_was_asked_afterwards(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    kept = [line for line in (run / "metrics.jsonl").read_text().splitlines() if '"evaluation"' not in line]
    (run / "metrics.jsonl").write_text("\n".join(kept))
    assert task_points(read_run(run)) == []
    one = {"task": "copy", "values": {"acc": {"value": 0.5, "standard_error": None}}, "bits_per_byte": {"value": 2.0}}
    one |= {"chance": 0.25}
    tasks = [one | {"shots": 0}, one | {"shots": 4}, {"task": "old", "shots": 0, "values": {"f1": {"value": 0.1}}}]
    (run / "evaluation.json").write_text(json.dumps({"step": 8, "tasks": tasks}))
    names = [("copy@0", 2.0, 0.5, 0.25), ("copy@4", 2.0, 0.5, 0.25), ("old", None, None, None)]
    assert task_points(read_run(run)) == [TaskPoint(8, 8 * 384.0, *one) for one in names]


@pytest.mark.parametrize("output", ["multiple_choice", "loglikelihood", "generate_until"])
def test_bits_per_byte_of_the_right_answer(output: Any, untrained: Any) -> None:
    """By the model's own logits, token by token."""
    model = Trained.load(untrained())
    texts = (("the cats", "sleep né", "the"), ("a dog sees", "old", "a cat that sleeps"))
    items = [Item(text, (right,), (wrong, right), 1) for text, right, wrong in texts]
    if output != "multiple_choice":
        items = [Item(f"{one.text} " if output == "loglikelihood" else one.text, one.answers) for one in items]
    task = Task("asked", output, tuple(items), (), (Metric("exact_match" if "gen" in output else "acc"),), tokens=2)
    bits = []
    for text, right, _ in texts:
        whole = [model.special("<s>"), *model.tokenizer.encode(f"{text} {right}")]
        tail = len(whole) - 1 - len(model.tokenizer.encode(text))
        tokens = torch.tensor([whole])
        with torch.no_grad():
            hidden = model.model.backbone(tokens[:, :-1], torch.arange(len(whole) - 1)[None], None)
            logits = model.model.head.logits(hidden)[0, :, : model.tokenizer.vocabulary].log_softmax(-1)
        nats = logits.gather(1, tokens[0, 1:, None])[-tail:].sum()
        bits.append(-float(nats) / math.log(2) / len(right.encode()))
    found = run_task(model, task, 0).bits_per_byte
    assert found is not None and found.value == pytest.approx(sum(bits) / 2, rel=1e-5)


def test_ranks_share_out_what_one_does_alone() -> None:
    units, made = list(range(7)), {}

    class Rank(World):
        def gather(self, value: Any) -> list[Any]:
            made[self.rank] = value
            return [made.get(rank) for rank in range(self.size)]

    def ask(rank: int) -> list[int]:
        alone: Any = Trained(Path(), 0, None, None, None, world=Rank(rank, 3, 0, torch.device("cpu")))  # type: ignore[arg-type]
        return alone.divided(units, lambda unit: unit * unit)

    for rank in (1, 2):
        with pytest.raises(TypeError):  # the others' are not there yet
            ask(rank)
    assert ask(0) == [unit * unit for unit in units] and made[2] == [4, 25]


@pytest.mark.parametrize(
    "words",
    [
        ["evaluation.tasks_every_steps=5"],
        ["evaluation.tasks_every_tokens=1m"],
        ["evaluation.tasks_every_tokens=1"],
        ["evaluation.tasks_every_tokens=30k", "optim.batch_warmup=[{size: 8, tokens: 40k}]"],
        ["evaluation.every_steps=7"],
        ["evaluation.every_steps=null"],
    ],
)
@pytest.mark.parametrize("steps", [1, 20, 23])
def test_the_plan_counts_as_the_loop_does(words: list[str], steps: int) -> None:
    config = compose(["evaluation.tasks=[copy]", *words])
    tokens = [config.curriculum.tokens(step) for step in range(steps + 1)]
    due = [config.evaluation.due(step, tokens[step], tokens[step - 1])[1] for step in range(1, steps + 1)]
    assert times_asked(config, steps) == sum(due) + (not due[-1])
    assert times_asked(compose([]), steps) == 0


def test_a_copy_is_told_where_no_rank_has_the_model() -> None:
    divided = ["engine.zero_stage=3", "launch.processes=2"]
    (note,) = [one for one in plan(compose(["evaluation.tasks=[copy]", *divided])).notes if "copy of the whole" in one]
    assert f"{4 * parameters(compose([])).total / 1e6:.3g} MB" in note
    assert not any("copy of the whole" in one for one in (*plan(compose(divided)).notes, *plan(compose([])).notes))


def test_what_asking_costs_grows_with_what_is_asked() -> None:
    def cost(*words: str) -> float:
        return flop(compose(["evaluation.tasks=[copy]", *words]))

    once = cost()
    assert cost("evaluation.tasks_limit=100") == pytest.approx(once / 2, rel=0.05)
    assert once > cost("evaluation.shots=0") > 0  # alone it asks 0, 1, 4 and 16


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["evaluation.tasks=[agrement]"],
            "evaluation.tasks: agrement: no such task or file (did you mean 'agreement'?)",
        ),
        (
            ["evaluation.tasks=[copy]", "evaluation.shots=401"],
            "evaluation.shots: copy: shots=401 given, it has 400 other",
        ),
        (["evaluation.tasks=[copy,suite]"], "evaluation.tasks: two tasks have the name copy"),
        (["evaluation.tasks=[language]"], "evaluation.tasks: language: the corpus states fewer than two languages"),
        (
            ["evaluation.tasks=[copy]", "model=bart-mini", "objective=mass"],
            "evaluation.tasks: copy: objective=mass trains no filling of a gap, so no answer can be scored",
        ),
        (["evaluation.tasks=[no.yaml]"], "evaluation.tasks: no.yaml: no such task or file"),
    ],
)
def test_tasks_that_cannot_be_asked(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        check(compose(words))
    assert str(error.value).splitlines()[0].startswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluation.shots=4"], "evaluation.shots: only tasks read it; add evaluation.tasks=[...]"),
        (["evaluation.tasks_limit=4"], "evaluation.tasks_limit: only tasks read it; add evaluation.tasks=[...]"),
        (
            ["evaluation.tasks_every_steps=4"],
            "evaluation.tasks_every_steps: nothing is asked; add evaluation.tasks=[...]",
        ),
        (["evaluation.tasks=[copy,copy]"], "evaluation.tasks: copy is named twice"),
        (
            ["evaluation.tasks=[copy]", "evaluation.tasks_every_steps=4", "evaluation.tasks_every_tokens=1m"],
            "evaluation.tasks_every_tokens: evaluation.tasks_every_steps is given too; state one of the two",
        ),
        (
            ["evaluation.tasks=[copy]", "evaluation.tasks_limit=0"],
            "evaluation.tasks_limit: 0 given, greater than or equal to 1 [items] wanted",
        ),
    ],
)
def test_keys_that_do_not_fit(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        compose(words)
    assert str(error.value) == said


def test_keys_are_new_and_no_science() -> None:
    asked = compose(["evaluation.tasks=[copy]", "evaluation.tasks_every_steps=3"])
    assert asked.science_hash() == compose([]).science_hash()
    new = {"tasks", "tasks_limit", "shots", "tasks_every_steps", "tasks_every_tokens"}
    assert set(type(Config().evaluation).introduced()) == new


def test_what_trackers_show() -> None:
    copy = {"bits_per_byte": 1.5, "accuracy": 0.25, "accuracy_error": 0.1, "chance": 0.25, "items": 20, "measure": "x"}
    scores = {"tasks": {"copy": copy, "wiki": {"bits_per_byte": 2.0, "accuracy": None}}, "mine": {"part": {"of": 2}}}
    assert lines(scores) == [
        "copy  1.5000 bits per byte of the right answer, accuracy 0.250 +- 0.100 (chance 0.250)",
        "wiki  2.0000 bits per byte of the right answer",
        "mine: part/of 2",
    ]
    assert flat(scores) == {
        "tasks/copy/bits_per_byte": 1.5,
        "tasks/copy/accuracy": 0.25,
        "tasks/copy/accuracy_error": 0.1,
        "tasks/wiki/bits_per_byte": 2.0,
        "mine/part/of": 2,
    }


@pytest.mark.parametrize(
    ("found", "said"), [(3.0, "mine: 3.0 returned, numbers"), ({"a": [1]}, "mine.a: [1] returned")]
)
def test_an_evaluation_returns_numbers_by_name(found: Any, said: str) -> None:
    assert plain("mine", {"a": torch.tensor(2.0), "b": {"c": 1, "d": None}}) == {"a": 2.0, "b": {"c": 1, "d": None}}
    with pytest.raises(UserError, match="evaluation ") as error:
        plain("mine", found)
    assert said in str(error.value)
