import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masa.awareness import group_advantages, zero_variance


def test_advantages_by_hand():
    # mean 1/4; squared deviations 9/16 + 3 x 1/16 = 3/4; sample variance 3/4 / 3 = 1/4; deviation 1/2
    advantages = group_advantages([1.0, 0.0, 0.0, 0.0])
    assert advantages == pytest.approx([0.75 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001])
    assert group_advantages([1.0, 0.0, 0.0, 0.0], scale="none") == [0.75, -0.25, -0.25, -0.25]


def test_zero_variance_group_has_no_advantage():
    # Dividing 5e-7 by 1e-4 would still give a little; the group is dead by definition.
    assert group_advantages([1.0, 1.0 + 9e-7]) == [0.0, 0.0]
    assert group_advantages([1.0, 1.0 + 2e-6]) != [0.0, 0.0]
    assert group_advantages([0.3] * 5) == [0.0] * 5
    assert group_advantages([2.0]) == [0.0]
    assert group_advantages([]) == []


def test_zero_variance_tolerance():
    assert zero_variance([0.1 + 0.2, 0.3])
    assert not zero_variance([0.0, 1e-5])
    assert zero_variance([0.0, 1e-5], tolerance=1e-4)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_advantages_are_centred_and_scaled(rewards):
    advantages = group_advantages(rewards)
    if zero_variance(rewards):
        assert advantages == [0.0] * len(rewards)
        return
    assert math.fsum(advantages) == pytest.approx(0, abs=1e-6)
    deviation = statistics.stdev(rewards)
    assert statistics.stdev(advantages) == pytest.approx(deviation / (deviation + 1e-4), rel=1e-6)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="reward 1 of the group is nan"):
        group_advantages([0.0, math.nan])
    with pytest.raises(ValueError, match="unknown advantage scale"):
        group_advantages([0.0, 1.0], scale="batch")
