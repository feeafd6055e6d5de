"""The order in which waiting requests start: longest expected first, requests of one prompt side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masa.records import Request


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that starts now."""

    request: int
    """Index of the request."""
    prompt: int
    """Index of its distinct prompt."""


class Waiting:
    """Requests not yet started.

    A row that starts last and runs longest leaves the other slots empty, so long ones go first. Requests of one prompt
    stay together (ranked by the longest of them): the prompt's keys and values are then needed for a short while only.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        numbers: dict[tuple[int, ...], int] = {}
        groups: list[list[int]] = []
        for index, request in enumerate(requests):
            number = numbers.setdefault(request.prompt_ids, len(numbers))
            if number == len(groups):
                groups.append([])
            groups[number].append(index)
        self.prompts: list[tuple[int, ...]] = list(numbers)
        """The distinct prompts."""

        def expected(index: int) -> float:
            request = requests[index]
            guess = request.expected_tokens
            return request.max_tokens if guess is None else min(guess, request.max_tokens)

        for group in groups:
            group.sort(key=expected, reverse=True)
        ranking = sorted(range(len(groups)), key=lambda number: expected(groups[number][0]), reverse=True)
        # Reversed, so that the next one is taken from the end.
        self._queue = [Arrival(index, number) for number in ranking for index in groups[number]][::-1]

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def next_prompt(self) -> int | None:
        """The distinct prompt of the next request."""
        return self._queue[-1].prompt if self._queue else None

    def take(self, count: int) -> list[Arrival]:
        """The next `count` requests, or as many as there are."""
        taken = self._queue[-count:][::-1] if count else []
        del self._queue[len(self._queue) - len(taken) :]
        return taken
