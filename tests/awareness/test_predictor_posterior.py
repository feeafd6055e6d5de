import json
import math

import numpy as np
import pytest
from predictor_worlds import observation, problem

from masa.awareness import Evidence, PosteriorPredictor


def estimate(predictor, key=0):
    return predictor.estimate(Evidence(problem(key)))


def test_without_history_it_abstains():
    assert estimate(PosteriorPredictor()).abstains
    assert estimate(PosteriorPredictor()).belief is None


def test_update_by_hand():
    # a: 1 + 6 = 7; then 0.5 * 7 + 0.5 * 1 + 2 = 6. b: 1 + 2 = 3; then 0.5 * 3 + 0.5 + 6 = 8.
    predictor = PosteriorPredictor(forgetting=0.5)
    predictor.observe(0, [observation(0, 6)])
    assert (estimate(predictor).belief.a, estimate(predictor).belief.b) == (7, 3)
    predictor.observe(1, [observation(0, 2)])
    result = estimate(predictor)
    assert (result.belief.a, result.belief.b) == (6, 8)
    assert result.pass_rate == pytest.approx(6 / 14)
    assert result.deviation == pytest.approx(math.sqrt(6 * 8 / 15) / 14)
    assert (result.valid, result.abstains) == (12, False)


def test_the_prior_is_no_evidence_and_is_not_forgotten():
    # Only all-wrong groups: b - b0 tends to 8 / (1 - 0.5) = 16, a stays at a0.
    predictor = PosteriorPredictor(prior_right=2.0, prior_wrong=3.0)
    for step in range(60):
        predictor.observe(step, [observation(0, 0)])
    assert estimate(predictor).belief.a == 2.0
    assert estimate(predictor).belief.b == pytest.approx(19.0)


def test_lengths_are_forgotten_alike_and_kept_over_failures():
    predictor = PosteriorPredictor(forgetting=0.5)
    predictor.observe(0, [observation(0, 4, length=100)])
    predictor.observe(1, [observation(0, 0)])
    assert estimate(predictor).length == 100
    predictor.observe(2, [observation(0, 2, length=40)])
    assert estimate(predictor).length == pytest.approx((0.5 * 400 + 80) / (0.5 * 4 + 2))
    assert estimate(PosteriorPredictor()).length is None


def test_with_full_forgetting_the_last_group_decides():
    predictor = PosteriorPredictor(forgetting=0.0)
    predictor.observe(0, [observation(0, 8)])
    predictor.observe(1, [observation(0, 1, length=10**9)])
    assert (estimate(predictor).belief.a, estimate(predictor).belief.b) == (2, 8)
    assert estimate(predictor).length == 1e9


def test_rarely_rolled_out_problems_need_no_weights():
    """Problems believed to be easy are rolled out at 10 % only: the posteriors stay calibrated without 1 / pi.

    Rates come from the prior, so the beliefs are exactly right. Foretold and fresh pass rates of 4,000 problems differ
    by a mean whose standard error is below sqrt((1/12 + 1/48) / 4000) = 0.005, the zero-variance share by one below
    sqrt(0.25 / 4000) = 0.008; four of them are passed once in 16,000 runs.
    """
    rng = np.random.default_rng(1)
    rates = rng.uniform(size=4000)
    predictor = PosteriorPredictor(forgetting=1.0)
    chances = np.ones(4000)
    for step in range(4):
        rolled = np.flatnonzero(rng.uniform(size=4000) < chances)
        predictor.observe(
            step, [observation(int(k), int(rng.binomial(8, rates[k])), probability=float(chances[k])) for k in rolled]
        )
        chances = np.array([0.1 if estimate(predictor, k).pass_rate > 0.7 else 1.0 for k in range(4000)])
    assert (chances < 1).mean() > 0.2
    beliefs = [estimate(predictor, k).belief for k in range(4000)]
    right = rng.binomial(8, rates)
    for part in (chances < 1, chances == 1):  # the rarely rolled out ones apart, of which there are over 800
        foretold = np.array([belief.mean for belief in beliefs])[part]
        assert abs((foretold - right[part] / 8).mean()) < 4 * math.sqrt((1 / 12 + 1 / 48) / part.sum())
        flat = np.isin(right[part], (0, 8))
        assert abs((np.array([b.zero_variance(8) for b in beliefs])[part] - flat).mean()) < 4 * math.sqrt(
            0.25 / part.sum()
        )


def test_state_comes_back_exactly():
    first, second = PosteriorPredictor(forgetting=0.3), PosteriorPredictor(forgetting=0.3)
    for step in range(5):
        first.observe(step, [observation(k, (3 * k * step) % 9, length=40 + 7 * step) for k in range(6)])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for predictor in (first, second):
        predictor.observe(5, [observation(1, 7), observation(2, 0)])
    assert [estimate(first, k) for k in range(7)] == [estimate(second, k) for k in range(7)]
    assert first.metrics() == second.metrics()


def test_log_loss_by_hand():
    # One group that was foretold by Beta(9, 1): P(zero variance) = 9 / 17 + a vanishing share for all wrong.
    predictor = PosteriorPredictor()
    predictor.observe(0, [observation(0, 8)])
    assert "predictor/log_loss" not in predictor.metrics()
    foretold = estimate(predictor).belief.zero_variance(8)
    assert foretold == pytest.approx(9 / 17, abs=1e-4)
    predictor.observe(1, [observation(0, 8)])
    assert predictor.metrics()["predictor/log_loss"] == pytest.approx(-math.log(foretold))
    assert predictor.metrics()["predictor/log_loss_base"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("setting", [{"prior_right": 0.0}, {"prior_wrong": -1.0}, {"forgetting": 1.5}])
def test_bad_settings(setting):
    with pytest.raises(ValueError, match=f"posterior predictor setting {next(iter(setting))} must lie between"):
        PosteriorPredictor(**setting)
