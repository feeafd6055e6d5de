"""The corrected cutoff stays where it is, round after round, where a naive one digs itself in."""

import itertools
import json
import math

import numpy as np
import pytest

from masa.awareness import Cutoff, Estimate, LengthCalibration
from masa.records import FinishReason, Outcome

FORETOLD = 1000
SPREAD = 0.5
"""Deviation of ln L."""
PROBLEMS, ROLLOUTS = 256, 8


def cut(lengths, limit):
    """Solution rollouts, all of them right, under a limit."""
    over = [length > limit for length in lengths]
    return Outcome(
        ("t",) * len(lengths),
        tuple(min(length, limit) for length in lengths),
        tuple(not late for late in over),
        tuple(FinishReason.CUTOFF if late else FinishReason.STOP for late in over),
    )


def train(rounds, *, middle=0.0, naive=False, **options):
    """The ratio after each round; ln(L / L^) is normal around `middle`. Round 0 is the parallel phase.

    A naive cutoff is refitted in each round on all correct rollouts that lived, limited problems included.
    """
    cutoff = Cutoff(1, minimum=1, maximum=10**6, exempt=0.0 if naive else 0.1, **options)
    draws = np.random.default_rng(5)
    ratios = []
    for step in range(rounds):
        decisions = cutoff.decide(step, range(PROBLEMS), [Estimate(length=float(FORETOLD))] * PROBLEMS, active=step > 0)
        sampled = np.ceil(FORETOLD * draws.lognormal(middle, SPREAD, (PROBLEMS, ROLLOUTS))).astype(int).tolist()
        outcomes = [cut(lengths, d.limit) for lengths, d in zip(sampled, decisions, strict=True)]
        if naive:
            decisions = [
                type(d)(d.key, d.limit, d.is_cutoff, None, True, 1.0, d.length) for d in decisions
            ]  # all of them pass for exempt
        cutoff.observe(decisions, outcomes)
        ratios.append(cutoff.ratio)
    return ratios


def naive_options():
    """A window of less than lives through a round of 2,048: no memory of better times."""
    return {"naive": True, "calibration": LengthCalibration(window=800)}


def test_a_naive_refit_falls_and_keeps_falling():
    # Round r keeps 0.9^r of the distribution: the limit falls from exp(0.5 x 1.2816) = 1.90 to the 0.9^9 quantile,
    # exp(0.5 x -0.286) = 0.87 of the prediction, in eight rounds. The first has deviation sqrt(0.09 / 800) / 0.185 =
    # 0.057; the share kept by the last one a relative one of 3 x 0.012, which moves the limit by 0.016.
    ratios = train(9, rule="quantile", quantile=0.9, **naive_options())
    assert ratios[0] == pytest.approx(1.90, abs=0.25)
    assert ratios[8] == pytest.approx(0.87, abs=0.08)
    assert all(later < earlier + 0.05 for earlier, later in itertools.pairwise(ratios))


def test_the_calibrated_quantile_does_not_shrink():
    # 1,024 ratios: the quantile's deviation is sqrt(0.9 x 0.1 / 1024) / density = 0.0094 / 0.185 = 0.051; five of them.
    ratios = train(21, rule="quantile", quantile=0.9)
    assert all(ratio == pytest.approx(math.exp(SPREAD * 1.28155), abs=0.25) for ratio in ratios)


def test_the_calibrated_median_does_not_shrink():
    # exp(0.3) = 1.35; the median's deviation is 1.2533 x 0.5 / 32 x 1.35 = 0.026; five of them. The naive one comes to
    # rest where F(c) = F(1.5 c) / 2, at 1.06.
    assert all(r == pytest.approx(math.exp(0.3), abs=0.13) for r in train(21, middle=0.3, rule="median", factor=1.5))
    assert train(21, middle=0.3, rule="median", factor=1.5, **naive_options())[-1] < math.exp(0.3) - 0.2


def test_limits_by_rule():
    def fed(**options):
        cutoff = Cutoff(0, minimum=10, maximum=1000, exempt=0.0, **options)
        decisions = cutoff.decide(0, range(50), [Estimate(length=100.0)] * 50, active=False)
        cutoff.observe(decisions, [Outcome(("t",), (101 + i,), (True,)) for i in range(50)])
        return cutoff

    estimate = Estimate(length=200.0)
    assert fed(rule="paper", factor=1.5).limit(estimate) == 300
    assert fed(rule="median", factor=1.5).limit(estimate) == math.ceil(1.5 * 1.255 * 200)
    # Linear between observations: position 0.98 x 49 = 48.02, that is 1.4902.
    assert fed(rule="quantile", factor=9.0).limit(estimate) == math.ceil(1.4902 * 200)
    assert fed(rule="quantile").limit(Estimate(length=900.0)) == 1000
    assert fed(rule="quantile").limit(Estimate(length=3.0)) == 10
    assert fed(rule="quantile").limit(Estimate()) is None


def test_too_few_ratios():
    median, quantile = (Cutoff(0, minimum=1, maximum=1000, rule=rule, factor=2.0) for rule in ("median", "quantile"))
    for n in range(50):
        assert median.limit(Estimate(length=100.0)) == 200
        assert quantile.limit(Estimate(length=100.0)) is None
        # Without a limit to be exempt from, the problem is free of cutoffs and counts.
        for cutoff in (median, quantile):
            decisions = cutoff.decide(n, [1], [Estimate(length=100.0)], active=cutoff is quantile)
            assert (decisions[0].exempt, decisions[0].limit, decisions[0].probability) == (True, 1000, 1.0)
            cutoff.observe(decisions, [Outcome(("t",), (300,), (True,))])
    assert quantile.report().problems == 0
    assert (median.metrics()["cutoff/ratio"], quantile.metrics()["cutoff/ratio"]) == (3.0, 3.0)
    assert median.metrics()["cutoff/ratio_window"] == 50
    assert (median.limit(Estimate(length=100.0)), quantile.limit(Estimate(length=100.0))) == (600, 300)


def test_only_correct_uncensored_rollouts_of_exempt_problems_count():
    cutoff = Cutoff(2, minimum=1, maximum=1000, rule="median", exempt=0.3)
    decisions = cutoff.decide(0, range(40), [Estimate(length=100.0)] * 39 + [Estimate()])
    reasons = (FinishReason.STOP, FinishReason.LENGTH, FinishReason.STOP, FinishReason.CUTOFF)
    outcome = Outcome(("t",) * 4, (70, 1000, 60, 200), (True, True, False, True), reasons)
    cutoff.observe(decisions, [outcome] * 40)
    assert cutoff.state_dict()["calibration"]["ratios"] == [0.7] * sum(d.exempt for d in decisions)
    assert 0 < sum(d.exempt for d in decisions) < 39


def test_window_and_restart():
    one, again = (Cutoff(2, minimum=1, maximum=1000, rule="quantile", exempt=0.5) for _ in range(2))
    for step in range(300):
        one.observe(
            one.decide(step, [0], [Estimate(length=70.0)], active=False),
            [Outcome(("t",) * 4, (50 + step, 60, 70, 81), (True,) * 4)],
        )
    assert one.metrics()["cutoff/ratio_window"] == 1024
    again.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert again.metrics() == one.metrics()
    assert again.state_dict() == one.state_dict()
    assert again.decide(300, range(9), [Estimate(length=77.7)] * 9) == one.decide(
        300, range(9), [Estimate(length=77.7)] * 9
    )


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="1 <= least <= window"):
        LengthCalibration(window=10, least=11)
    with pytest.raises(ValueError, match="positive"):
        LengthCalibration().observe(0.0, [3])
    for options in ({"rule": "mean"}, {"quantile": 1.0}, {"quantile": 0.0}):
        with pytest.raises(ValueError, match=f"cutoff setting {next(iter(options))} must"):
            Cutoff(0, minimum=1, maximum=9, **options)
