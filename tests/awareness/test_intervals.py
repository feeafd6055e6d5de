import math
import random

import pytest

from masa.awareness import bootstrap_mean_interval, correlation_interval, student_t_interval, wilson_interval
from masa.awareness.intervals import clustered_interval, effective_size, student_t_quantile, weighted_interval


def test_wilson_by_hand():
    # 8 of 10, z = 1.959964: centre (0.8 + 3.841459/20) / 1.3841459 = 0.716740,
    # reach 1.959964 sqrt(0.016 + 3.841459/400) / 1.3841459 = 0.226577
    interval = wilson_interval(8, 10)
    assert interval.low == pytest.approx(0.490162, abs=1e-6)
    assert interval.high == pytest.approx(0.943318, abs=1e-6)


def test_wilson_at_the_edges():
    # With no success the upper end is z^2 / (n + z^2) = 3.841459 / 33.841459.
    assert wilson_interval(0, 30).low == 0.0
    assert wilson_interval(0, 30).high == pytest.approx(0.113513, abs=1e-6)
    assert wilson_interval(30, 30).high == 1.0
    assert wilson_interval(0, 0) is None
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(4, 3)


@pytest.mark.parametrize(
    ("df", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (9, 2.2622), (10, 2.2281), (30, 2.0423)],
)
def test_student_t_quantiles_of_the_printed_tables(df, quantile):
    assert student_t_quantile(0.975, df) == pytest.approx(quantile, abs=6e-5)
    assert student_t_quantile(0.025, df) == pytest.approx(-quantile, abs=6e-5)


def test_student_t_interval_by_hand():
    # mean 2, s = 1, n = 3: 2 +- 4.3027 / sqrt(3)
    interval = student_t_interval([1, 2, 3])
    assert interval.high - 2 == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert interval.low == pytest.approx(4 - interval.high)
    assert student_t_interval([1.0]) is None


def test_effective_size():
    assert effective_size([3.0] * 7) == pytest.approx(7)
    assert effective_size([1.0, 0.0]) == 1
    assert effective_size([]) == 0


def test_clusters_of_single_observations_give_wilson():
    values = [1, 1, 1, 0, 1, 0, 1, 1, 1, 1]
    interval = clustered_interval(values, [1] * 10, [2.0] * 10)
    # The linearised variance of ten single observations is p(1-p)/9, so n = 9 would be too small: held at 10 clusters.
    assert interval.low == pytest.approx(wilson_interval(8, 10).low)


def test_clusters_that_agree_within_count_as_one_observation_each():
    together = clustered_interval([4, 4, 0, 4], [4] * 4, [1.0] * 4)
    assert together.low == pytest.approx(wilson_interval(3, 4).low)
    apart = clustered_interval([3, 3, 3, 3], [4] * 4, [1.0] * 4)
    assert apart.low == pytest.approx(wilson_interval(12, 16).low)
    assert clustered_interval([0, 0], [0, 0], [1.0, 1.0]) is None
    assert clustered_interval([0, 0, 0], [8, 8, 8], [1.0] * 3).high == pytest.approx(wilson_interval(0, 3).high)


def test_bootstrap_is_seeded_and_covers():
    values = [0.0, 1.0] * 50
    interval = bootstrap_mean_interval(values, seed=1)
    assert interval == bootstrap_mean_interval(values, seed=1)
    # The mean's error is 0.05, so the interval is near 0.5 +- 0.098.
    assert interval.low == pytest.approx(0.402, abs=0.02)
    assert interval.high == pytest.approx(0.598, abs=0.02)
    assert bootstrap_mean_interval([], seed=1) is None


def test_bootstrap_does_not_touch_the_global_generator():
    random.seed(5)
    before = random.getstate()
    bootstrap_mean_interval([1.0, 2.0], seed=1, resamples=10)
    assert random.getstate() == before


def test_fisher_interval_by_hand():
    # r = 0.5, n = 28: artanh 0.5 = 0.549306, reach 1.959964 / 5 = 0.391993; tanh(0.157313), tanh(0.941299)
    interval = correlation_interval(0.5, 28)
    assert interval.low == pytest.approx(0.156029, abs=1e-5)
    assert interval.high == pytest.approx(0.735818, abs=1e-5)
    assert correlation_interval(1.0, 28) is None
    assert correlation_interval(0.5, 3) is None
    assert correlation_interval(None, 30) is None


def test_weighted_interval_by_hand():
    # Equal weights: Wilson's on the counts, whatever the weight.
    assert weighted_interval([True, True, False], [7.0] * 3).low == pytest.approx(wilson_interval(2, 3).low)
    # Weights 3 (hit) and 1 (miss), twice: r = 6/8, variance 2 (9/16 + 9/16) / 64 = 9/256, r (1 - r) / it = 16/3.
    found = weighted_interval([True, True, False, False], [3.0, 3.0, 1.0, 1.0])
    expected = wilson_interval(0.75 * 16 / 3, 16 / 3)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    # Nothing but hits: Kish's number, (3 + 1)^2 / (9 + 1).
    assert weighted_interval([True, True], [3.0, 1.0]).low == pytest.approx(wilson_interval(1.6, 1.6).low)
    assert weighted_interval([], []) is None
