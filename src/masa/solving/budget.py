"""A budget of tokens that is never exceeded: what a rollout may take at most is set aside before it is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable


class Budget:
    """Tokens for all rollouts of a call.

    Args:
        tokens: None for no bound.

    Raises:
        ValueError: for fewer than one token.
    """

    def __init__(self, tokens: int | None = None) -> None:
        if tokens is not None and tokens < 1:
            raise ValueError(f"a budget must be at least 1 token, got {tokens}")
        self._tokens = math.inf if tokens is None else tokens
        self.spent = 0

    @property
    def is_bounded(self) -> bool:
        """Whether there is a bound."""
        return self._tokens < math.inf

    @property
    def left(self) -> float:
        """Tokens not spent yet; infinite without a bound."""
        return self._tokens - self.spent

    def affordable(self, limits: Iterable[int]) -> list[bool]:
        """Which requests fit, those in front first, if each takes its limit."""
        left = self.left
        fits = []
        for limit in limits:
            fits.append(limit <= left)
            left -= limit if fits[-1] else 0
        return fits

    def spend(self, tokens: int) -> None:
        """Tokens that were generated.

        Raises:
            ValueError: if they exceed what is left, which no request was allowed to do.
        """
        if tokens > self.left:
            raise ValueError(f"{tokens} tokens were generated and {self.left:g} were left: an engine broke its limits")
        self.spent += tokens
