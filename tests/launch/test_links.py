"""Which pairs of ranks measure their links, and which link is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launch.links import Link, evaluate_links, links_said, rounds
from trainer.compose import compose
from trainer.config import Config

FAST, NETWORK = 4e11, 4e10


@pytest.fixture(scope="module")
def config() -> Config:
    return compose(
        ["launch=slurm", "launch.nodes=4", "launch.processes=2", "machine=h100-sxm", "machine.network_bandwidth=5e10"]
    )


def node(rank: int) -> str:
    return f"n{rank // 2 + 1}"


def links() -> list[Link]:
    """Of eight ranks on four nodes, all good."""
    found = []
    for pairs in rounds([node(rank) for rank in range(8)]):
        for pair in pairs:
            for source, target in (pair, pair[::-1]):
                speed = FAST if node(source) == node(target) else NETWORK
                found.append(Link(source, target, node(source), node(target), 1e-5, speed))
    return found


def changed(source: int, target: int, speed: float) -> list[Link]:
    return [
        replace(one, bytes_per_second=speed) if (one.source, one.target) == (source, target) else one for one in links()
    ]


def test_each_rank_is_in_one_pair_at_a_time() -> None:
    seen = []
    for pairs in rounds(["a", "a", "a", "b", "b", "b", "c", "c", "c"]):
        ranks = [rank for pair in pairs for rank in pair]
        assert len(set(ranks)) == len(ranks)
        seen += pairs
    inside = [(0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8)]
    between = [(0, 3), (1, 4), (2, 5), (3, 6), (4, 7), (5, 8)]
    assert sorted(seen) == sorted(inside + between)


def test_good_links_pass(config: Config) -> None:
    assert evaluate_links(links(), config, "cuda") == []
    assert len(links_said([one.to_json() for one in links()])) == 2


@pytest.mark.parametrize(
    ("link", "speed", "said"),
    [
        (
            (2, 4),
            8e9,
            "the link from n2 (rank 2) to n3 (rank 4) is one-sided: 8 GB/s, 40 GB/s the other way "
            "(machine.network_bandwidth 50 GB/s)",
        ),
        (
            (5, 4),
            2e11 / 3,
            "the link from rank 5 to rank 4 is one-sided: 66.7 GB/s, 400 GB/s the other way "
            "(machine.link_bandwidth 450 GB/s)",
        ),
    ],
)
def test_a_one_sided_link_is_named(link: tuple[int, int], speed: float, said: str, config: Config) -> None:
    (problem,) = evaluate_links(changed(*link, speed), config, "cuda")
    assert (problem.node, problem.text) == (node(link[0]), said)


def test_a_slow_link_is_named_in_both_directions(config: Config) -> None:
    slow = [replace(one, bytes_per_second=1.2e10) if {one.source, one.target} == {0, 2} else one for one in links()]
    told = [problem.text for problem in evaluate_links(slow, config, "cuda")]
    assert told == [
        f"the link from {a} to {b} is slow: 12 GB/s, the median link 40 GB/s (machine.network_bandwidth 50 GB/s)"
        for a, b in (("n1 (rank 0)", "n2 (rank 2)"), ("n2 (rank 2)", "n1 (rank 0)"))
    ]


def test_what_is_far_below_the_machine_is_told_of_every_link(config: Config) -> None:
    slow = [replace(one, bytes_per_second=1e9) if one.between else one for one in links()]
    told = evaluate_links(slow, config, "cuda")
    assert len(told) == len([one for one in slow if one.between])
    assert told[0].text.endswith("is slow: 1 GB/s (machine.network_bandwidth 50 GB/s)")


def test_a_machine_that_states_nothing_says_so() -> None:
    unstated = compose(["launch.processes=2"])
    pair = [Link(0, 1, "a", "a", 1e-5, 1e8), Link(1, 0, "a", "a", 1e-5, 1e9)]
    (problem,) = evaluate_links(pair, unstated, "cuda")
    assert problem.text.endswith("(machine.link_bandwidth is not stated)")


def test_ranks_that_share_a_host_s_memory_have_no_link_to_judge(config: Config) -> None:
    inside = changed(5, 4, FAST / 100)
    assert len(evaluate_links(inside, config, "cuda")) == 1
    assert evaluate_links(inside, config, "cpu") == []
    assert len(evaluate_links(changed(2, 4, NETWORK / 5), config, "cpu")) == 1
