"""What an adviser's audits have shown: a window of events, and what was saved over the whole run."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar


class AuditEvent(Protocol):
    """One problem whose truth was seen."""

    @property
    def tokens_saved(self) -> float:
        """Tokens not spent on problems of its kind."""
        ...

    @property
    def tokens_saved_variance(self) -> float:
        """Its share in the variance of that estimate."""
        ...

    def as_list(self) -> list[int | float]:
        """Compact JSON-able form."""
        ...


Event = TypeVar("Event", bound=AuditEvent)


class AuditWindow(Generic[Event]):
    """The last `size` events, and the sum of what all events so far say was saved.

    Args:
        adviser: `gate` or `cutoff`; names settings and metrics.
        from_list: the event behind `as_list`.

    Raises:
        ValueError: for a size below 1.
    """

    def __init__(self, adviser: str, size: int, from_list: Callable[[Sequence[int | float]], Event]) -> None:
        if size < 1:
            raise ValueError(f"{adviser} setting window must be at least 1, got {size}")
        self.adviser = adviser
        self.events: deque[Event] = deque(maxlen=size)
        self._from_list = from_list
        self.tokens_saved = 0.0
        self._variance = 0.0

    @property
    def tokens_saved_error(self) -> float:
        """Standard error of `tokens_saved`."""
        return math.sqrt(self._variance)

    def add(self, event: Event) -> None:
        """Take in one event."""
        self.events.append(event)
        self.tokens_saved += event.tokens_saved
        self._variance += event.tokens_saved_variance

    def metrics(self) -> dict[str, float]:
        """What was saved over the run, under the adviser's name."""
        return {
            f"{self.adviser}/tokens_saved": self.tokens_saved,
            f"{self.adviser}/tokens_saved_error": self.tokens_saved_error,
        }

    def state_dict(self) -> dict[str, Any]:
        """The window and the totals, JSON-able."""
        return {
            "events": [event.as_list() for event in self.events],
            "tokens_saved": self.tokens_saved,
            "tokens_saved_variance": self._variance,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self.events.clear()
        self.events.extend(self._from_list(row) for row in state["events"])
        self.tokens_saved = float(state["tokens_saved"])
        self._variance = float(state["tokens_saved_variance"])
