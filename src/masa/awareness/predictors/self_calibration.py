"""What the policy's word has been worth: a monotone map from foretold to true pass rates, with its spread."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from masa.awareness.beliefs import Beta

Floats = NDArray[np.float64]

_SHRINK = 4.0
"""Rollouts at the base rate added to each block of equal means, so that a lone group does not make it 0 or 1."""
_BANDWIDTH = 0.12
"""Width of the neighbourhood in which the spread is estimated, as a share of the window."""
_MEAN_EDGE = 1e-3
_LOG_ODDS = np.linspace(-4.0, 4.0, 33)
_CORRELATIONS: Floats = 1 / (1 + np.exp(-_LOG_ODDS))
"""Candidates for the correlation between the rollouts of a group, 1 / (a + b + 1)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Beliefs at the foretold values of the window, interpolated between them."""

    said: Floats
    """Distinct foretold pass rates, ascending, [values]."""
    means: Floats
    """Calibrated pass rates, not falling, [values]."""
    log_odds: Floats
    """Log odds of the correlation between the rollouts of a group, [values]."""

    def mean(self, said: float) -> float:
        """Calibrated pass rate."""
        return float(np.interp(said, self.said, self.means))

    def belief(self, said: float) -> Beta:
        """What a problem of which this was foretold may have for a pass rate."""
        correlation = 1 / (1 + math.exp(-float(np.interp(said, self.said, self.log_odds))))
        mean, weight = self.mean(said), 1 / correlation - 1
        return Beta(mean * weight, (1 - mean) * weight)

    @property
    def range(self) -> float:
        """Calibrated pass rate where 1 is foretold, less that where 0 is: 1 for a perfect word, 0 for a useless one."""
        return self.mean(1.0) - self.mean(0.0)


def fit_calibration(said: Floats, right: Floats, rolled: Floats, weights: Floats) -> Calibration:
    """Calibrate foretold pass rates by observed groups, one entry a group in each array.

    The mean is isotonic: pool adjacent violators, weighted by weight x rollouts, shrunk a little to the base rate. A
    word that is useless, or turned upside down, thus comes out as the base rate. The spread of true pass rates around
    the mean is the beta-binomial one, by maximum likelihood in a neighbourhood of the foretold value (Gaussian kernel
    over ranks): a policy may be right whenever it says 1 and know nothing when it says 1/2, and
    zero variance hangs on that. A weak prior draws the local spread to that of the whole window.

    Args:
        said: foretold pass rates, 0..1.
        right: correct rollouts.
        rolled: rollouts.
        weights: 1 / probability of having been rolled out.
    """
    weights = kish(weights)
    values, block = np.unique(said, return_inverse=True)
    successes = np.bincount(block, weights * right).astype(np.float64)
    trials = np.bincount(block, weights * rolled).astype(np.float64)
    means = np.clip(_isotonic(successes, trials), _MEAN_EDGE, 1 - _MEAN_EDGE)
    each = means[block]
    loss = np.empty((len(_CORRELATIONS), len(said)))
    for row, correlation in enumerate(_CORRELATIONS):
        total = 1 / correlation - 1
        loss[row] = weights * beta_binomial(each * total, (1 - each) * total, right, rolled)
    overall = _LOG_ODDS[int(loss.sum(axis=1).argmax())]
    order = np.sort(said)
    ranks = (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right")) / (2 * len(said))
    kernel = np.exp(-0.5 * ((ranks[:, None] - ranks[block][None, :]) / _BANDWIDTH) ** 2)
    local = loss @ kernel.T - 0.5 * ((_LOG_ODDS - overall) ** 2)[:, None]
    return Calibration(values, means, _LOG_ODDS[local.argmax(axis=0)])


def beta_binomial(a: Floats, b: Floats, right: Floats, rolled: Floats) -> Floats:
    """Log probability, up to the binomial coefficient, of `right` of `rolled` under Beta(a, b), elementwise, [groups].

    By sums of logarithms over the rollouts, which are few: log-gamma functions of large arguments would cancel.
    """
    index = np.arange(int(rolled.max()))[None, :]

    def rising(start: Floats, count: Floats) -> Floats:
        total: Floats = np.where(index < count[:, None], np.log(start[:, None] + index), 0.0).sum(axis=1)
        return total

    return rising(a, right) + rising(b, rolled - right) - rising(a + b, rolled)


def kish(weights: Floats) -> Floats:
    """Weights scaled to sum to the effective number of groups, (sum w)^2 / sum w^2.

    One audited group with weight 20 stands for 20 groups, yet it is the evidence of one.
    """
    scaled: Floats = weights * (weights.sum() / (weights @ weights))
    return scaled


def _isotonic(successes: Floats, trials: Floats) -> Floats:
    """Weighted isotonic regression of the rates by pooling adjacent violators, then shrunk to the base rate."""
    base = successes.sum() / trials.sum()
    blocks: list[list[float]] = []  # successes, trials, values pooled
    for success, trial in zip(successes, trials, strict=True):
        blocks.append([float(success), float(trial), 1.0])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = [mine + its for mine, its in zip(blocks[-1], last, strict=True)]
    rates = [(success + _SHRINK * base) / (trial + _SHRINK) for success, trial, _ in blocks]
    pooled = np.repeat(rates, [int(count) for *_, count in blocks])
    # Blocks of unequal weight shrink unequally, which may turn the order of two that are close.
    rising: Floats = np.maximum.accumulate(pooled)
    return rising
