"""Which of several sources sample number i is of, evenly: a pure function of their shares and i, without any state.

The sources are the leaves of a binary tree. Of the N samples of a node that come first, its left branch has
floor(q N + 1/2), q being its share of the node's, and its right branch the others. So what each source has of the
first n samples is a number that is computed in a few steps for any n, by whole numbers and without error.

A branch is at most 1/2 away from its share of what the node has, so that it is at most 1/2 + q e away from its share of
all, where the node is at most e: a sum that is less than 1 for up to four sources, and about 1 for others (`bound`; the
tree is chosen so that it is small). In any window of samples each is within twice that. No order holds all of three or
more sources within 1 in every window, but for a few special shares (Fraenkel's conjecture; Tijdeman 1980, "The chairman
assignment problem").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, combinations

FEW = 6  # sources of which all trees are tried: 945
LIMITS = (0.7, 0.85, 0.95, 1.0, 1.1, 1.3)  # that trees of more are made for


@dataclass(frozen=True)
class Node:
    """A source, where `name` is one; or two branches. weight: share of the samples."""

    weight: Fraction
    name: str | None = None
    branches: tuple[Node, Node] | None = None

    @staticmethod
    def over(one: Node, other: Node) -> Node:
        """The two as branches."""
        return Node(one.weight + other.weight, branches=(one, other))

    @cached_property
    def _share(self) -> tuple[int, int]:
        """Of the left branch, as numerator and denominator."""
        assert self.branches is not None
        share = self.branches[0].weight / self.weight
        return share.numerator, share.denominator

    def left(self, samples: int) -> int:
        """Of the node's first samples, those of its left branch."""
        numerator, denominator = self._share
        return (2 * numerator * samples + denominator) // (2 * denominator)

    def farthest(self, parents: Fraction | float = 0) -> float:
        """The most that any source is away from its share; parents: that the node itself is."""
        if self.branches is None:
            return float(parents)
        return max(one.farthest(0.5 + float(one.weight / self.weight) * parents) for one in self.branches)


class Interleaving:
    """Sample numbers -> (source, number of the sample among those of its source)."""

    def __init__(self, shares: Mapping[str, Fraction]) -> None:
        """shares: of the samples, 0 or more; they sum to 1."""
        self.names = list(shares)
        leaves = [Node(share, name) for name, share in shares.items() if share > 0]
        self.root = min(_trees(leaves), key=Node.farthest)

    @property
    def bound(self) -> float:
        """Of all sources and every n: the most that the first n samples are away from n times the source's share."""
        return self.root.farthest()

    def __call__(self, sample: int) -> tuple[str, int]:
        node, number = self.root, sample
        while node.branches is not None:
            before = node.left(number)
            which = int(node.left(number + 1) == before)
            number = number - before if which else before
            node = node.branches[which]
        assert node.name is not None
        return node.name, number

    def counts(self, samples: int) -> dict[str, int]:
        """Of the first samples, those of each source."""
        return dict.fromkeys(self.names, 0) | dict(_counts(self.root, samples))


def _counts(node: Node, samples: int) -> Iterator[tuple[str, int]]:
    if node.branches is None:
        assert node.name is not None
        yield node.name, samples
        return
    left = node.left(samples)
    for branch, count in zip(node.branches, (left, samples - left), strict=True):
        yield from _counts(branch, count)


def _trees(leaves: Sequence[Node]) -> Iterator[Node]:
    """Trees to choose from: all of few leaves; of many the best over them in the order of their weights, and those of
    which the root's branches take turns in that order."""
    if len(leaves) <= FEW:
        yield from _all_trees(tuple(leaves))
        return
    ordered = sorted(leaves, key=lambda node: node.weight, reverse=True)
    for limit in LIMITS:
        yield _within(ordered, limit)
        yield Node.over(_within(ordered[::2], limit), _within(ordered[1::2], limit))


def _all_trees(leaves: tuple[Node, ...]) -> Iterator[Node]:
    if len(leaves) == 1:
        yield leaves[0]
        return
    first, others = leaves[0], leaves[1:]
    for size in range(len(others)):
        for beside in combinations(range(len(others)), size):
            one = (first, *(others[k] for k in beside))
            other = tuple(leaf for k, leaf in enumerate(others) if k not in beside)
            for left in _all_trees(one):
                yield from (Node.over(left, right) for right in _all_trees(other))


def _within(leaves: Sequence[Node], limit: float) -> Node:
    """A tree of which every branch is a run of these leaves: the one that comes nearest to `limit` for all of them.

    A leaf of weight w is at most (1 + w S) / 2 away from its share, S being the sum of 1 / weight over its ancestors
    but the root; w S shall be at most `limit`. room: how large that sum may be above a run of leaves, at most.
    """
    sums = [0.0, *accumulate(float(leaf.weight) for leaf in leaves)]
    room = {(first, first + 1): limit / float(leaf.weight) for first, leaf in enumerate(leaves)}
    cuts: dict[tuple[int, int], int] = {}
    for size in range(2, len(leaves) + 1):
        for first in range(len(leaves) - size + 1):
            last = first + size
            least = {cut: min(room[first, cut], room[cut, last]) for cut in range(first + 1, last)}
            cut = cuts[first, last] = max(least, key=lambda cut: least[cut])
            room[first, last] = least[cut] - 1 / (sums[last] - sums[first])

    def tree(first: int, last: int) -> Node:
        if last == first + 1:
            return leaves[first]
        cut = cuts[first, last]
        return Node.over(tree(first, cut), tree(cut, last))

    return tree(0, len(leaves))
