"""The order of problems: every one once an epoch, and the same after a restart."""

from __future__ import annotations

from collections import Counter

import pytest

from masa.training.problem_stream import ProblemStream


def test_every_epoch_visits_each_problem_once_in_another_order() -> None:
    stream = ProblemStream(list(range(10, 30)), seed=0)
    epochs = [stream.draw(20) for _ in range(3)]
    assert all(sorted(epoch) == list(range(10, 30)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_steps_that_span_epochs_lose_nothing_and_repeat_nothing() -> None:
    stream = ProblemStream(list(range(7)), seed=3)
    steps = [stream.draw(5) for _ in range(14)]
    assert all(len(set(step)) == 5 for step in steps)
    counts = Counter(key for step in steps for key in step)
    assert sum(counts.values()) == 70
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_second_draw_of_a_step_passes_over_what_it_has() -> None:
    stream = ProblemStream(list(range(6)), seed=0)
    first = stream.draw(4)
    second = stream.draw(2, without=set(first))
    assert sorted(first + second) == list(range(6))
    third = stream.draw(2, without=set(second))
    assert not set(third) & set(second)
    with pytest.raises(ValueError, match="5 further problems asked for, 4 are left"):
        stream.draw(5, without=set(second))


@pytest.mark.parametrize("steps", [1, 5, 7, 9])
def test_a_restored_stream_goes_on_where_it_was(steps: int) -> None:
    stream = ProblemStream(list(range(7)), seed=1)
    for _ in range(steps):
        stream.draw(3)
    other = ProblemStream(list(range(7)), seed=1)
    other.load_state_dict(stream.state_dict())
    assert [other.draw(3) for _ in range(7)] == [stream.draw(3) for _ in range(7)]
    assert other.epoch == stream.epoch


def test_seeds_matter_and_shuffling_can_be_turned_off() -> None:
    assert ProblemStream(list(range(30)), seed=0).draw(30) != ProblemStream(list(range(30)), seed=1).draw(30)
    assert ProblemStream([3, 1, 2], seed=0, shuffle=False).draw(3) == [3, 1, 2]


def test_no_problems_is_an_error() -> None:
    with pytest.raises(ValueError, match="no problems"):
        ProblemStream([], seed=0)
