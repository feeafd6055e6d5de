"""What is believed of a pass rate: a Beta distribution, and what follows from it for a group of rollouts."""

from __future__ import annotations

import math
from dataclasses import dataclass

_EDGE = 1e-3
"""Means nearer to 0 or 1 are moved here: no finite experience makes a pass rate certain."""
_MOST = 1e4
"""Largest weight a + b that moments may give."""
_LEAST = 1e-2
_MOST_STEPS = 10_000
"""Of a continued fraction; it takes about the root of a + b of them."""


@dataclass(frozen=True, slots=True)
class Beta:
    """Beta(a, b) over a pass rate.

    Raises:
        ValueError: unless both parameters are positive numbers.
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        if not (0 < self.a < math.inf and 0 < self.b < math.inf):
            raise ValueError(f"a Beta distribution needs positive parameters, got {self.a} and {self.b}")

    @classmethod
    def from_moments(cls, mean: float, deviation: float, *, least: float = _LEAST) -> Beta:
        """The distribution with this mean and standard deviation, as near as a Beta distribution comes to them.

        Args:
            mean: 0..1.
            deviation: 0 or more.
            least: smallest weight a + b. Below 2 a belief says "surely 0 or surely 1", where a wide spread of opinions
                may only mean "I do not know".
        """
        mean = min(max(mean, _EDGE), 1 - _EDGE)
        spread = mean * (1 - mean)
        weight = spread / deviation**2 - 1 if deviation > 0 else _MOST
        weight = min(max(weight, least), _MOST)
        return cls(mean * weight, (1 - mean) * weight)

    @property
    def mean(self) -> float:
        """Expected pass rate."""
        return self.a / (self.a + self.b)

    @property
    def deviation(self) -> float:
        """Standard deviation of the pass rate."""
        total = self.a + self.b
        return math.sqrt(self.a * self.b / (total + 1)) / total

    def above(self, level: float) -> float:
        """Probability that the pass rate exceeds `level` (0..1): 1 - I_level(a, b), to about twelve digits."""
        if not 0 < level < 1:
            return float(level <= 0)
        # The continued fraction converges quickly on one side of the mean, and the other side is its mirror image.
        if level > (self.a + 1) / (self.a + self.b + 2):
            return _lower_tail(self.b, self.a, 1 - level)
        return 1 - _lower_tail(self.a, self.b, level)

    def log_moment(self, right: float, wrong: float) -> float:
        """ln E[p^right (1-p)^wrong]: how likely a given order of so many right and wrong answers is."""
        return _log_beta(self.a + right, self.b + wrong) - _log_beta(self.a, self.b)

    def zero_variance(self, size: int) -> float:
        """Probability that `size` rollouts are all right or all wrong: E[p^G + (1-p)^G].

        That is B(a+G, b) / B(a, b) + B(a, b+G) / B(a, b), by products so that no large numbers cancel.
        """
        total = self.a + self.b
        right = math.prod((self.a + i) / (total + i) for i in range(size))
        wrong = math.prod((self.b + i) / (total + i) for i in range(size))
        return min(1.0, right + wrong)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _lower_tail(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's method, DLMF 8.17.22)."""
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for step in range(_MOST_STEPS):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + term * d or tiny)
        c = 1 + term / c or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-15 and step:
            break
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b)) / a
    return min(1.0, max(0.0, front * (value - 1)))
