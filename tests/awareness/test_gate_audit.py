"""Is what the gate says of itself true? Populations of known variance, gated many times over.

Each scenario is run 250 times on 800 fresh problems. An estimate passes if its mean over the runs lies within five
standard errors of that mean from the truth (false alarm 6e-7 for an unbiased one; a share of two sums has a bias of the
order of 1 / audits, below two standard errors here). Coverage of a 90 % interval over 250 runs has deviation 0.019; the
band is four of them.
"""

import functools
import math
import random
import statistics
from dataclasses import dataclass

import pytest

from masa.awareness import Estimate, ExplorationRule, Gate, PaperRule
from masa.awareness.gate_audit import GateEvent, report

RUNS, PROBLEMS = 250, 800
FLAT_BY_EXPLORATION = {0.1: 0.95, 0.2: 0.85, 0.4: 0.7, 0.7: 0.45}
"""The surer a randomised gate is, the more often it is right: pi and z are dependent."""
FLAT_IF_PASSED = 0.12


@dataclass
class Run:
    events: list[GateEvent]
    saved: float
    saved_error: float
    lost: int
    """Tokens that the gated problems would have cost: the truth behind `saved`."""


def draw_problem(rng, scenario):
    """Estimate, z and tokens of one problem; half are candidates."""
    if rng.random() < 0.5:
        estimate, flat = Estimate(pass_rate=0.5, deviation=0.3, abstains=False), rng.random() < FLAT_IF_PASSED
    elif scenario == "exploration":
        chance = rng.choice(list(FLAT_BY_EXPLORATION))
        estimate, flat = Estimate(exploration=chance), rng.random() < FLAT_BY_EXPLORATION[chance]
    else:
        estimate, flat = Estimate(pass_rate=0.0, deviation=0.0, abstains=False), rng.random() < 0.8
    return estimate, flat, rng.randint(50, 150) * (3 if flat else 1)


@functools.cache
def simulate(scenario, *, max_share=1.0, outside=False):
    runs = []
    for seed in range(RUNS):
        rng = random.Random(seed)
        rule = ExplorationRule() if scenario == "exploration" else PaperRule()
        gate = Gate(seed, rule, max_share=max_share, audit=0.1)
        events, lost = [], 0
        for step in range(2):
            drawn = [draw_problem(rng, scenario) for _ in range(PROBLEMS // 2)]
            skips = [rng.random() < 0.3 for _ in drawn] if outside else None
            decisions = gate.decide(step, range(len(drawn)), [one[0] for one in drawn], skips=skips)
            lost += sum(tokens for (_, _, tokens), d in zip(drawn, decisions, strict=True) if d.gated)
            events += gate.observe(
                decisions,
                [None if d.gated else flat for (_, flat, _), d in zip(drawn, decisions, strict=True)],
                [None if d.gated else tokens for (_, _, tokens), d in zip(drawn, decisions, strict=True)],
            )
        runs.append(Run(events, gate.tokens_saved, gate.tokens_saved_error, lost))
    return runs


def standard_errors_off(values, truth):
    return (statistics.mean(values) - truth) / (statistics.stdev(values) / math.sqrt(len(values)))


@pytest.fixture(scope="module", params=["paper", "exploration"])
def scenario(request):
    flat = statistics.mean(FLAT_BY_EXPLORATION.values()) if request.param == "exploration" else 0.8
    truth = {
        "precision": flat,
        "recall": flat / (flat + FLAT_IF_PASSED),
        "base_rate": (flat + FLAT_IF_PASSED) / 2,
    }
    return request.param, simulate(request.param), truth


@pytest.mark.parametrize("name", ["precision", "recall", "base_rate"])
def test_shares_are_unbiased_and_their_intervals_cover(scenario, name):
    _, runs, truth = scenario
    reports = [report(run.events, [event.candidate for event in run.events], 0.9) for run in runs]
    assert abs(standard_errors_off([getattr(one, name) for one in reports], truth[name])) < 5
    intervals = [getattr(one, f"{name}_interval") for one in reports]
    coverage = statistics.mean(one.low <= truth[name] <= one.high for one in intervals)
    assert 0.82 <= coverage <= 0.98


@pytest.mark.parametrize("name", ["precision", "recall", "base_rate"])
def test_estimates_without_the_weights_would_be_caught(scenario, name):
    which, runs, truth = scenario
    unweighted = [[GateEvent(e.rule_skip, e.candidate, e.zero_variance, 1.0, e.tokens) for e in r.events] for r in runs]
    reports = [report(events, [event.candidate for event in events], 0.9) for events in unweighted]
    off = abs(standard_errors_off([getattr(one, name) for one in reports], truth[name]))
    # With one pi for all audits the weights cancel in the precision, and nowhere else.
    assert off < 5 if (which, name) == ("paper", "precision") else off > 10


@pytest.mark.parametrize(
    ("which", "options"),
    [
        ("paper", {}),
        ("exploration", {}),
        ("paper", {"max_share": 0.3}),
        ("exploration", {"max_share": 0.3, "outside": True}),
    ],
)
def test_tokens_saved_are_unbiased_and_their_error_is_true(which, options):
    runs = simulate(which, **options)
    differences = [run.saved - run.lost for run in runs]
    assert abs(standard_errors_off(differences, 0.0)) < 5
    # 90 % of normal deviates lie within 1.645.
    coverage = statistics.mean(abs(run.saved - run.lost) < 1.645 * run.saved_error for run in runs)
    assert 0.82 <= coverage <= 0.98
    # Saved by tokens / pi, which counts the audits themselves as saved, would be caught.
    overcounted = [sum(e.tokens / e.probability for e in run.events if e.probability < 1) for run in runs]
    assert standard_errors_off([a - run.lost for a, run in zip(overcounted, runs, strict=True)], 0.0) > 6
