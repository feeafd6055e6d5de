"""What cutting destroys, and what it saves: by hand, and on populations whose truth is known."""

import math
import random
import statistics

import pytest

from masa.awareness import Cutoff, Estimate
from masa.awareness.cutoff_audit import CutoffEvent, measure, report
from masa.records import FinishReason, Outcome

FORETOLD = Estimate(length=50.0)


def test_answers_stated_before_the_limit_are_no_false_cuts():
    # Limit 100. Correct: 80, 120 (stated before), 150 (not). Wrong: 300, 90, 200 (right at the limit, then went wrong).
    outcome = Outcome(("t",) * 6, (80, 120, 150, 300, 90, 200), (True,) * 3 + (False,) * 3)
    event = measure(outcome, 100, 1.0, [True, True, False, False, False, True])
    assert event == CutoffEvent(3, 2, 1, 3, 2, 20 + 50 + 200 + 100, 1.0)
    found = report([event], 0.9)
    assert found.false_cut_rate == pytest.approx(1 / 3)
    assert found.precision == pytest.approx(3 / 4)  # 120, 300 and 200 lose nothing, 150 does
    assert found.recall == pytest.approx(2 / 3)  # 300 and 200, of 300, 90 and 200
    assert CutoffEvent.from_list(event.as_list()) == event
    plain = report([measure(outcome, 100, 1.0)], 0.9)
    assert (plain.false_cut_rate, plain.precision) == (pytest.approx(2 / 3), pytest.approx(1 / 2))


def test_grades_at_the_limit_are_read_for_exempt_problems_alone():
    cutoff = Cutoff(3, minimum=10, maximum=1000, exempt=0.5)
    decisions = cutoff.decide(0, range(20), [FORETOLD] * 19 + [Estimate()])
    outcomes = [Outcome(("t",), (150,), (True,))] * 20
    stated = [[True] if d.exempt else None for d in decisions]
    cutoff.observe(decisions, outcomes, stated)
    assert cutoff.report().problems == sum(d.exempt for d in decisions) > 0
    assert cutoff.report().false_cut_rate == 0.0
    with pytest.raises(ValueError, match="2 grades at the limit for 1 rollouts"):
        cutoff.observe(decisions, outcomes, [[True, False]] * 20)


RUNS, PARALLEL, PREDICTIVE, ROLLOUTS = 250, 100, 700, 4
STATED = 0.4
"""Share of late correct rollouts that had stated their answer before the limit."""


def draw_group(rng, late):
    """A solution group whose rollouts share a difficulty and a chance (mean `late`) of running past the limit."""
    solved, chance = rng.choice((0.25, 0.75)), rng.choice((0.5, 1.5)) * late
    correct = tuple(rng.random() < solved for _ in range(ROLLOUTS))
    lengths = tuple(
        101 + int(rng.random() * 200) if rng.random() < chance else 100 - int(rng.random() * 80) for _ in correct
    )
    stated = [c and (n <= 100 or rng.random() < STATED) for c, n in zip(correct, lengths, strict=True)]
    return Outcome(("t",) * ROLLOUTS, lengths, correct), stated


@pytest.fixture(scope="module")
def runs():
    """Few problems with a short parallel phase (1 in 10 late), then many in a predictive one (3 in 10 late)."""
    found = []
    for seed in range(RUNS):
        rng = random.Random(seed)
        cutoff, beyond, events = Cutoff(seed, minimum=10, maximum=1000, exempt=0.1), 0, 0
        for step, (n, late) in enumerate([(PARALLEL, 0.1), (PREDICTIVE, 0.3)]):
            decisions = cutoff.decide(step, range(n), [FORETOLD] * n, active=step > 0)
            groups = [draw_group(rng, late) for _ in range(n)]
            outcomes = []
            for d, (full, _) in zip(decisions, groups, strict=True):
                over = [length > d.limit for length in full.lengths]
                beyond += sum(max(length - d.limit, 0) for length in full.lengths)
                outcomes.append(
                    Outcome(
                        full.texts,
                        tuple(min(length, d.limit) for length in full.lengths),
                        tuple(c and not cut for c, cut in zip(full.correct, over, strict=True)),
                        tuple(FinishReason.CUTOFF if cut else FinishReason.STOP for cut in over),
                    )
                )
            cutoff.observe(decisions, outcomes, [stated for _, stated in groups])
            events += sum(d.exempt for d in decisions)
        assert cutoff.report().problems == events
        found.append((cutoff, beyond))
    return found


LATE = (PARALLEL * 0.1 + PREDICTIVE * 0.3) / (PARALLEL + PREDICTIVE)
TRUTH = {"false_cut_rate": LATE * (1 - STATED), "precision": 1 - 0.5 * (1 - STATED), "recall": LATE}
"""Half of all rollouts are correct, whatever their length."""


def standard_errors_off(values, truth):
    return (statistics.mean(values) - truth) / (statistics.stdev(values) / math.sqrt(len(values)))


@pytest.mark.parametrize("name", list(TRUTH))
def test_shares_are_unbiased_and_their_intervals_cover(runs, name):
    """Mean within five standard errors of 250 runs (false alarm 6e-7); coverage within four deviations of 0.019."""
    reports = [cutoff.report(0.9) for cutoff, _ in runs]
    assert abs(standard_errors_off([getattr(one, name) for one in reports], TRUTH[name])) < 5
    field = {"false_cut_rate": "false_cut"}.get(name, name)
    intervals = [getattr(one, f"{field}_interval") for one in reports]
    assert 0.82 <= statistics.mean(one.low <= TRUTH[name] <= one.high for one in intervals) <= 0.98


@pytest.mark.parametrize("name", ["false_cut_rate", "recall"])
def test_estimates_without_the_weights_would_be_caught(runs, name):
    reports = []
    for cutoff, _ in runs:
        rows = cutoff.state_dict()["events"]
        reports.append(report([CutoffEvent.from_list([*row[:-1], 1.0]) for row in rows], 0.9))
    assert abs(standard_errors_off([getattr(one, name) for one in reports], TRUTH[name])) > 10


def test_tokens_saved_are_unbiased_and_their_error_is_true(runs):
    differences = [cutoff.tokens_saved - beyond for cutoff, beyond in runs]
    assert abs(standard_errors_off(differences, 0.0)) < 5
    within = [abs(c.tokens_saved - beyond) < 1.645 * c.tokens_saved_error for c, beyond in runs]
    assert 0.82 <= statistics.mean(within) <= 0.98
    overcounted = [c.tokens_saved / 0.9 - beyond for c, beyond in runs]  # tokens / a: the exempt counted as saved
    assert standard_errors_off(overcounted, 0.0) > 6
