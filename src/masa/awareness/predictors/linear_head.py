"""A Bayesian linear head: ridge regression of a group's logit (or of a number) on standardised features.

Everything is float64 and deterministic: the same arrays give the same numbers, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CONSTANT_PRECISION = 1e-2
"""Prior precision of the intercept: a base rate anywhere from 1e-9 to 1 - 1e-9 is nothing strange."""
_ITERATIONS = 25
_TOLERANCE = 1e-3
"""Largest change of a logit in an iteration that is not worth another."""
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
_NODE_WEIGHTS = _NODE_WEIGHTS / _NODE_WEIGHTS.sum()
_SPREADS: Floats = np.linspace(0.0, 6.0, 31)
"""Candidates for the deviation of logits around the head's line."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Standardisation of features by those of a window, with a constant 1 in front.

    Divided by the root of the width, so that a typical state has length 1 and the ridge means the same at any width.
    """

    mean: Floats
    factor: Floats

    @classmethod
    def of(cls, features: Floats, emphasis: Floats) -> Scaling:
        """From features [n, width], each times its emphasis [width]; one that does not vary is left out by factor 0."""
        mean, deviation = features.mean(axis=0), features.std(axis=0)
        varies = deviation > 1e-6 * (np.abs(mean) + 1e-6)
        factor = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0) / np.sqrt(max(features.shape[1], 1))
        return cls(mean, factor * emphasis)

    def apply(self, features: Floats) -> Floats:
        """Standardised features [n, width + 1]."""
        return np.hstack([np.ones((len(features), 1)), (features - self.mean) * self.factor])


@dataclass(frozen=True, slots=True)
class Line:
    """A posterior over linear functions of the features."""

    coefficients: Floats
    """[width + 1]"""
    prior: Floats
    """Prior variance of each coefficient, [width + 1]."""
    basis: Floats | None
    """The window's features, [n, width + 1], in the dual form; None in the primal one."""
    core: Floats
    """Covariance [width + 1, width + 1] in the primal form; else the inverse [n, n] of kernel plus noise."""

    def at(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of the function at standardised features [m, width + 1], each [m]."""
        mean = features @ self.coefficients
        if self.basis is None:
            variance = np.einsum("ij,jk,ik->i", features, self.core, features, optimize=True)
        else:
            cross = (features * self.prior) @ self.basis.T
            variance = (features**2) @ self.prior - np.einsum("ij,ij->i", cross @ self.core, cross)
        return mean, np.maximum(variance, 0.0)


def fit_line(features: Floats, targets: Floats, noise: Floats, ridge: float) -> Line:
    """Ridge regression, with posterior.

    Args:
        features: standardised, [n, width + 1].
        targets: [n].
        noise: variance of each target around the line, [n].
        ridge: prior precision of the coefficients: 1 / ridge is the prior variance of the function at a typical state.
    """
    return _Regression(features, _prior(features.shape[1], ridge)).line(targets, noise)


def fit_logits(features: Floats, right: Floats, rolled: Floats, weights: Floats, spread: float, ridge: float) -> Line:
    """Mixed binomial regression: logit of a group = line + normal deviate of standard deviation `spread`.

    Variational: the logit of a group is normal around f with variance 1 / (W + 1 / spread^2), and each iteration is a
    ridge regression on the working targets z = f + (k - G E[m]) / W with noise 1 / W + spread^2, W = G E[m (1 - m)],
    after which f goes to its own best guess between line and target. (At the mode instead of in expectation, which is
    Laplace's approximation, the slope comes out 5 to 10 % too flat for groups of 8.) With a spread, a group of 8 is the
    evidence of one problem, not of eight.

    Args:
        features: standardised, [n, width + 1].
        right: k, correct rollouts, [n].
        rolled: G, rollouts, [n].
        weights: how much each group counts, [n].
        spread: standard deviation of logits around the line.
        ridge: as for `fit_line`.
    """
    regression = _Regression(features, _prior(features.shape[1], ridge))
    logits = np.log((right + 0.5) / (rolled - right + 0.5))
    deviations = np.full(len(logits), min(spread, 1.0))
    for _ in range(_ITERATIONS):
        information, targets = _working(logits, deviations, right, rolled)
        fitted = features @ regression.coefficients(targets, (1 / information + spread**2) / weights)
        pull = spread**2 / (1 / information + spread**2)
        # Groups all right or all wrong have targets far out: bounded moves keep Newton's method from overshooting.
        move = np.clip(fitted + pull * (targets - fitted) - logits, -3.0, 3.0)
        logits = logits + move
        # Halfway only: wide logits call for little information and the other way round, and would swing for ever.
        deviations = (deviations + spread / np.sqrt(information * spread**2 + 1)) / 2
        if np.abs(move).max() < _TOLERANCE:
            break
    information, targets = _working(logits, deviations, right, rolled)
    return regression.line(targets, (1 / information + spread**2) / weights)


def best_spread(mean: Floats, variance: Floats, right: Floats, rolled: Floats, weights: Floats) -> float:
    """The spread under which groups foretold with these logits (mean and variance, [n]) were likeliest.

    A weak prior keeps it at moderate values while the groups are few.
    """
    best, best_value = 1.0, -np.inf
    for spread in _SPREADS:
        logits = mean[:, None] + np.sqrt(variance + spread**2)[:, None] * _NODES[None, :]
        log_likelihood = right[:, None] * logits - rolled[:, None] * np.logaddexp(0.0, logits)
        top = log_likelihood.max(axis=1)
        marginal = top + np.log(np.exp(log_likelihood - top[:, None]) @ _NODE_WEIGHTS)
        value = float(weights @ marginal) - 0.5 * (spread - 1.0) ** 2 / 4
        if value > best_value:
            best, best_value = float(spread), value
    return best


def pass_rate_moments(mean: float, variance: float) -> tuple[float, float]:
    """Mean and standard deviation of the pass rate whose logit is normal with this mean and variance."""
    rates = 1 / (1 + np.exp(-np.clip(mean + np.sqrt(variance) * _NODES, -500.0, 500.0)))
    first = float(_NODE_WEIGHTS @ rates)
    return first, float(np.sqrt(_NODE_WEIGHTS @ (rates - first) ** 2))


def _working(logits: Floats, deviations: Floats, right: Floats, rolled: Floats) -> tuple[Floats, Floats]:
    """Expected information W and working targets where logits are normal with these deviations, each [n]."""
    at = np.clip(logits[:, None] + deviations[:, None] * _NODES[None, :], -30.0, 30.0)
    rates = 1 / (1 + np.exp(-at))
    information = np.maximum(rolled * ((rates * (1 - rates)) @ _NODE_WEIGHTS), 1e-6)
    return information, logits + (right - rolled * (rates @ _NODE_WEIGHTS)) / information


def _prior(width: int, ridge: float) -> Floats:
    """Prior variance of each coefficient, the intercept's first, [width + 1]."""
    prior = np.full(width, 1 / ridge)
    prior[0] = 1 / _CONSTANT_PRECISION
    return prior


class _Regression:
    """Ridge regressions on the same features, in whichever of the two equal forms has the smaller matrix."""

    def __init__(self, features: Floats, prior: Floats) -> None:
        self.features = features
        self.prior = prior
        self.kernel: Floats | None = None
        if features.shape[1] > features.shape[0]:
            self.kernel = (features * prior) @ features.T

    def coefficients(self, targets: Floats, noise: Floats) -> Floats:
        """Best coefficients, [width + 1], for targets with these noise variances, each [n]."""
        if self.kernel is not None:
            dual = np.linalg.solve(self.kernel + np.diag(noise), targets)
            return (self.prior * (self.features.T @ dual)).astype(np.float64)
        scaled = self.features / noise[:, None]
        precision = scaled.T @ self.features + np.diag(1 / self.prior)
        return np.linalg.solve(precision, scaled.T @ targets).astype(np.float64)

    def line(self, targets: Floats, noise: Floats) -> Line:
        """The whole posterior."""
        coefficients = self.coefficients(targets, noise)
        if self.kernel is not None:
            core = np.linalg.inv(self.kernel + np.diag(noise)).astype(np.float64)
            return Line(coefficients, self.prior, self.features, core)
        precision = (self.features / noise[:, None]).T @ self.features + np.diag(1 / self.prior)
        return Line(coefficients, self.prior, None, np.linalg.inv(precision).astype(np.float64))
