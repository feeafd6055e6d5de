"""A few of a step's rollouts to read: which problems, and which of their rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masa.runs.jsonlines import Row


@dataclass(frozen=True, slots=True)
class Excerpt:
    """One problem of a step."""

    key: str
    rows: Sequence[Row]
    """All its rollouts."""
    solutions: Sequence[Row]
    predictions: Sequence[Row]

    @property
    def correct(self) -> int:
        """Solutions that are right."""
        return sum(row.get("correct") is True for row in self.solutions)

    @property
    def is_mixed(self) -> bool:
        """Whether right and wrong answers are among the solutions: such a group teaches."""
        return len({row.get("correct") for row in self.solutions}) > 1

    def some_solutions(self, most: int) -> list[Row]:
        """One right and one wrong first where there are both, so that the difference can be seen."""
        right = [row for row in self.solutions if row.get("correct") is True]
        wrong = [row for row in self.solutions if row.get("correct") is not True]
        return (right[:1] + wrong[:1] + right[1:] + wrong[1:])[:most]


def excerpts(rows: Sequence[Row], problems: int) -> list[Excerpt]:
    """Some problems of a step's rollouts; those whose answers differ come first, since they taught something."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row.get("problem")), []).append(row)
    found = [
        Excerpt(
            key,
            group,
            [row for row in group if row.get("role") == "solution"],
            [row for row in group if row.get("role") == "meta"],
        )
        for key, group in groups.items()
    ]
    return sorted(found, key=lambda one: (not one.is_mixed, not one.solutions))[:problems]
