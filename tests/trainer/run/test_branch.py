"""A branch is the run that would have annealed there: of one science with it, and equal to the bit."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainer.books import plan, plan_row, plans_json
from trainer.books.branch import own_values, read_branch, trunk_key
from trainer.books.run_length import known_steps
from trainer.compose import compose
from trainer.config import CheckpointConfig
from trainer.report import read_run
from trainer.report.curves import priced_steps
from trainer.report.ledger_file import read_ledger
from trainer.run.start import ready
from trainer.scaling.fit.run_table import read_runs
from trainer.scaling.ladder import planned_runs
from trainer.trackers import read_metrics
from trainer.training.checkpoint import prune
from trainer.training.lr_schedule import learning_rate
from trainer.utils.checkpoint_files import FORMAT, folder_of, manifest_digest
from trainer.utils.errors import UserError

STEPS, AT, DECAY = 12, 8, 4  # of the runs that are trained here: the end, where a branch begins, its decay


@pytest.fixture
def trunk(tmp_path, monkeypatch):
    """trunk(*words, at=(100,)): a run folder with empty checkpoints after these steps, named t@<step> in branch=."""
    monkeypatch.chdir(tmp_path)

    def make(*words: str, at: tuple[int, ...] = (100,), name: str = "t") -> Path:
        run = tmp_path / name
        (run / "checkpoints").mkdir(parents=True)
        (run / "config.yaml").write_text(compose(words).to_yaml())
        for step in at:
            place = folder_of(run / "checkpoints", step)
            place.mkdir()
            manifest: dict[str, Any] = {"format": FORMAT, "step": step, "files": {}, "weights": {}}
            manifest["sha256"] = manifest_digest(manifest)
            (place / "manifest.json").write_text(json.dumps(manifest))
        return run

    return make


def rates(config, steps=None):
    total = known_steps(config)
    assert total is not None
    return [learning_rate(config.optim, step, total) for step in range(steps or total)]


PIECES = "optim.schedule=[{shape: warmup, steps: 30}, {shape: linear, steps: 20, to: 0.5}, {shape: constant}]"
HELD = ["optim.schedule=constant", "optim.warmup_steps=30"]


@pytest.mark.parametrize(
    ("stable", "same"),
    [
        (HELD, [*HELD, "optim.decay=20"]),
        (["optim.schedule=constant"], ["optim.schedule=constant", "optim.warmup_steps=40", "optim.decay=20"]),
        (["optim.schedule=constant", "optim.warmup_steps=0"], ["optim.schedule=[{}, {shape: linear, steps: 20}]"]),
        (["optim.schedule=wsd", "optim.min_lr_ratio=0.3"], [*HELD[:1], "optim.warmup_steps=40", "optim.decay=20"]),
        ([PIECES], [PIECES.replace("{shape: constant}", "{shape: constant}, {shape: linear, steps: 20}")]),
        ([*HELD, "optim.decay=50"], [*HELD, "optim.decay=20"]),
    ],
)
def test_its_science_is_that_of_the_run_that_anneals_there(trunk, stable, same):
    run = trunk(*stable, "seed=3")
    branch, alone = compose(["branch=t@100", "optim.decay=20"]), compose([*same, "budget.steps=120", "seed=3"])
    assert branch.science_hash() == alone.science_hash()
    before = rates(compose([*stable, "seed=3"]), 100)
    assert rates(branch) == rates(alone)  # every one to the bit
    assert rates(branch)[:100] == before
    fall = [before[-1] * (1 - (step + 1) / 20) for step in range(20)]
    assert rates(branch)[100:] == pytest.approx(fall, abs=1e-12)
    assert (branch.branch.run, branch.branch.step) == (str(run), 100)


def test_a_decay_of_a_run_that_is_no_branch():
    config = compose(["optim.schedule=constant", "optim.decay={shape: sqrt, share: 0.25, to: 0.1}", "budget.steps=200"])
    want = [min(1.0, (step + 1) / 20) for step in range(150)]
    want += [0.1 + 0.9 * (1 - math.sqrt((step + 1) / 50)) for step in range(50)]
    assert rates(config) == pytest.approx([config.optim.lr * share for share in want], rel=1e-12)
    longer = compose(["optim.schedule=constant", "optim.decay=0.1", "budget.steps=50000"])
    assert (rates(longer, 2001)[1998] < longer.optim.lr) and rates(longer, 2001)[1999] == longer.optim.lr


@pytest.mark.parametrize(("length", "steps"), [("0.2", 25), ("{tokens: 10k}", 3), ("{steps: 7, to: 0.5}", 7)])
def test_how_long_a_decay_is(trunk, length, steps):
    trunk(*HELD, "optim.batch_size=16")  # 4,096 tokens a step
    config = compose(["branch=t@100", f"optim.decay={length}"])
    assert config.budget.steps == 100 + steps


def test_machinery_may_differ_and_is_the_trunks_otherwise(trunk):
    trunk(*HELD, "engine.zero_stage=1", "checkpoint.at_steps=[100]", "run.id=t")
    config = compose(["branch=t@100", "optim.decay=20", "engine.micro_batch=2"])
    assert (config.engine.zero_stage, config.engine.micro_batch) == (1, 2)
    assert (config.run.id, config.checkpoint.at_steps) == (None, ())


@pytest.mark.parametrize(
    ("stable", "words", "said"),
    [
        (HELD, ["branch=t@99"], "has no checkpoint of step 99; the nearest: 100 (checkpoint.at_steps=[99]"),
        (HELD, ["branch=none@100"], "branch: none: no run folder of that name"),
        (HELD, ["branch=t@last"], "; a step stands behind it as @400"),
        (HELD, ["branch="], "branch: name a run"),
        (HELD, ["branch=t@100", "init=t"], "init: a branch has its trunk's weights already"),
        (HELD, ["branch=t@100", "seed=4"], "seed: 4 given, the trunk has 0"),
        (HELD, ["branch=t@100", "optim.lr=1.0"], "optim.lr: 1.0 given, the trunk has 0.004"),
        (HELD, ["branch=t@100", "budget.steps=150"], "budget.steps: 150 given, but a branch ends with its decay"),
        (HELD, ["branch=t@100", "optim.schedule=linear"], "optim.schedule: 'linear' given, but a branch has"),
        ([], ["branch=t@100"], "inside its own decay, which begins with step 41 by optim.schedule=cosine"),
        (["optim.schedule=wsd", "budget.steps=110"], ["branch=t@100"], "branch off step 88 or one before"),
        ([*HELD, "optim.decay=350"], ["branch=t@100"], "inside its own decay, of steps 51 to 400"),
        ([*HELD, "optim.decay=50", "budget.steps=100"], ["branch=t@100"], "behind its own decay"),
        ([*HELD[:1], "optim.warmup_steps=101"], ["branch=t@100"], "inside its warm-up of 101 steps"),
        (
            [*HELD, "optim=muon", "optim.momentum_schedule=[{shape: linear, steps: 300, start: 0.85}]"],
            ["branch=t@100"],
            "branch: optim.momentum_schedule: 300 steps in all, the run has 120; branch off a later step",
        ),
        (
            [*HELD, "optim.batch_warmup=[{size: 4, tokens: 130k}]"],
            ["branch=t@100"],
            "it never comes to optim.batch_size 16; branch off a later step",
        ),
        ([*HELD, "~budget.steps", "budget.hours=1"], ["branch=t@100"], "no function of the step alone"),
        (
            [*HELD, "data=mixture", "+data.sources.a.path=a", "+data.sources.a.epochs=2"],
            ["branch=t@100"],
            "branch: data.sources.a.epochs: a cap",
        ),
    ],
)
def test_bad_input_is_one_line(trunk, stable, words, said):
    trunk(*stable)
    with pytest.raises(UserError) as caught:
        compose([*words, "optim.decay=20"])
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["branch=t@100"], "optim.decay: a branch needs one"),
        (["branch=t@100", "optim.decay=0"], "optim.decay.steps: 0 given, greater than or equal to 1 [steps] wanted"),
        (["branch=t@100", "optim.decay={steps: 2, share: 0.1}"], "optim.decay.steps: state exactly one of"),
        (["branch=t@100", "optim.decay={shape: lineal, steps: 2}"], "did you mean 'linear'?"),
        (["optim.decay=20"], "optim.decay: optim.schedule=cosine falls by itself"),
        (["optim.schedule=wsd", "optim.decay=20"], "optim.decay: optim.schedule=wsd falls by itself"),
        (["optim.schedule=[{}, {shape: sqrt, steps: 3}]", "optim.decay=20"], "ends in sqrt, off which no rate decays"),
        (["branch.step=3"], "branch.run: name the trunk"),
        (["branch=t@0"], "branch.step: 0 given, greater than or equal to 1 [steps] wanted"),
        (
            ["branch=t@100:ema"],
            "branch.run: a branch goes on from a checkpoint, not from the average 'ema'; name t@100",
        ),
        (["branch.run=t", "branch.stp=100"], "branch.stp: no such key (did you mean 'branch.step'?)"),
    ],
)
def test_a_decay_that_does_not_fit_is_one_line(trunk, words, said):
    trunk(*HELD)
    with pytest.raises(UserError) as caught:
        compose(words)
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_checkpoint_that_is_cut_is_one_line(trunk):
    place = folder_of(trunk(*HELD) / "checkpoints", 100) / "manifest.json"
    place.write_text(place.read_text()[:-20])
    with pytest.raises(UserError, match=r"^branch: t: the checkpoint of step 100 is damaged \(manifest"):
        compose(["branch=t@100", "optim.decay=20"])


def test_what_a_trunk_will_save_can_be_named_before(trunk):
    trunk(*HELD, "checkpoint.at_steps=[50, 100]", at=(50,))
    config = compose(["branch=t@100", "optim.decay=20"])
    assert config.branch.step == 100 and config.branch.checkpoint is None
    assert compose(["branch=t", "optim.decay=20"]).branch.step == 50


def test_a_plan_counts_the_whole_run_and_says_the_trunks_part(trunk):
    trunk(*HELD)
    tag, alone = plan(compose(["branch=t@100", "optim.decay=25"])), plan(compose([*HELD, "budget.steps=125"]))
    assert tag["flop.total"].planned == alone["flop.total"].planned
    whole, part = (tag[key].planned.value for key in ("flop.total", trunk_key("flop.total")))
    assert part / whole == pytest.approx(100 / 125)
    assert own_values(tag.values("planned"))["flop"]["total"] == pytest.approx(whole / 5)


def test_checkpoints_that_are_asked_for_by_step_are_kept(tmp_path):
    for step in (4, 8, 10, 12, 16):
        folder_of(tmp_path, step).mkdir()
    config = CheckpointConfig(every_steps=4, keep_last=1, at_steps=(10,))
    assert [step for step in range(1, 17) if config.at(step)] == [4, 8, 10, 12, 16]
    assert prune(tmp_path, config, 16, None) == [4, 8, 12]


# --- trained ---


@pytest.fixture(scope="module")
def runs(tiny, command, tmp_path_factory) -> Path:
    """A trunk with a branch at each of two horizons, by a ladder, and one of the runs that they stand for."""
    folder = tmp_path_factory.mktemp("runs")
    size = "ladder.sizes=['model.width=32 model.heads=4']"
    horizons = ["ladder.branch=[0.5,1]", f"ladder.decay={{steps: {DECAY}}}", "ladder.tokens_per_parameter_between=null"]
    null = ["ladder.lr=null", "ladder.batch_size=null", f"ladder.tokens={STEPS * 12 * 32}", "optim.warmup_steps=2"]
    base = [word for word in tiny if not word.startswith(("budget", "model.width"))]
    words = ["ladder=cpu", size, *horizons, *null, *base, f"run.root={folder}"]
    swept = command(folder)("sweep", *words)
    assert swept.returncode == 0, swept.stderr
    assert not (again := command(folder)("sweep", *words)).returncode
    assert "3 of 3 runs are finished already" in again.stderr
    rows = [plan_row(run.name, run.config) for run in planned_runs(words)]
    (folder / "plan.json").write_text(json.dumps(plans_json(rows)))
    alone = command(folder)("train", *base, *SAME, f"run.root={folder}", "run.id=alone", "run.experiment=alone")
    assert alone.returncode == 0, alone.stderr
    return folder


SAME = [
    *("model=llama-mini", "model.head_size=16", "model.kv_heads=null", "model.width=32", "model.heads=4"),
    *("optim.schedule=constant", "optim.warmup_steps=2", f"optim.decay={DECAY}", f"budget.steps={STEPS}", "seed=0"),
]


def state(run: Path, step: int = STEPS) -> dict[str, torch.Tensor]:
    """Weights and optimizer states."""
    files = folder_of(run / "checkpoints", step).glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def losses(run: Path) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in read_metrics(run) if record["kind"] == "step"}


def named(runs: Path, end: str) -> Path:
    return next((runs / "cpu").glob(f"*-{end}"))


def test_it_is_the_run_that_anneals_there_to_the_bit(runs):
    branch, alone = named(runs, f"h{STEPS}"), runs / "alone" / "alone"
    assert read_run(branch).config.science_hash() == read_run(alone).config.science_hash()
    ours, theirs = losses(branch), losses(alone)
    assert list(ours) == list(range(AT + 1, STEPS + 1)) and ours == {step: theirs[step] for step in ours}
    one, other = state(branch), state(alone)
    assert one.keys() == other.keys() and len(one) > 20
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_its_folder_tells_of_the_whole_run(runs):
    branch, trunk, alone = (
        read_run(one) for one in (named(runs, f"h{STEPS}"), named(runs, "trunk"), runs / "alone/alone")
    )
    assert [one["step"] for one in priced_steps(branch)] == list(range(1, STEPS + 1))
    assert [one["loss"] for one in priced_steps(branch)] == [one["loss"] for one in priced_steps(alone)]
    costs = [[one[name] for one in priced_steps(branch)] for name in ("tokens", "flop", "minutes", "wh")]
    assert all(values == sorted(values) for values in costs)
    said = read_branch(branch.run)
    assert said is not None and (said["step"], said["run"]) == (AT, f"cpu/{trunk.run.name}")
    assert any(event["name"] == "branch" for event in branch.events)
    whole, part = branch.tag["energy.device_kwh"].measured, branch.tag["energy.trunk_device_kwh"].measured
    own = branch.energy.total().value / 3.6e6
    assert (
        whole.value == pytest.approx(own + part.value)
        and 0 < part.value <= trunk.tag["energy.device_kwh"].measured.value
    )


def test_the_ledger_charges_the_trunk_once_as_the_plan_says(runs):
    lines = {name: line["measured"]["flop"]["total"] for name, line in read_ledger(runs).items() if "cpu/" in name}
    by_hand = {run.name: read_run(run) for run in (runs / "cpu").iterdir() if (run / "config.yaml").is_file()}
    step = by_hand[named(runs, "trunk").name].steps.kept[0]["flop"]
    assert sum(lines.values()) == (AT + DECAY + DECAY) * step
    planned = json.loads((runs / "plan.json").read_text())["total"]["flop.total"]["value"]
    assert planned == pytest.approx(sum(lines.values()))


def test_a_fit_reads_branches_as_runs_of_their_own(runs):
    table = read_runs(runs / "cpu")
    assert sorted(run.tokens for run in table.runs) == [STEPS // 2 * 12 * 32, STEPS * 12 * 32]
    assert [why for _, why in table.left_out] == ["the trunk of branches, whose rate was not annealed"]


def test_without_its_branch_file_it_counts_the_trunk_from_its_configuration(runs, tmp_path):
    whole, cut = read_run(named(runs, f"h{STEPS}")), tmp_path / "cut"
    shutil.copytree(whole.run, cut)
    (cut / "branch.json").write_text('{"run": "cpu/tr')
    tag = read_run(cut).tag
    for key in ("flop.trunk_total", "data.trunk_tokens"):
        assert tag[key].measured.value == whole.tag[key].measured.value > 0
    assert any("branch.json is missing or damaged" in note for note in tag.notes)
    assert any(note.startswith("price: branch.json of cut is missing or damaged") for note in read_runs(tmp_path).notes)


def test_it_stands_on_its_own_once_it_has_a_checkpoint_and_not_before(runs, isoflop, tmp_path):
    trunk, done = tmp_path / "copied" / "trunk", tmp_path / "copied" / "done"
    shutil.copytree(named(runs, "trunk"), trunk)
    shutil.copytree(named(runs, f"h{STEPS}"), done)
    words = [f"branch={trunk}@{AT}", f"optim.decay={DECAY}", f"run.root={tmp_path}", "run.experiment=late"]
    _, before = ready([*words, "run.id=a"])
    weights = folder_of(trunk / "checkpoints", AT) / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    damaged = isoflop("train", f"resume={before.path}")
    assert damaged.returncode == 2 and "is damaged (model.safetensors: its sha256 differs)" in damaged.stderr
    shutil.rmtree(trunk)
    assert isoflop("train", f"resume={done}").returncode == 0
    gone = isoflop("train", f"resume={before.path}")
    lines = [line for line in gone.stderr.splitlines() if line.startswith("isoflop: ")]
    assert gone.returncode == 2 and "is not there, and this run has no checkpoint" in lines[0]


@pytest.mark.slow
def test_at_another_stage_on_two_ranks_it_has_the_same_curve(runs, isoflop):
    words = [f"branch={named(runs, 'trunk')}@{AT}", f"optim.decay={DECAY}", f"run.root={runs}", "run.id=two"]
    done = isoflop("train", *words, "run.experiment=two", "engine.zero_stage=2", "launch.processes=2")
    assert done.returncode == 0, done.stderr
    ours, theirs = losses(runs / "two" / "two"), losses(runs / "alone" / "alone")
    assert max(abs(ours[step] / theirs[step] - 1) for step in ours) < 1e-5
    assert read_run(runs / "two" / "two").config.science_hash() == read_run(runs / "alone/alone").config.science_hash()


def test_a_branch_off_a_branch_stands_on_their_common_trunk(runs):
    config = compose([f"branch={named(runs, f'h{STEPS}')}@{AT - 6}", "optim.decay=2"])
    assert (config.branch.run, config.budget.steps) == (str(named(runs, "trunk")), AT - 4)
    with pytest.raises(UserError, match=f"step {STEPS} of .* is behind its own decay"):
        compose([f"branch={named(runs, f'h{STEPS}')}@{STEPS}", "optim.decay=2"])
