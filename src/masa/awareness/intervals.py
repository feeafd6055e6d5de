"""Intervals: how far a measured share, mean or correlation may be trusted. Undefined is None, never NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from masa.seeding import Purpose, derive_generator


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval."""

    low: float
    high: float


def _normal_quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> Interval | None:
    """Wilson's score interval for a share; None for n = 0. Both may be fractional (effective counts).

    With p = successes / n and z the normal quantile: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).
    A one-sided bound at level 0.9 is the end of the two-sided interval at confidence 0.8.
    """
    if n <= 0:
        return None
    if not 0 <= successes <= n * (1 + 1e-9):
        raise ValueError(f"a share needs 0 <= successes <= n, got {successes} of {n}")
    z = _normal_quantile(confidence)
    share = min(successes / n, 1.0)
    middle = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Interval(max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))


def effective_size(weights: Sequence[float]) -> float:
    """Kish's effective number of observations, (sum w)^2 / sum w^2: n for equal weights, 0 for none."""
    squares = math.fsum(w * w for w in weights)
    return math.fsum(weights) ** 2 / squares if squares > 0 else 0.0


def clustered_interval(
    successes: Sequence[float], sizes: Sequence[float], weights: Sequence[float], confidence: float = 0.95
) -> Interval | None:
    """Wilson's interval for a share pooled over clusters (the rollouts of a problem resemble one another).

    The share is r = sum w x / sum w n over clusters with n > 0. Its linearised variance, k/(k-1) sum w^2 (x - r n)^2 /
    (sum w n)^2, gives the effective number of observations r (1 - r) / variance, held between the effective number of
    clusters and that of single observations; the former is used where the variance says nothing (r = 0 or 1, k < 2).
    """
    rows = [(x, n, w) for x, n, w in zip(successes, sizes, weights, strict=True) if n > 0]
    if not rows:
        return None
    total = math.fsum(w * n for _, n, w in rows)
    share = min(max(math.fsum(w * x for x, _, w in rows) / total, 0.0), 1.0)
    clusters = effective_size([w for *_, w in rows])
    singles = max(total**2 / math.fsum(w * w * n for _, n, w in rows), clusters)
    k = len(rows)
    n_effective = clusters
    if k > 1 and 0 < share < 1:
        variance = k / (k - 1) * math.fsum((w * (x - share * n)) ** 2 for x, n, w in rows) / total**2
        n_effective = singles if variance == 0 else min(max(share * (1 - share) / variance, clusters), singles)
    return wilson_interval(share * n_effective, n_effective, confidence)


def weighted_interval(hits: Sequence[bool], weights: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Wilson's interval for a share r = sum w x / sum w of observations with unequal weights; None for none.

    The linearised variance of the share, sum w^2 (x - r)^2 / (sum w)^2, gives the effective number of observations
    r (1 - r) / variance: n for equal weights. Kish's number assumes that weights
    and hits have nothing to do with each other, which fails where the weight tells the kind of an observation apart;
    it is used where the variance says nothing (r = 0 or 1).
    """
    total = math.fsum(weights)
    if total <= 0:
        return None
    share = min(math.fsum(w for x, w in zip(hits, weights, strict=True) if x) / total, 1.0)
    n = effective_size(weights)
    if 0 < share < 1:
        variance = math.fsum((w * (x - share)) ** 2 for x, w in zip(hits, weights, strict=True)) / total**2
        n = share * (1 - share) / variance
    return wilson_interval(share * n, n, confidence)


def student_t_quantile(probability: float, df: int) -> float:
    """Quantile of Student's t for whole degrees of freedom, by bisection of the closed form of its CDF."""
    if not 0 < probability < 1 or df < 1:
        raise ValueError(f"need 0 < probability < 1 and df >= 1, got {probability} and {df}")
    if probability < 0.5:
        return -student_t_quantile(1 - probability, df)
    low, high = 0.0, 1.0
    while _student_t_cdf(high, df) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if _student_t_cdf(middle, df) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _student_t_cdf(t: float, df: int) -> float:
    """CDF at t >= 0 (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(df))
    cosine = math.cos(angle)
    term = cosine if df % 2 else 1.0
    series = term if df > 1 else 0.0
    for i in range(3 if df % 2 else 2, df - 1, 2):
        term *= (i - 1) / i * cosine * cosine
        series += term
    two_sided = math.sin(angle) * series
    if df % 2:
        two_sided = 2 / math.pi * (angle + two_sided)
    return 0.5 + two_sided / 2


def student_t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Interval for a mean over independent runs: mean +- t s / sqrt(n); None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    reach = student_t_quantile((1 + confidence) / 2, n - 1) * error
    return Interval(mean - reach, mean + reach)


def bootstrap_mean_interval(
    values: Sequence[float], seed: int, confidence: float = 0.95, resamples: int = 2000
) -> Interval | None:
    """Percentile bootstrap for a mean over problems; the same seed gives the same interval. None without values."""
    return bootstrap_average_interval([values], seed, confidence, resamples)


def bootstrap_average_interval(
    groups: Sequence[Sequence[float]], seed: int, confidence: float = 0.95, resamples: int = 2000
) -> Interval | None:
    """The same for the unweighted average of several groups' means: each group's problems are drawn anew by themselves.

    None without groups, or if one of them has no values.
    """
    if not groups or not all(map(len, groups)):
        return None
    data = [np.asarray(values, dtype=float) for values in groups]
    generator = derive_generator(seed, Purpose.EVALUATION)
    averages = np.array(
        [
            np.mean([values[generator.integers(0, len(values), len(values))].mean() for values in data])
            for _ in range(resamples)
        ]
    )
    low, high = np.quantile(averages, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def correlation_interval(r: float | None, n: int, confidence: float = 0.95) -> Interval | None:
    """Fisher's interval for a correlation: tanh(artanh r +- z / sqrt(n - 3)); None for n < 4 or |r| = 1.

    For Spearman's rank correlation it is an approximation, slightly too narrow.
    """
    if r is None or n < 4 or abs(r) >= 1:
        return None
    reach = _normal_quantile(confidence) / math.sqrt(n - 3)
    return Interval(math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach))
