"""How often each task of a mixture is read (Raffel et al. 2020, section 3.5.2), in exact fractions.

A rate is a share of the *examples*: an example of any task with a rate r_m is drawn with the probability r_m. Where
several records of a task share a sample, its share of the samples is smaller by as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from trainer.config import DataConfig

TEXT = "text"  # the text without labels, beside the names of tasks


def counted(data: DataConfig, sizes: Mapping[str, int]) -> dict[str, int]:
    """Examples that each counts as. sizes: training examples of each task, and of the TEXT the samples of an epoch."""
    found = {}
    for name, size in sizes.items():
        stated, limit = data.mixing.text_examples, data.mixing.limit
        if name != TEXT:
            stated, limit = data.tasks[name].examples, data.tasks[name].limit or limit
        found[name] = stated or (size if limit is None else min(size, limit))
    return found


def example_rates(data: DataConfig, sizes: Mapping[str, int]) -> dict[str, Fraction]:
    """Shares of the examples, which sum to 1; the text counts as a task, whatever `text_share` says.

    Proportional: r_m = min(e_m, K) / sum of min(e_n, K), to the power of 1 / T and divided by their sum. Of T = 1 they
    are exact; others are those of the double-precision powers.
    """
    if data.mixing.rate == "equal":
        return _normal(dict.fromkeys(sizes, Fraction(1)))
    rates = _normal({name: Fraction(count) for name, count in counted(data, sizes).items()})
    if data.mixing.temperature == 1:
        return rates
    return _normal({name: Fraction(float(rate) ** (1 / data.mixing.temperature)) for name, rate in rates.items()})


def sample_shares(data: DataConfig, sizes: Mapping[str, int], rows: Mapping[str, int]) -> dict[str, Fraction]:
    """Shares of the samples, which sum to 1. rows: samples that hold an epoch of each.

    A sample of a task holds sizes / rows examples of it on average. `text_share` is a share of the samples.
    """
    rates = example_rates(data, sizes)
    shares = _normal({name: rate * Fraction(rows[name], sizes[name]) for name, rate in rates.items()})
    if (text := data.mixing.text_share) is None:
        return shares
    tasks = _normal({name: share for name, share in shares.items() if name != TEXT})
    stated = Fraction(str(text))
    return {TEXT: stated} | {name: share * (1 - stated) for name, share in tasks.items()}


def _normal(weights: Mapping[str, Fraction]) -> dict[str, Fraction]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
