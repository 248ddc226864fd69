"""What every layout keeps and sends, by hand and by what must hold whatever the numbers are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from trainer.books.activations import saved
from trainer.books.clock import step_seconds, wire_seconds
from trainer.books.expert_ranks import held_numbers
from trainer.books.layout import micro_batch, micro_batches
from trainer.books.lengths import lengths
from trainer.books.links import Flow, bytes_between, bytes_sent, flows
from trainer.books.memory import low_numbers, memory
from trainer.books.parameters import parameters
from trainer.books.plan import plan
from trainer.books.wire import wire
from trainer.config import Config, MachineConfig

MACHINE = {
    "name": "some",
    "peak_flops": {"bf16": 1e15},
    "memory_bytes": 80e9,
    "memory_bandwidth": 3e12,
    "link_bandwidth": 4e11,
    "network_bandwidth": 5e10,
    "devices_per_host": 8,
}
DECODER = {"family": "decoder", "depth": 4, "width": 512, "heads": 8, "kv_heads": 2, "ffn_width": 1024, "gated": True}
EXPERTS = DECODER | {"experts": {"count": 8, "per_token": 2, "width": 256}}
LENGTH = 1024


def laid_out(
    engine: dict[str, Any] | None = None, nodes: int = 2, processes: int = 8, batch: int = 32, **model: Any
) -> Config:
    launch = {"name": "slurm" if nodes > 1 else "local", "nodes": nodes, "processes": processes}
    return Config.model_validate(
        {
            "model": DECODER | model,
            "data": {"sequence_length": LENGTH},
            "optim": {"batch_size": batch},
            "launch": launch,
            "machine": MACHINE,
            "engine": {"zero_stage": 3, "micro_batch": 1} | (engine or {}),
        }
    )


def crawling(config: Config) -> Config:
    """The same over links of a thirtieth of the bandwidth."""
    links = {name: getattr(config.machine, name) / 30 for name in ("link_bandwidth", "network_bandwidth")}
    return config.model_copy(update={"machine": config.machine.model_copy(update=links)})


def flow(config: Config, name: str) -> Flow:
    (found,) = [one for one in flows(config) if one.name == name]
    return found


def test_what_is_not_shared_goes_around_all_ranks() -> None:
    for nodes, stage in ((1, 0), (1, 1), (2, 2), (2, 3)):
        config = laid_out({"zero_stage": stage}, nodes)
        (states,) = flows(config)
        assert (states.bytes, states.ranks, states.hosted) == (wire(config).total, 8 * nodes, 8)
        assert bytes_between(config) == (states.bytes / 8 if nodes > 1 else 0)


def test_links_by_hand() -> None:
    """1,600 bytes a rank: a ring of 16 ranks on hosts of 8 sends an eighth of them out; all to all, 8 of 15 pieces."""
    machine = MachineConfig.model_validate(MACHINE | {"link_bandwidth": 1000.0, "network_bandwidth": 100.0})
    ring = Flow("", 1600.0, 16, 8, ring=True, hides=True)
    spread = Flow("", 1500.0, 16, 8, ring=False, hides=False)
    inside = Flow("", 1600.0, 4, 8, ring=True, hides=True)
    assert (ring.between, spread.between, inside.between) == (200.0, 800.0, 0.0)
    assert ring.seconds(machine) == 2.0  # 8 ports of 100 B/s take 800 B/s
    assert spread.seconds(machine) == 8.0  # 800 B through a port, 700 B inside meanwhile
    assert inside.seconds(machine) == 1.6
    assert inside.seconds(machine, share=0.5) == 3.2
    alone = machine.model_copy(update={"network_bandwidth": None})
    assert (ring.seconds(alone), inside.seconds(alone)) == (None, 1.6)


def test_sequences_by_heads_by_hand() -> None:
    """Of 4 ranks each holds 256 of 1,024 positions. Queries and the output have 8 heads of 64, keys and values 2, each
    repeated for 2 ranks; in bf16, forward and backward, 3 of 4 parts go away, in 4 layers and 4 passes."""
    config = laid_out({"sequence_parallel": 4}, batch=16)
    assert (micro_batch(config), micro_batches(config)) == (1, 4)
    once = 2 * 256 * (2 * 8 * 64 + 2 * 4 * 64)
    assert flow(config, "sequences").bytes == 4 * 4 * 2 * once * 3 / 4
    again = laid_out({"sequence_parallel": 4, "activation_checkpointing": True}, batch=16)
    assert flow(again, "sequences").bytes == 4 * 4 * 3 * once * 3 / 4
    assert flow(config, "sequences").between == 0


def test_sequences_around_a_ring_by_hand() -> None:
    """Keys and values of 256 positions to 3 others, forward and backward; their fp32 gradients make 4 steps."""
    config = laid_out({"sequence_parallel": 4, "sequence_kind": "ring"}, batch=16)
    slices = 2 * 256 * 2 * 64
    assert flow(config, "sequences").bytes == 4 * 4 * (2 * 2 * slices * 3 + 4 * slices * 4)


def test_tokens_to_experts_by_hand() -> None:
    """Each of 1,024 tokens goes to 2 experts and back, its gradient too: 3 of 4 to another rank."""
    config = laid_out({"expert_parallel": 4}, **EXPERTS)
    pairs, layers = 2 * LENGTH, 4
    there_and_back, how_many = 2 * 2 * pairs * 2 * 512, 8 * 8  # bf16, forward and backward; an int64 for each expert
    assert flow(config, "tokens").bytes == micro_batches(config) * layers * (there_and_back + how_many) * 3 / 4
    assert flow(config, "experts").ranks == 4
    assert flow(config, "experts").hosted == 2  # ranks 0 and 4 of 8, on each of two hosts


def test_experts_are_held_once_over_their_ranks() -> None:
    config = laid_out({"expert_parallel": 4}, **EXPERTS)
    matrices = 4 * 8 * 3 * 512 * 256
    total = parameters(config).total
    assert 4 * held_numbers(config) == total + 3 * (total - matrices)
    whole = laid_out(**EXPERTS)
    sent = sum(one.bytes for one in flows(config) if one.name in ("states", "experts"))
    assert sent < wire(whole).total  # 4 ranks in place of 16 hold the same


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_divided_states_of_all_ranks_are_the_whole(stage: int) -> None:
    """AdamW's two moments over all ranks, whatever else is shared; at stage 0 they are on each rank."""
    for engine in ({}, {"sequence_parallel": 4}, {"expert_parallel": 4}, {"expert_parallel": 8}):
        config = laid_out({"zero_stage": stage, **engine}, **EXPERTS)
        moments, ranks = 2 * 4 * parameters(config).total, 16
        optimizer = memory(config).optimizer
        if stage:
            assert 0 <= optimizer * ranks - moments < 2 * 4 * ranks
        else:
            assert optimizer == 2 * 4 * held_numbers(config)


@pytest.mark.parametrize("kind", ["ulysses", "ring"])
def test_more_ranks_to_a_sequence_keep_less(kind: str) -> None:
    """Of one sequence: what is kept falls with the ranks, of attention and of all else."""
    kept = []
    for ranks in (1, 2, 4, 8):
        config = laid_out({"sequence_parallel": ranks, "sequence_kind": kind}, batch=16)
        found = saved(config, 1, *lengths(config))
        kept.append((found.kept, found.logits, memory(config).total))
    for before, after in pairwise(kept):
        assert all(less < more for less, more in zip(after, before, strict=True))
        assert after[0] <= 0.62 * before[0]  # halves, but for what is repeated and exchanged


def test_scores_that_are_kept_are_divided_among_the_ranks() -> None:
    """On a CPU in fp32 the reference keeps them: 4 ranks have a quarter each."""
    sizes = []
    for ranks in (1, 4):
        config = laid_out({"sequence_parallel": ranks, "precision": "fp32"}, batch=16)
        config = config.model_copy(update={"kernels": config.kernels.model_copy(update={"attention": "reference"})})
        sizes.append(saved(config, 1, *lengths(config)).blocks)
    assert sizes[1] < 0.27 * sizes[0]


def test_half_the_wire_gathers_matrices_in_two_bytes() -> None:
    whole, half = laid_out(), laid_out({"wire": "bf16"})
    less = memory(whole).weights - memory(half).weights
    assert less == pytest.approx(2 * low_numbers(half), abs=2)
    assert memory(half).total < memory(whole).total
    assert low_numbers(half) < parameters(half).total


def test_a_second_copy_is_divided_over_its_partition() -> None:
    count, before = parameters(laid_out()).total, memory(laid_out()).weights
    for partition, ranks in (("node", 8), (4, 4), (2, 2)):
        config = laid_out({"partition": partition})
        assert memory(config).weights - before == 4 * -(-count // ranks)
        everyone, inside = flows(config)
        assert (everyone.ranks, inside.ranks, inside.between) == (16, ranks, 0)
        assert bytes_between(config) < bytes_between(laid_out())
        assert bytes_sent(config) == pytest.approx(wire(config).total)


def test_half_the_wire_and_weights_that_stay_take_less_time() -> None:
    slow, half, kept = (laid_out(engine, batch=64) for engine in ({}, {"wire": "bf16"}, {"keep_gathered": True}))
    for quicker in (half, kept):
        assert bytes_sent(quicker) < bytes_sent(slow)
        assert bytes_between(quicker) < bytes_between(slow)
        assert wire_seconds(quicker) < wire_seconds(slow)
        # Over links at which what is sent does not hide under so small a step.
        assert (step_seconds(crawling(quicker)).value or 0) < (step_seconds(crawling(slow)).value or 0)
    assert memory(kept).total >= memory(slow).total


def test_what_stays_inside_a_host_is_quicker() -> None:
    """The same groups of 8 on hosts of 8, and on hosts of 4."""
    near = laid_out({"sequence_parallel": 8}, nodes=2, processes=8, batch=16)
    far = laid_out({"sequence_parallel": 8}, nodes=4, processes=4, batch=16)
    times = [step_seconds(one).value for one in (near, far)]
    assert times[0] is not None and times[1] is not None
    assert times[0] < times[1]
    assert bytes_sent(near) == bytes_sent(far)
    assert any(
        note.startswith("engine.sequence_parallel=8: more ranks than a host has (4)") for note in plan(far).notes
    )
    assert not any("more ranks than a host" in note for note in plan(near).notes)


def test_a_plan_tells_what_leaves_the_host() -> None:
    config = laid_out()
    assert plan(config)["wire.between_hosts"].planned.value == wire(config).total / 8
    assert "wire.between_hosts" not in [row.key for row in plan(laid_out(nodes=1)).rows]


@pytest.mark.parametrize(
    ("engine", "launch", "said"),
    [
        (
            {"sequence_parallel": 4},
            {"nodes": 4, "processes": 6},
            "engine.sequence_parallel: groups of 4 consecutive ranks do not match nodes of launch.processes=6: some "
            "would lie on parts of two; 1, 2 would do",
        ),
        (
            {"sequence_parallel": 16},
            {"nodes": 4, "processes": 8, "min_nodes": 3},
            "launch.min_nodes: engine.sequence_parallel has groups of 2 nodes, which a lost one would tear; leave it, "
            "or take groups of 8 ranks at most",
        ),
    ],
)
def test_groups_lie_inside_a_host_or_on_whole_ones(engine: dict[str, Any], launch: dict[str, Any], said: str) -> None:
    plain = laid_out(batch=96).model_dump(mode="json")
    plain["engine"] |= engine
    plain["launch"] |= launch
    with pytest.raises(ValueError, match="would") as caught:
        Config.model_validate(plain)
    assert said in str(caught.value)
