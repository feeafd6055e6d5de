import numpy as np
import pytest

from masa.awareness.predictors.linear_head import Scaling, best_spread, fit_line, fit_logits, pass_rate_moments


def test_scaling_standardises_and_leaves_out_what_does_not_vary():
    raw = np.array([[1.0, 7.0], [3.0, 7.0]])
    # Deviations 1 and 0; divided by sqrt(2).
    scaled = Scaling.of(raw, np.ones(raw.shape[1])).apply(raw)
    assert scaled == pytest.approx(np.array([[1, -(0.5**0.5), 0], [1, 0.5**0.5, 0]]))
    assert Scaling.of(raw, np.ones(raw.shape[1])).apply(np.array([[2.0, 1e6]])) == pytest.approx(np.array([[1, 0, 0]]))


def test_ridge_regression_by_hand():
    # One feature and no intercept: prior variance 1/2, noise 1, x = 1, 2, y = 1, 3: 7 / (5 + 2) = 1, variance 1 / 7.
    line = fit_line(np.array([[0.0, 1.0], [0.0, 2.0]]), np.array([1.0, 3.0]), np.ones(2), ridge=2.0)
    mean, variance = line.at(np.array([[0.0, 3.0]]))
    assert mean[0] == pytest.approx(3.0)
    assert variance[0] == pytest.approx(9 / 7)


def test_both_forms_agree():
    rng = np.random.default_rng(0)
    features, noise = rng.normal(size=(12, 11)), rng.uniform(0.5, 2, 12)
    right, rolled = rng.integers(0, 9, 12).astype(float), np.full(12, 8.0)
    wide = np.hstack([features, np.zeros((12, 5))])  # features that say nothing force the dual form
    new = rng.normal(size=(4, 11))
    for narrow_line, wide_line in (
        (fit_line(features, right, noise, 0.5), fit_line(wide, right, noise, 0.5)),
        (
            fit_logits(features, right, rolled, 1 / noise, 0.7, 0.5),
            fit_logits(wide, right, rolled, 1 / noise, 0.7, 0.5),
        ),
    ):
        assert narrow_line.basis is None
        assert wide_line.basis is not None
        for one, other in zip(narrow_line.at(new), wide_line.at(np.hstack([new, np.zeros((4, 5))])), strict=True):
            assert one == pytest.approx(other, rel=1e-6)


def test_without_spread_it_is_the_logistic_regression():
    # The penalised likelihood's gradient vanishes at the fit.
    rng = np.random.default_rng(1)
    features = np.hstack([np.ones((40, 1)), rng.normal(size=(40, 3))])
    rolled, weights = np.full(40, 8.0), rng.uniform(0.5, 3, 40)
    right = rng.binomial(8, 1 / (1 + np.exp(-features @ [0.5, 2.0, -1.0, 0.0]))).astype(float)
    beta = fit_logits(features, right, rolled, weights, 0.0, 0.1).coefficients
    rates = 1 / (1 + np.exp(-features @ beta))
    gradient = features.T @ (weights * (right - 8 * rates)) - np.array([0.01, 0.1, 0.1, 0.1]) * beta
    assert np.abs(gradient).max() < 1e-4


def test_a_spread_does_not_flatten_the_slope():
    """Ten fits to 400 groups: one slope deviates by 0.08, their mean by 0.025; Laplace's approximation gives 1.86."""
    slopes = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        features = np.hstack([np.ones((400, 1)), rng.normal(size=(400, 1))])
        rates = 1 / (1 + np.exp(-(2 * features[:, 1] + rng.normal(0, 1, 400))))
        right = rng.binomial(8, rates).astype(float)
        slopes.append(fit_logits(features, right, np.full(400, 8.0), np.ones(400), 1.0, 0.1).coefficients[1])
    assert np.mean(slopes) == pytest.approx(2.0, abs=0.1)


def test_separable_groups_do_not_run_away():
    features = np.hstack([np.ones((64, 1)), np.repeat([[-1.0], [1.0]], 32, axis=0)])
    right = np.repeat([0.0, 8.0], 32)
    for spread in (0.0, 2.0):
        line = fit_logits(features, right, np.full(64, 8.0), np.ones(64), spread, 0.1)
        assert np.isfinite(line.coefficients).all()
        assert 1 < line.coefficients[1] < 20


def test_spread_is_found_again():
    """Logits lie 1.5 around what was foretold; over ten seeds of 600 groups the estimate's error is about 0.1."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        foretold = rng.normal(0, 2, 600)
        rates = 1 / (1 + np.exp(-(foretold + rng.normal(0, 1.5, 600))))
        right = rng.binomial(8, rates).astype(float)
        spread = best_spread(foretold, np.zeros(600), right, np.full(600, 8.0), np.ones(600))
        assert abs(spread - 1.5) <= 0.45
        # Variance that the forecast already had is not counted twice.
        assert best_spread(foretold, np.full(600, 1.5**2), right, np.full(600, 8.0), np.ones(600)) <= 0.8


def test_moments_of_the_logistic_normal_agree_with_simulation():
    draws = 1 / (1 + np.exp(-(1.0 + 2.0 * np.random.default_rng(0).normal(size=200_000))))
    mean, deviation = pass_rate_moments(1.0, 4.0)
    assert mean == pytest.approx(draws.mean(), abs=4e-3)
    assert deviation == pytest.approx(draws.std(), abs=4e-3)
    assert pass_rate_moments(1e6, 0.0) == pytest.approx((1.0, 0.0))
