"""Which problems come next: a permutation per epoch, derived from (seed, epoch)."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from masa.seeding import Purpose, derive_generator


class ProblemStream:
    """Endless stream of problem keys over a finite set.

    Every epoch visits each problem once, in an order that depends on the seed and the epoch alone; a step may
    span two epochs. The position is saved, so a resumed run draws what an uninterrupted one would have drawn.

    Raises:
        ValueError: if there are no problems.
    """

    def __init__(self, keys: list[int], *, seed: int, shuffle: bool = True) -> None:
        if not keys:
            raise ValueError("no problems to draw from")
        self._keys = list(keys)
        self._seed = seed
        self._shuffle = shuffle
        self.drawn = 0
        self._waiting: list[int] = []
        self._epoch_cache: tuple[int, list[int]] | None = None

    @property
    def epoch(self) -> float:
        """Passes over the problems so far, fractions included."""
        return self.drawn / len(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def draw(self, count: int, *, without: Set[int] = frozenset()) -> list[int]:
        """The next `count` different keys; those of `without`, already in the step, wait for the next draw.

        Where an epoch ends within a step, a problem may come up a second time: drawn twice under the same step and
        seeds it would be the same group twice.

        Raises:
            ValueError: if there are not so many.
        """
        if count > len(self._keys) - len(without):
            raise ValueError(f"{count} further problems asked for, {len(self._keys) - len(without)} are left")
        taken = set(without)
        keys: list[int] = []
        waiting, self._waiting = self._waiting, []
        while len(keys) < count:
            if waiting:
                key = waiting.pop(0)
            else:
                key = self._at(self.drawn)
                self.drawn += 1
            (self._waiting if key in taken else keys).append(key)
            taken.add(key)
        self._waiting += waiting
        return keys

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "waiting": list(self._waiting)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn = int(state["drawn"])
        self._waiting = [int(key) for key in state["waiting"]]

    def _at(self, position: int) -> int:
        epoch, index = divmod(position, len(self._keys))
        if self._epoch_cache is None or self._epoch_cache[0] != epoch:
            order = list(self._keys)
            if self._shuffle:
                derive_generator(self._seed, Purpose.DATA_ORDER, epoch).shuffle(order)
            self._epoch_cache = (epoch, order)
        return self._epoch_cache[1][index]
