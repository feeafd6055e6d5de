"""How solutions' lengths compare with those foretold: corrects a policy that foretells too short or too long.

The sample must be free of cutoffs. A correct rollout that runs past a limit is never seen, so a correction fitted on
what limits let live is too small, the next limit is smaller still, and so on round by round.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


class LengthCalibration:
    """The last ratios L / L^ of correct rollouts that ended by themselves, on problems without a cutoff.

    Args:
        window: ratios kept, at most.
        least: ratios needed before anything is said.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(self, *, window: int = 1024, least: int = 50) -> None:
        if not 1 <= least <= window:
            raise ValueError(f"length calibration needs 1 <= least <= window, got {least} and {window}")
        self.least = least
        self._ratios: deque[float] = deque(maxlen=window)

    @property
    def n(self) -> int:
        """Ratios in the window."""
        return len(self._ratios)

    def observe(self, predicted: float, lengths: Iterable[int]) -> None:
        """One problem without a cutoff: L^ and the lengths C of its correct rollouts, in tokens.

        Raises:
            ValueError: unless the predicted length is positive.
        """
        if not predicted > 0:
            raise ValueError(f"a predicted length must be positive, got {predicted}")
        self._ratios.extend(length / predicted for length in lengths)

    def median(self) -> float | None:
        """Median of L / L^; None before there are `least` of them."""
        return statistics.median(self._ratios) if self.n >= self.least else None

    def quantile(self, share: float) -> float | None:
        """Quantile of L / L^ at `share` (linear between observations); None before there are `least` of them."""
        return float(np.quantile(np.array(self._ratios), share)) if self.n >= self.least else None

    def state_dict(self) -> dict[str, Any]:
        """The window, JSON-able."""
        return {"ratios": list(self._ratios)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._ratios.clear()
        self._ratios.extend(float(ratio) for ratio in state["ratios"])
