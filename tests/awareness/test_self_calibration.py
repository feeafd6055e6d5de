import numpy as np
import pytest
from predictor_worlds import logistic

from masa.awareness.predictors.self_calibration import beta_binomial, fit_calibration, kish


def fit(said, right, weights=None, rolled=8):
    said, right = np.asarray(said, float), np.asarray(right, float)
    weights = np.ones(len(said)) if weights is None else np.asarray(weights, float)
    return fit_calibration(said, right, np.full(len(said), float(rolled)), weights)


def test_kish_weights_by_hand():
    # (1 + 1 + 2)^2 / (1 + 1 + 4) = 16 / 6 groups in all.
    assert kish(np.array([1.0, 1.0, 2.0])) == pytest.approx(np.array([1, 1, 2]) * (16 / 6) / 4)
    assert kish(np.ones(5)) == pytest.approx(np.ones(5))


def test_beta_binomial_by_hand():
    # Beta(1, 1): each count 0..n has probability 1 / (n + 1), shared by its arrangements.
    values = beta_binomial(np.ones(3), np.ones(3), np.array([0.0, 1.0, 2.0]), np.array([2.0, 2.0, 2.0]))
    assert np.exp(values) == pytest.approx([1 / 3, 1 / 6, 1 / 3])


def test_violators_are_pooled_by_hand():
    # Rates 1/8, 6/8, 2/8, 7/8 at 0, .25, .5, 1: the middle two pool to 8/16. Base rate 16/32, four rollouts of it.
    calibration = fit([0.0, 0.25, 0.5, 1.0], [1, 6, 2, 7])
    assert calibration.means == pytest.approx([3 / 12, 10 / 20, 10 / 20, 9 / 12])
    assert calibration.mean(0.75) == pytest.approx((10 / 20 + 9 / 12) / 2)
    assert calibration.mean(2.0) == pytest.approx(9 / 12)


def test_weights_count_as_that_many_groups_in_the_mean():
    heavy = fit([0.0, 0.5, 0.5], [0, 8, 0], weights=[1, 3, 1])
    # Means of block .5: 3/4 before shrinking, by kish weights w: (24 w + 4 base) / (32 w + 4), w = 25/11/5.
    w = 25 / 11 / 5
    base = 24 / 40
    assert heavy.means[1] == pytest.approx((24 * w + 4 * base) / (32 * w + 4))


@pytest.mark.parametrize("word", ["constant", "inverted"])
def test_a_useless_word_gives_the_base_rate_and_its_spread(word):
    """512 groups: the mean has a standard error of 0.36 / sqrt(512) = 0.016, the spread about 0.01."""
    rng = np.random.default_rng(2)
    rates = logistic(rng.normal(-1, 3, 512))
    said = np.full(512, 0.75) if word == "constant" else np.round(8 * (1 - rates)) / 8
    calibration = fit(said, rng.binomial(8, rates))
    assert calibration.range == pytest.approx(0.0, abs=0.02)
    belief = calibration.belief(0.75)
    assert belief.mean == pytest.approx(rates.mean(), abs=0.07)
    if word == "constant":
        assert belief.deviation == pytest.approx(rates.std(), abs=0.04)
        share = np.isin(rng.binomial(8, rates), (0, 8)).mean()
        assert belief.zero_variance(8) == pytest.approx(share, abs=4 * (0.25 / 512) ** 0.5)


def test_overconfidence_is_undone():
    """It says 0, 1/2 or 1 where the truth is 0.2, 0.5 or 0.7: 170 groups of 8 give each a standard error of 0.014."""
    rng = np.random.default_rng(3)
    said = rng.choice([0.0, 0.5, 1.0], 512)
    truth = np.interp(said, [0, 0.5, 1], [0.2, 0.5, 0.7])
    calibration = fit(said, rng.binomial(8, truth))
    assert calibration.means == pytest.approx([0.2, 0.5, 0.7], abs=0.05)
    assert calibration.belief(1.0).zero_variance(8) < 0.15  # 0.7^8 = 0.06: there is hardly any spread
    assert calibration.range == pytest.approx(0.5, abs=0.08)


def test_the_spread_is_local():
    """Where it says 0 it is right, where it says 1/2 the truth is 0 or 1, each in half the cases."""
    rng = np.random.default_rng(4)
    said = np.repeat([0.0, 0.5, 1.0], 200)
    truth = np.concatenate([np.full(200, 0.01), rng.integers(0, 2, 200).astype(float), np.full(200, 0.6)])
    calibration = fit(said, rng.binomial(8, truth))
    assert calibration.belief(0.5).zero_variance(8) > 0.75
    assert calibration.belief(1.0).zero_variance(8) < 0.15
    assert calibration.belief(0.0).mean < 0.05
