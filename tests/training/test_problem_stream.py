"""The order of problems: every one once an epoch, and the same after a restart."""

from __future__ import annotations

import pytest

from masa.training.problem_stream import ProblemStream


def test_every_epoch_visits_each_problem_once_in_another_order() -> None:
    stream = ProblemStream(list(range(10, 30)), seed=0)
    epochs = [stream.draw(20) for _ in range(3)]
    assert all(sorted(epoch) == list(range(10, 30)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_steps_that_span_epochs_lose_nothing() -> None:
    stream, whole = ProblemStream(list(range(7)), seed=3), ProblemStream(list(range(7)), seed=3)
    assert [key for _ in range(7) for key in stream.draw(3)] == whole.draw(21)


@pytest.mark.parametrize("steps", [1, 5, 7, 9])
def test_a_restored_stream_goes_on_where_it_was(steps: int) -> None:
    stream = ProblemStream(list(range(7)), seed=1)
    for _ in range(steps):
        stream.draw(3)
    other = ProblemStream(list(range(7)), seed=1)
    other.load_state_dict(stream.state_dict())
    assert other.draw(20) == stream.draw(20)
    assert other.epoch == stream.epoch


def test_seeds_matter_and_shuffling_can_be_turned_off() -> None:
    assert ProblemStream(list(range(30)), seed=0).draw(30) != ProblemStream(list(range(30)), seed=1).draw(30)
    assert ProblemStream([3, 1, 2], seed=0, shuffle=False).draw(6) == [3, 1, 2, 3, 1, 2]


def test_no_problems_is_an_error() -> None:
    with pytest.raises(ValueError, match="no problems"):
        ProblemStream([], seed=0)
