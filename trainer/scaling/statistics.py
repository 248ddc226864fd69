"""What a handful of seeds can say: means with Student's intervals, and Welch's test of a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


def student_tail(t: float, freedom: float) -> float:
    """P(|T| > t) of Student's distribution, to about 1e-6 (for whole numbers of degrees of freedom, 1e-12).

    With t = sqrt(freedom) tan(angle) it is an integral of cos^(freedom - 1) from the angle to a right one.
    """
    if math.isinf(t):
        return 0.0
    angle = math.atan(abs(t) / math.sqrt(freedom))
    # Beyond `width` the integrand is below exp(-40) of its value at zero: for many degrees of freedom it is narrow.
    width = min(math.pi / 2, 9 / math.sqrt(max(freedom - 1, 1e-9)))
    if angle >= width:
        width = math.pi / 2
    middle, half = (angle + width) / 2, (width - angle) / 2
    integral = half * float(np.sum(_WEIGHTS * np.cos(middle + half * _NODES) ** (freedom - 1)))
    log_beta = math.lgamma(0.5) + math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)
    return min(1.0, 2 * integral * math.exp(-log_beta))


def student_quantile(freedom: float, level: float = 0.95) -> float:
    """The t that |T| exceeds with probability 1 - level: 12.71 for one degree of freedom, 1.96 for very many."""
    low, high = 0.0, 1e6
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, freedom) > 1 - level else (low, middle)
    return (low + high) / 2


def fisher_tail(f: float, above: float, below: float) -> float:
    """P(F > f) of Fisher's distribution with these degrees of freedom, to about 1e-9.

    The regularised incomplete beta function by its continued fraction (Press et al. 2007, 6.4, by Lentz's method).
    """
    if f <= 0:
        return 1.0
    x, a, b = below / (below + above * f), below / 2, above / 2
    if x > (a + 1) / (a + b + 2):
        return 1.0 - fisher_tail(1 / f, below, above)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), 1e-300)
    fraction = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            fraction *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return min(1.0, math.exp(log_front) * fraction / a)


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float | None]:
    """Mean, and half the width of Student's interval; None for a single value, which tells nothing of its spread."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    return mean, student_quantile(len(values) - 1, level) * float(np.std(values, ddof=1)) / math.sqrt(len(values))


@dataclass(frozen=True)
class Welch:
    """Welch's test of two means with unequal variances."""

    difference: float  # second minus first
    half_width: float  # of its 95% interval
    t: float
    freedom: float
    p: float


def welch(first: Sequence[float], second: Sequence[float]) -> Welch | None:
    """None where one of the two has fewer than two values (Welch 1947; freedom by Satterthwaite)."""
    if len(first) < 2 or len(second) < 2:
        return None
    a, b = (float(np.var(values, ddof=1)) / len(values) for values in (first, second))
    difference = float(np.mean(second) - np.mean(first))
    if a + b == 0:
        p = 1.0 if difference == 0 else 0.0
        return Welch(difference, 0.0, math.copysign(math.inf, difference) if difference else 0.0, math.inf, p)
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    error = math.sqrt(a + b)
    t = difference / error
    return Welch(difference, student_quantile(freedom) * error, t, freedom, student_tail(t, freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several comparisons, adjusted so that one false alarm among all keeps its probability (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
