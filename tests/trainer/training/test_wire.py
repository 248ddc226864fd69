"""What ranks send each other: counted, equal to the books', and with the same curve in half of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.trainer.training.wire_probe import HALF, STEPS, counted
from trainer.books.links import bytes_sent
from trainer.books.parameters import parameters
from trainer.books.shapes import shapes
from trainer.books.wire import wire
from trainer.config import Config
from trainer.config.wire import stays_half
from trainer.descriptions.optimizers import size

# Every weight is gathered for each pass that reads it, as those of large models are.
EACH_PASS = {
    "stage3_param_persistence_threshold": 0,
    "stage3_prefetch_bucket_size": 0,
    "stage3_max_reuse_distance": 1,  # but for the output matrix, whose backward pass follows its forward pass at once
}


class Run(NamedTuple):
    """What all ranks of a task said."""

    config: Config
    losses: list[list[float]]  # of each rank
    weights: list[str]
    sent: float  # of a rank on average, in the last step
    by_kind: dict[str, int]  # of the first rank


def settings(stage: int, precision: str = "bf16", ranks: int = 2, zero: Any = None, **engine: Any) -> dict[str, Any]:
    raw = {"deepspeed": {"zero_optimization": zero}} if zero else {}
    model = engine.pop("model", {})
    return {
        "model": {"depth": 2, "width": 64, "heads": 4, "vocabulary": 320, **model},
        "tokenizer": {"vocabulary": 320},
        "data": {"sequence_length": 16},
        "optim": {"batch_size": 8, "warmup_steps": 0},
        "budget": {"steps": 10},
        "engine": {"device": "cpu", "zero_stage": stage, "micro_batch": 2, "precision": precision, **raw, **engine},
        "launch": {"processes": ranks},
    }


def runs(tasks: list[dict[str, Any]], ranks: int = 2) -> list[Run]:
    found = []
    for task, said in zip(tasks, counted(tasks, ranks), strict=True):
        losses = [[float.fromhex(loss) for loss in one["losses"]] for one in said]
        weights = [f"{name} {value}" for name, value in said[0]["weights"].items()]
        sent = sum(sum(one["sent"].values()) for one in said) / ranks
        found.append(Run(Config.model_validate(task["config"]), losses, weights, sent, said[0]["sent"]))
    return found


def assert_same_bits(one: Run, other: Run) -> None:
    assert one.losses == other.losses and one.weights == other.weights


def embeddings_apart(run: Run, gathered: int = 6) -> float:
    """Bytes of the last step without those of the embedding and its gradient. In each of two micro-batches it is read
    as an embedding, for the outputs, in their backward pass at once, and in its own at the end."""
    numbers = sum(size(shape) * count for (role, shape), count in shapes(run.config).items() if role == "embedding")
    half = 2 if run.config.engine.wire_gradients == "bf16" else 1
    return run.sent - numbers * 4 / 2 * (gathered + 2 / half)


TOO = {"wire": "bf16", "wire_gradients": "bf16"}
LAYOUTS: dict[str, dict[str, Any]] = {
    **{f"stage {stage}": settings(stage) for stage in range(4)},
    **{f"stage {stage}, half": settings(stage, wire="bf16") for stage in (1, 2, 3)},
    **{f"stage {stage}, gradients": settings(stage, wire_gradients="bf16") for stage in (1, 2, 3)},
    "kept half": settings(3, keep_gathered=True, wire="bf16"),
    "each pass": settings(3, zero=EACH_PASS),
    "each pass, half": settings(3, zero=EACH_PASS, wire="bf16"),
    "each pass, both": settings(3, zero=EACH_PASS, **TOO),
    "recomputed": settings(3, zero={"stage3_param_persistence_threshold": 0}, activation_checkpointing=True),
}
# Weights that are kept in bf16 between updates, and such as are not: the gradient of a matrix of its own for the
# outputs is fp32, and what two layers read gets its gradient from both.
UNTIED = {"model": {"tied": False}, "kernels": {"loss": "chunked"}}
SHARED_LAYERS = {"model": {"family": "encoder", "shared_layers": True}, "objective": {"name": "masked_lm"}}
for name, more in {"untied": UNTIED, "shared layers": SHARED_LAYERS}.items():
    for half, wire_dtype in {"": "fp32", ", half": "bf16"}.items():
        task = settings(2, wire=wire_dtype)
        LAYOUTS[name + half] = task | more | {"model": task["model"] | more["model"]}


# A checkpoint of the one half way, from which the other goes on.
PAIRS = [
    ("kept half", "stage 3"),
    ("stage 3", "stage 2, half"),
    ("stage 2, half", "stage 1"),
    ("stage 1", "kept half"),
]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """By name, and those that went on by `<of>, <to>`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    saved = {of for of, _ in PAIRS}
    tasks = {
        name: {"config": config} | ({"save": str(folder / name)} if name in saved else {})
        for name, config in LAYOUTS.items()
    }
    tasks |= {f"{of}, {to}": {"config": LAYOUTS[to], "load": str(folder / of)} for of, to in PAIRS}
    return dict(zip(tasks, runs(list(tasks.values())), strict=True))


def test_books_say_what_is_sent(of_two: dict[str, Run]) -> None:
    for name in LAYOUTS:
        run = of_two[name]
        assert run.sent == pytest.approx(wire(run.config).total, rel=0.01), (name, run.by_kind)


SEQUENCES = {"sequence_parallel": 2}
RING = SEQUENCES | {"sequence_kind": "ring"}
TWO_KEY_HEADS, ONE_KEY_HEAD = {"kv_heads": 2}, {"kv_heads": 1}
FOUR_EXPERTS = {"experts": {"count": 4}}
SHARED: dict[str, dict[str, Any]] = {
    "by heads": settings(1, **SEQUENCES, model=TWO_KEY_HEADS),
    "ring": settings(3, **RING, model=TWO_KEY_HEADS),
    "experts": settings(3, expert_parallel=2, model=FOUR_EXPERTS, wire="bf16"),
}
MORE_SHARED: dict[str, dict[str, Any]] = {
    **{f"by heads, stage {stage}": settings(stage, **SEQUENCES, model=ONE_KEY_HEAD) for stage in (0, 3)},
    **{f"ring, stage {stage}": settings(stage, "fp32", **RING, model=ONE_KEY_HEAD) for stage in (0, 1)},
    "ring, recomputed": settings(1, **RING, activation_checkpointing=True),
    "by heads, recomputed": settings(1, **SEQUENCES, activation_checkpointing=True),
    "by heads, scores recomputed": settings(1, **SEQUENCES, activation_checkpointing="selective"),
    **{f"experts, stage {stage}": settings(stage, expert_parallel=2, model=FOUR_EXPERTS) for stage in range(4)},
    "experts, recomputed": settings(3, expert_parallel=2, model=FOUR_EXPERTS, activation_checkpointing=True),
    "experts of shared sequences": settings(1, **SEQUENCES, expert_parallel=2, model=FOUR_EXPERTS),
}
OF_FOUR: dict[str, dict[str, Any]] = {
    "more ranks than key heads": settings(0, ranks=4, sequence_parallel=4, model=ONE_KEY_HEAD),
    "ring": settings(1, ranks=4, **(RING | {"sequence_parallel": 4})),
    "two groups": settings(3, ranks=4, **SEQUENCES, micro_batch=1, partition=2, zero=EACH_PASS),
    **{f"experts, {stage}": settings(stage, ranks=4, expert_parallel=2, model=FOUR_EXPERTS) for stage in (0, 1, 3)},
}


@pytest.mark.parametrize(
    ("ranks", "layouts"),
    [
        (2, SHARED),
        pytest.param(2, MORE_SHARED, marks=pytest.mark.slow),
        pytest.param(4, OF_FOUR, marks=pytest.mark.slow),
    ],
)
def test_shared_sequences_and_experts_send_what_books_say(ranks: int, layouts: dict[str, dict[str, Any]]) -> None:
    """With the batches of a group, and beside what goes around all ranks."""
    tasks = [{"config": one | {"data": {"sequence_length": 64}}} for one in layouts.values()]
    for name, run in zip(layouts, runs(tasks, ranks), strict=True):
        assert run.sent == pytest.approx(bytes_sent(run.config), rel=0.01), (name, run.by_kind)


def test_half_the_bytes_give_the_same_bits(of_two: dict[str, Run]) -> None:
    for stage in (1, 2, 3):
        assert_same_bits(of_two[f"stage {stage}, half"], of_two[f"stage {stage}"])
    for name in ("untied", "shared layers"):
        assert_same_bits(of_two[f"{name}, half"], of_two[name])
        kept = stays_half(of_two[f"{name}, half"].config)
        assert kept == (name == "untied")
    for name in ("kept half", "each pass", "each pass, half", "recomputed"):
        assert_same_bits(of_two[name], of_two["stage 3"])


BERT_LIKE = {"family": "encoder", "norm_position": "post", "norm": "layernorm", "bias": True}
FAMILIES: dict[str, tuple[int, dict[str, Any], str, dict[str, Any]]] = {
    "encoder-decoder": (1, {"family": "encoder_decoder", "position": "buckets"}, "span_corruption", {}),
    "disentangled": (2, {"family": "encoder", "position": "disentangled"}, "masked_lm", {}),
    "experts": (1, {"experts": {"count": 4, "shared": 1}}, "causal", {}),
    "tiles": (2, {"tied": False}, "causal", {"feed_forward_tile": 7}),
    "shared and recomputed": (
        2, {"family": "encoder", "shared_layers": True}, "masked_lm", {"activation_checkpointing": True},
    ),
    "selective": (2, BERT_LIKE, "masked_lm", {"activation_checkpointing": "selective"}),
}  # fmt: skip


@pytest.mark.slow
def test_weights_kept_in_half_give_the_same_bits_in_every_family() -> None:
    tasks = []
    for stage, model, objective, engine in FAMILIES.values():
        for dtype in ("fp32", "bf16"):
            config = settings(stage, wire=dtype, model=model, **engine) | {"objective": {"name": objective}}
            tasks.append({"config": config})
    found = runs(tasks)
    for name, plain, half in zip(FAMILIES, found[::2], found[1::2], strict=True):
        assert stays_half(half.config), name
        assert_same_bits(half, plain)


def test_how_much_is_saved(of_two: dict[str, Run]) -> None:
    whole = embeddings_apart(of_two["each pass"])
    assert embeddings_apart(of_two["each pass, half"]) <= 0.68 * whole
    assert embeddings_apart(of_two["each pass, both"]) <= 0.51 * whole
    weights = {name: run.sent - wire(run.config).gradients for name, run in of_two.items()}
    assert weights["stage 3"] == pytest.approx(weights["stage 1"], rel=0.01)  # all is small enough to stay
    assert weights["kept half"] == pytest.approx(weights["stage 1, half"], rel=0.01)
    assert not any("bfloat16" in kind for kind in of_two["stage 3"].by_kind)


def test_gradients_in_half_stay_near(of_two: dict[str, Run]) -> None:
    for stage in (1, 2, 3):
        one, other = of_two[f"stage {stage}, gradients"], of_two[f"stage {stage}"]
        assert one.losses != other.losses
        for ours, theirs in zip(one.losses, other.losses, strict=True):
            assert ours == pytest.approx(theirs, rel=2e-3)


def test_any_layout_goes_on_from_any_other(of_two: dict[str, Run]) -> None:
    """In bf16, to the bit where the stage is the same; where it is another, as near as stages are to each other."""
    for of, to in PAIRS:
        for ours, theirs in zip(of_two[f"{of}, {to}"].losses, of_two[of].losses, strict=True):
            assert ours == pytest.approx(theirs[HALF:], rel=1e-4) and len(theirs) == STEPS
    again = of_two["kept half, stage 3"]
    assert again.losses == [one[HALF:] for one in of_two["kept half"].losses]
    assert again.weights == of_two["kept half"].weights


@pytest.mark.parametrize("dtype", [pytest.param("fp32", marks=pytest.mark.slow), "bf16"])
def test_groups_of_ranks_hold_the_weights_too(dtype: str, tmp_path: Path) -> None:
    """hpZ: the first time from all ranks, then within a group; what goes on forgets the copies that it began with."""
    grouped = settings(3, ranks=4, partition=2, micro_batch=1, zero=EACH_PASS, wire=dtype)
    plain = settings(3, ranks=4, micro_batch=1)
    tasks = [{"config": plain, "save": str(tmp_path)}, {"config": grouped, "load": str(tmp_path)}]
    whole, run = runs(tasks, 4)
    assert run.losses == [one[HALF:] for one in whole.losses] and run.weights == whole.weights
    account = wire(run.config)
    assert run.sent == pytest.approx(account.total, rel=0.01)
    assert account.within(2) > 0.25 * account.total


def test_what_travels_in_bf16_is_what_products_read() -> None:
    """Counted by the books and by the model itself, for a model with experts and a head of its own."""
    from trainer.books.wire import _weight_bytes
    from trainer.models import build
    from trainer.models.roles import halved

    model = {"tied": False, "experts": {"count": 4, "shared": 1, "shared_gate": True}}
    for more in ({}, model):
        config = Config.model_validate(settings(3, model=more, wire="bf16"))
        net = build(config)
        names = halved(net)
        bytes_ = sum(one.numel() * (2 if name in names else 4) for name, one in net.named_parameters())
        assert bytes_ == sum(_weight_bytes(config, shapes(config)).values()) < 4 * parameters(config).total
