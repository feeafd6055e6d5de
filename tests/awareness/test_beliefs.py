import math

import numpy as np
import pytest

from masa.awareness import Beta, Estimate


def test_zero_variance_by_hand():
    # Uniform belief: E[p^G] = 1 / (G + 1), twice.
    assert Beta(1, 1).zero_variance(8) == pytest.approx(2 / 9)
    assert Beta(1, 1).zero_variance(1) == 1.0
    # A near-certain belief at 1/2 comes to the plug-in value.
    assert Beta(5e5, 5e5).zero_variance(4) == pytest.approx(2 / 16, rel=1e-4)


def test_zero_variance_agrees_with_simulation():
    draws = np.random.default_rng(0).beta(0.7, 2.3, 400_000)
    assert Beta(0.7, 2.3).zero_variance(8) == pytest.approx((draws**8 + (1 - draws) ** 8).mean(), abs=3e-3)


def test_spread_makes_zero_variance_likelier_than_the_plug_in():
    belief = Beta.from_moments(0.9, 0.2)
    assert belief.zero_variance(8) > 0.9**8 + 0.1**8 + 0.1


@pytest.mark.parametrize(("mean", "deviation"), [(0.5, 0.1), (0.1, 0.05), (0.97, 0.02)])
def test_moments_come_back(mean, deviation):
    belief = Beta.from_moments(mean, deviation)
    assert belief.mean == pytest.approx(mean)
    assert belief.deviation == pytest.approx(deviation)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 0.0), (1.0, 0.5), (0.5, 0.9)])
def test_impossible_moments_give_a_proper_belief(mean, deviation):
    belief = Beta.from_moments(mean, deviation)
    assert 0 < belief.mean < 1
    assert math.isfinite(belief.zero_variance(8))


def test_parameters_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        Beta(0, 1)


def test_an_estimate_without_a_belief_of_its_own_gives_one_from_its_moments():
    assert Estimate().beta is None
    assert Estimate(0.5, 0.1, abstains=False).beta == Beta.from_moments(0.5, 0.1)
    assert Estimate(0.5, 0.1, abstains=False, belief=Beta(2, 3)).beta == Beta(2, 3)


def test_opinions_far_apart_are_ignorance_and_not_certainty():
    torn = Estimate(0.125, 0.33, abstains=False).beta
    assert torn.mean == pytest.approx(0.125)
    assert torn.zero_variance(8) < 0.7
    assert Beta.from_moments(0.125, 0.33).zero_variance(8) > 0.9
