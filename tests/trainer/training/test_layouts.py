"""One curve comes out of all layouts together: any two values of any two of stage, ranks, ranks of a sequence and of
experts, wire, where weights stay, family, packing, micro-batch, recomputation and optimizer stand in some run."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

from tests.trainer.training.covering import Factors, Pair, Row, covering, of_row, pairs
from tests.trainer.training.half_way import half_way
from tests.trainer.training.layout_probe import trained_together
from trainer.compose import compose
from trainer.config import Config
from trainer.trackers import read_metrics

STEPS, HALF = 4, 2
SPREAD = 2e-3  # of losses, where gradients travel in bf16
BY_DEFAULT = 6  # rows, those that cover the most

# Of values that cover as much as each other the first is taken.
FACTORS: Factors = {
    "stage": (3, 1, 2, 0),
    "ranks": (4, 2, 3, 1),
    "sequence": ("1", "2 ulysses", "2 ring", "4 ulysses", "4 ring"),
    "experts": ("2", "1", "dense"),  # ranks that share them
    "routing": ("bias", "batch", "sequence", "two"),
    "wire": ("fp32", "bf16", "gradients"),
    "weights": ("each pass", "kept", "divided by 2"),
    "family": ("encoder_decoder", "encoder", "decoder"),
    "packing": ("packed", "padded"),
    "micro_batch": (2, 1, None),
    "recomputed": ("true", "selective", "false"),
    "optimizer": ("muon", "adamw", "adafactor", "lamb"),
}
ROUTING = {
    "sequence": [],
    "two": ["model.experts.group=2"],
    "batch": ["model.experts.group=batch"],
    "bias": ["model.experts.balance=both", "model.experts.score=sigmoid", "model.experts.shared=1"],
}
FAMILIES = {
    "decoder": ["model=llama-mini", "model.kv_heads=1"],
    "encoder": ["model=bert-mini", "objective=masked_lm"],
    "encoder_decoder": ["model=t5-mini", "objective=span_corruption"],
}
WEIGHTS = {"each pass": ("false", "world"), "kept": ("true", "world"), "divided by 2": ("false", "2")}


def ranks_of(value: Any) -> int:
    """Of a value of the factors `sequence` and `experts`."""
    return 1 if value == "dense" else int(str(value).split()[0])


def refused(pair: Pair) -> bool:
    """What the configuration refuses; and two ranks that weights would be divided by, of two in all."""
    row = dict(pair)
    stage, ranks, weights = row.get("stage", 3), int(row.get("ranks") or 4), row.get("weights", "each pass")
    sequence, experts = ranks_of(row.get("sequence", 1)), ranks_of(row.get("experts", 1))
    return bool(
        (stage == 0 and row.get("wire", "fp32") != "fp32")
        or (stage != 3 and weights != "each pass")
        or (weights == "divided by 2" and (ranks != 4 or experts > 1))
        or ranks % sequence
        or ranks % experts
        or (row.get("routing") == "two" and (ranks == 3 or row.get("micro_batch") == 1))  # shares are no whole groups
    )


@cache
def rows() -> tuple[Row, ...]:
    return tuple(covering(FACTORS, refused))


def halves_of_experts() -> list[Row]:
    """DeepSpeed has another path for what experts send at each stage, and in each dtype."""
    both = [{**rows()[0], "stage": stage, "wire": wire} for stage in (1, 2, 3) for wire in ("bf16", "gradients")]
    kinds = ("2 ulysses", "2 ring")
    return [{**row, "experts": "2", "sequence": kinds[number % 2]} for number, row in enumerate(both)]


def science(row: Row) -> list[str]:
    """Overrides that decide the outcome."""
    experts = [] if row["experts"] == "dense" else ["model.experts.count=4", *ROUTING[str(row["routing"])]]
    return [
        *FAMILIES[str(row["family"])],
        *experts,
        f"data.packing={row['packing']}",
        f"optim={row['optimizer']}",
        *("optim.lr=0.01", "optim.batch_size=8", "optim.clip=0.5", "optim.averages.ema.half_life=300"),
        *("model.heads=4", "model.ffn_width=32", "model.dropout=0.1", "model.attention_dropout=0.1"),
        f"budget.steps={STEPS}",
    ]


def layout(row: Row, *, precision: str | None = None, halves: bool = True) -> list[str]:
    """Overrides of machinery, all that rows differ in. halves: whether anything travels in bf16."""
    sequence, _, kind = str(row["sequence"]).partition(" ")
    kept, partition = WEIGHTS[str(row["weights"])]
    wire = {"bf16": "wire", "gradients": "wire_gradients"}.get(str(row["wire"])) if halves else None
    return [
        f"engine.precision={precision or ('fp32' if row['wire'] == 'fp32' else 'bf16')}",
        f"engine.zero_stage={row['stage']}",
        f"launch.processes={row['ranks']}",
        f"engine.sequence_parallel={sequence}",
        f"engine.sequence_kind={kind or 'ulysses'}",
        f"kernels.attention={'reference' if kind == 'ring' else 'auto'}",
        f"engine.expert_parallel={ranks_of(row['experts'])}",
        *(f"engine.{name}={'bf16' if name == wire else 'fp32'}" for name in ("wire", "wire_gradients")),
        f"engine.keep_gathered={kept}",
        f"engine.partition={partition}",
        f"engine.micro_batch={'null' if row['micro_batch'] is None else row['micro_batch']}",
        f"engine.activation_checkpointing={row['recomputed']}",
    ]


ALONE: Row = {
    **{"stage": 0, "ranks": 1, "sequence": "1", "wire": "fp32", "weights": "each pass"},
    **{"micro_batch": None, "recomputed": "false"},
}


def alone(row: Row) -> Row:
    """The same science on one rank."""
    return {**row, **ALONE, "experts": row["experts"] if row["experts"] == "dense" else "1"}


@pytest.fixture
def words(tiny: list[str], tmp_path: Path) -> list[str]:
    """Of every run."""
    rare = [f"checkpoint.every_steps={HALF}", f"evaluation.every_steps={STEPS}", "evaluation.samples=8"]
    place = [f"run.root={tmp_path}", "run.experiment=layouts", "checkpoint.asynchronous=false"]
    return [*tiny, *rare, *place]


class Runs:
    """Runs that are asked for one by one and trained together."""

    def __init__(self, words: list[str]) -> None:
        self.words, self.asked = words, dict[tuple[str, ...], str]()

    def ask(self, row: Row, **how: Any) -> str:
        """The name that it will have."""
        given = (*science(row), *layout(row, **how))
        return self.asked.setdefault(given, f"run-{len(self.asked)}")

    def train(self, folder: Path) -> dict[str, Path]:
        many = [[*self.words, *given, f"run.id={name}"] for given, name in self.asked.items()]
        return dict(zip(self.asked.values(), trained_together(folder, many), strict=True))


def records(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run) if record["kind"] in ("step", "evaluation") and "loss" in record]


def losses(run: Path) -> list[float]:
    """Of every step; held out; and of the average of the weights."""
    return [loss for record in records(run) for loss in (record["loss"], *record.get("averages", {}).values())]


def norms(run: Path) -> list[float]:
    return [record["grad_norm"] for record in records(run) if record["kind"] == "step"]


def facts(run: Path) -> list[tuple[float, ...]]:
    """Of every step what must not know of ranks."""
    names = ("step", "samples", "tokens", "targets")
    return [tuple(record[name] for name in names) for record in records(run) if record["kind"] == "step"]


def assert_near(ours: Path, theirs: Path, losses_within: float, norms_within: float) -> None:
    assert facts(ours) == facts(theirs) and len(facts(ours)) == STEPS
    assert losses(ours) == pytest.approx(losses(theirs), rel=losses_within)
    assert norms(ours) == pytest.approx(norms(theirs), rel=norms_within)


def assert_same_bits(ours: Path, theirs: Path) -> None:
    assert losses(ours) == losses(theirs) and norms(ours) == norms(theirs)
    for file in (theirs / "checkpoints" / f"step-{STEPS:08d}").glob("*.safetensors"):
        other = load_file(ours / file.relative_to(theirs))
        assert all(weight.equal(other[name]) for name, weight in load_file(file).items()), file.name


def held(folder: Path, words: list[str], some: Sequence[Row]) -> list[Path]:
    """In fp32 the losses of one process within 1e-5; in bf16 the same bits whatever travels; with gradients in bf16
    losses within a spread. Returns the runs."""
    runs = Runs(words)
    names = [
        (runs.ask(row), runs.ask(alone(row)) if row["wire"] == "fp32" else runs.ask(row, halves=False)) for row in some
    ]
    found, wrong = runs.train(folder), []
    for row, (name, other) in zip(some, names, strict=True):
        ours, theirs = found[name], found[other]
        try:
            if row["wire"] == "fp32":
                assert_near(ours, theirs, 1e-5, 1e-4)
            elif row["wire"] == "bf16":
                assert_same_bits(ours, theirs)
            else:
                assert_near(ours, theirs, SPREAD, 10 * SPREAD)
                assert row["ranks"] == 1 or losses(ours) != losses(theirs)
        except AssertionError as error:
            wrong.append(f"{row}: {error}")
    assert not wrong, "\n".join(wrong)
    return [found[name] for name, _ in names]


def went_on_without(folder: Path, words: list[str], some: Sequence[Row], runs: Sequence[Path]) -> None:
    """Runs whose weights travel in bf16 go on half way with and without, to the same bits. Both do so in processes of
    one kind: products in bf16 may differ in the last bit from a process that trained other runs before."""
    with_halves, without = (
        [half_way(run, f"{run.name}-{name}", after=HALF) for run in runs] for name in ("with", "without")
    )
    again = [
        [f"resume={half}", *layout(row, halves=halves)]
        for on, halves in ((with_halves, True), (without, False))
        for half, row in zip(on, some, strict=True)
    ]
    ended = trained_together(folder, again)
    for ours, theirs in zip(ended[: len(runs)], ended[len(runs) :], strict=True):
        assert_same_bits(ours, theirs)


def test_rows_cover_every_allowed_pair() -> None:
    """Of which none is refused, as the configuration has it too."""
    covered = {pair for row in rows() for pair in of_row(row)}
    assert covered == {pair for pair in pairs(FACTORS) if not refused(pair)}
    assert len(rows()) <= 45 and covering(FACTORS, refused) == list(rows())


def test_the_configuration_refuses_what_is_left_out(words: list[str]) -> None:
    """With a line that says what would do."""
    likely: Row = {"stage": 3, "ranks": 4, "sequence": "1", "experts": "1", "wire": "fp32", "weights": "each pass"}
    like: Row = {**rows()[0], **likely, "routing": "sequence"}
    plain = compose([*words, *science(like), *layout(like)]).model_dump(mode="json")
    for pair in filter(refused, pairs(FACTORS)):
        if dict(pair) != {"ranks": 2, "weights": "divided by 2"}:
            changed = copy.deepcopy(plain)
            row = {**like, **dict(pair)}
            for word in (*ROUTING[str(row["routing"])], *layout(row)):
                key, _, value = word.partition("=")
                *path, name = key.split(".")
                reduce(getitem, path, changed)[name] = yaml.safe_load(value)
            with pytest.raises(ValidationError, match=r"would do|take|leave"):
                Config.model_validate(changed)


def test_one_curve(tmp_path: Path, words: list[str]) -> None:
    held(tmp_path, words, rows()[:BY_DEFAULT])


@pytest.mark.slow
def test_one_curve_of_all(tmp_path: Path, words: list[str]) -> None:
    some = [*rows()[BY_DEFAULT:], *halves_of_experts()]
    runs = held(tmp_path, words, some)
    half = [(row, run) for row, run in zip(some, runs, strict=True) if row["wire"] == "bf16"]
    went_on_without(tmp_path, words, [row for row, _ in half], [run for _, run in half])


# --- from one layout to another ---

LAYOUTS = 12


def some_layouts(precision: str) -> list[Row]:
    """Layouts of one mixture of experts, from all over the rows; in bf16 weights travel in it wherever they may."""
    kept = {"routing": "sequence", "family": "decoder", "packing": "packed", "optimizer": "adamw"}
    shared = [{**row, **kept} for row in rows() if row["experts"] != "dense"]
    for row in shared:
        row["wire"] = "bf16" if precision == "bf16" and row["stage"] else "fp32"
    there = list({str(row): row for row in shared}.values())
    return [there[number * len(there) // LAYOUTS] for number in range(LAYOUTS)]


def random_pairs(precision: str) -> list[tuple[Row, Row]]:
    """Each layout and the one in which it goes on, by a seeded permutation without a fixed point."""
    order = some_layouts(precision)
    random.Random(23).shuffle(order)
    return list(zip(order, [*order[1:], order[0]], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "within"), [("fp32", 1e-5), ("bf16", SPREAD)])
def test_going_on_in_another(tmp_path: Path, words: list[str], precision: str, within: float) -> None:
    """Each second layout goes on where the first was half way, and ends as one process does."""
    runs, of_to = Runs(words), random_pairs(precision)
    names = [runs.ask(one, precision=precision) for one, _ in of_to]
    whole = runs.ask(alone(of_to[0][0]), precision=precision)
    found = runs.train(tmp_path)
    on = [half_way(found[name], f"on-{number}", after=HALF) for number, name in enumerate(names)]
    assert len({str(one) for one, _ in of_to}) == LAYOUTS
    again = [
        [f"resume={half}", *layout(other, precision=precision)] for half, (_, other) in zip(on, of_to, strict=True)
    ]
    for run in trained_together(tmp_path, again):
        assert_near(run, found[whole], within, 10 * within)
