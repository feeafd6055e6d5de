"""What is believed of a pass rate: a Beta distribution, and what follows from it for a group of rollouts."""

from __future__ import annotations

import math
from dataclasses import dataclass

_EDGE = 1e-3
"""Means nearer to 0 or 1 are moved here: no finite experience makes a pass rate certain."""
_MOST = 1e4
"""Largest weight a + b that moments may give."""
_LEAST = 1e-2


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

    def zero_variance(self, size: int) -> float:
        """Probability that `size` rollouts are all right or all wrong: E[p^G + (1-p)^G].

        That is B(a+G, b) / B(a, b) + B(a, b+G) / B(a, b), by products so that no large numbers cancel.
        """
        total = self.a + self.b
        right = math.prod((self.a + i) / (total + i) for i in range(size))
        wrong = math.prod((self.b + i) / (total + i) for i in range(size))
        return min(1.0, right + wrong)
