"""Which pieces share a sample, whatever the rule that put them together."""

from __future__ import annotations

import numpy as np


class Packing:
    """Pieces in samples. samples: how many; padding: the share of them that nothing fills."""

    def __init__(self, sample: np.ndarray, sizes: np.ndarray, capacity: int) -> None:
        """sample: int64 [pieces], of each; sizes: int64 [pieces], the tokens that each takes of its sample's."""
        self.samples = int(sample.max(initial=-1)) + 1
        members = np.argsort(sample, kind="stable")
        self._first = np.searchsorted(sample[members], np.arange(self.samples + 1))
        # A sample past the end has one piece past the end, which is all padding.
        self._members = np.append(members, len(sample))
        self._counts = np.append(np.diff(self._first), 1)
        self.padding = 1 - sizes.sum() / max(1, self.samples * capacity)

    def members(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(pieces, owner): the pieces of these samples one after the other, and whose they are: 0, 1, 2 ..."""
        samples = np.minimum(samples, self.samples)
        counts = self._counts[samples]
        owner = np.repeat(np.arange(len(samples)), counts)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self._members[self._first[samples][owner] + within], owner
