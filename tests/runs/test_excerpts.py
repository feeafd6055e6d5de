"""Which rollouts of a step are shown."""

from __future__ import annotations

from typing import Any

from masa.runs.excerpts import excerpts


def rows(problem: int, *correct: bool, predictions: int = 0) -> list[dict[str, Any]]:
    solutions = [
        {"problem": problem, "role": "solution", "correct": each, "sample": i} for i, each in enumerate(correct)
    ]
    return solutions + [{"problem": problem, "role": "meta", "sample": i} for i in range(predictions)]


def test_groups_that_teach_come_first_and_show_both_sides() -> None:
    step = rows(1, predictions=2) + rows(2, True, True) + rows(3, True, True, False, predictions=1) + rows(4, False)
    found = excerpts(step, 3)
    assert [one.key for one in found] == ["3", "2", "4"]
    assert excerpts(step, 9)[-1].key == "1"
    first = found[0]
    assert (first.correct, len(first.solutions), len(first.predictions)) == (2, 3, 1)
    assert [row["sample"] for row in first.some_solutions(2)] == [0, 2]
    assert [row["sample"] for row in first.some_solutions(9)] == [0, 2, 1]
    assert excerpts([], 3) == []
