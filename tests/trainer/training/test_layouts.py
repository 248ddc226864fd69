"""One curve comes out of all layouts together: any two values of any two of stage, ranks, ranks of a sequence and of
experts, wire, where weights stay, family, packing, micro-batch, recomputation and optimizer stand in some run."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.trainer.training.covering import Factors, Pair, Row, covering, of_row, pairs
from tests.trainer.training.half_way import half_way
from tests.trainer.training.layout_probe import trained_together
from trainer.compose import compose
from trainer.trackers import read_metrics
from trainer.utils.errors import UserError

STEPS, HALF = 4, 2
SPREAD = 2e-3  # of losses, where gradients travel in bf16
BY_DEFAULT = 6  # rows, those that cover the most

# Of values that cover as much as each other the first is taken.
FACTORS: Factors = {
    "stage": (3, 1, 2, 0),
    "ranks": (4, 2, 3, 1),
    "sequence": ("1", "2 ulysses", "2 ring", "4 ulysses", "4 ring"),
    "experts": ("2", "1", "dense"),  # ranks that share them
    "wire": ("fp32", "bf16", "gradients"),
    "weights": ("each pass", "kept", "divided by 2"),
    "family": ("encoder_decoder", "encoder", "decoder"),
    "packing": ("packed", "padded"),
    "micro_batch": (2, 1, None),
    "recomputed": ("true", "selective", "false"),
    "optimizer": ("muon", "adamw", "adafactor", "lamb"),
}
SCIENCE = ("experts", "family", "packing", "optimizer")
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
    )


@cache
def rows() -> tuple[Row, ...]:
    return tuple(covering(FACTORS, refused))


def science(row: Row) -> list[str]:
    """Overrides that decide the outcome."""
    experts = [] if row["experts"] == "dense" else ["model.experts.count=4", "model.ffn_width=32"]
    return [
        *FAMILIES[str(row["family"])],
        *experts,
        f"data.packing={row['packing']}",
        f"optim={row['optimizer']}",
        *("optim.lr=0.01", "optim.batch_size=6", "optim.clip=0.5", "model.heads=4", f"budget.steps={STEPS}"),
        *("model.dropout=0.1", "model.attention_dropout=0.1"),
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
    rare = [f"checkpoint.every_steps={HALF}", f"evaluation.every_steps={STEPS}", "evaluation.samples=6"]
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
    return [record["loss"] for record in records(run)]


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


def held(folder: Path, words: list[str], some: list[Row]) -> None:
    """In fp32 the losses of one process within 1e-5; in bf16 the same bits whatever travels; with gradients in bf16
    losses within a spread."""
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


def test_rows_cover_every_allowed_pair() -> None:
    """Of which none is refused, as the configuration has it too."""
    covered = {pair for row in rows() for pair in of_row(row)}
    assert covered == {pair for pair in pairs(FACTORS) if not refused(pair)}
    assert len(rows()) <= 45 and covering(FACTORS, refused) == list(rows())


def test_the_configuration_refuses_what_is_left_out(words: list[str]) -> None:
    most: Row = {"stage": 3, "ranks": 4, "sequence": "1", "experts": "1", "wire": "fp32", "weights": "each pass"}
    for row in rows()[:BY_DEFAULT]:
        compose([*words, *science(row), *layout(row)])
    for pair in filter(refused, pairs(FACTORS)):
        if dict(pair) != {"ranks": 2, "weights": "divided by 2"}:
            row = {**rows()[0], **most, **dict(pair)}
            with pytest.raises(UserError, match=r"would do|take|leave"):
                compose([*words, *science(row), *layout(row)])


def test_one_curve(tmp_path: Path, words: list[str]) -> None:
    held(tmp_path, words, list(rows()[:BY_DEFAULT]))


@pytest.mark.slow
def test_one_curve_of_all(tmp_path: Path, words: list[str]) -> None:
    held(tmp_path, words, list(rows()[BY_DEFAULT:]))


# --- from one layout to another ---

LAYOUTS = 12


def some_layouts() -> list[Row]:
    """Layouts of one mixture of experts in fp32, from all over the rows."""
    kept = {"wire": "fp32", "family": "decoder", "packing": "packed", "optimizer": "adamw"}
    shared = {str(one): one for row in rows() if row["experts"] != "dense" for one in [{**row, **kept}]}
    there = list(shared.values())
    return [there[number * len(there) // LAYOUTS] for number in range(LAYOUTS)]


def gone_on(folder: Path, words: list[str], of_to: list[tuple[Row, Row]]) -> None:
    """Each second layout goes on where the first was half way, and ends as one process does."""
    runs = Runs(words)
    names = [runs.ask(one) for one, _ in of_to]
    whole = runs.ask(alone(of_to[0][0]))
    found = runs.train(folder)
    on = [half_way(found[name], f"on-{number}", after=HALF) for number, name in enumerate(names)]
    again = [[f"resume={half}", *layout(other)] for half, (_, other) in zip(on, of_to, strict=True)]
    for run in trained_together(folder, again):
        assert_near(run, found[whole], 1e-5, 1e-4)


def random_pairs() -> list[tuple[Row, Row]]:
    """Each layout goes on in another one, by a seeded permutation without a fixed point."""
    order = some_layouts()
    random.Random(23).shuffle(order)
    return list(zip(order, [*order[1:], order[0]], strict=True))


@pytest.mark.slow
def test_going_on_in_another(tmp_path: Path, words: list[str]) -> None:
    assert len({str(one) for one, _ in random_pairs()}) == LAYOUTS
    gone_on(tmp_path, words, random_pairs())
