import json
import math
import random

import pytest

from masa.awareness import Estimate, Gate, PaperRule, wilson_interval


def belief(mean, deviation=0.0, abstains=False):
    return Estimate(pass_rate=mean, deviation=deviation, valid=8, abstains=abstains)


UNCERTAIN = belief(0.5, 0.3)
SURE = belief(0.0)


def make_gate(**options):
    return Gate(7, PaperRule(), **{"max_share": 1.0, "audit": 0.0, **options})


@pytest.mark.parametrize(
    ("estimate", "skips"),
    [
        (belief(0.0), True),
        (belief(1.0), True),
        (belief(1 / 16), True),
        (belief(15 / 16), True),
        (belief(0.0626), False),
        (belief(0.9374), False),
        (belief(0.5), False),
        (belief(0.0, 0.0999), True),
        (belief(0.0, 0.1), False),
        (belief(0.0, abstains=True), False),
        (Estimate(), False),
        (Estimate(pass_rate=0.0, abstains=False), False),
    ],
)
def test_the_papers_rule(estimate, skips):
    gate = make_gate()
    assert gate.rule.skips(estimate) is skips
    (decision,) = gate.decide(0, [3], [estimate])
    assert decision.rule_skip is skips
    assert decision.gated is skips
    assert decision.probability == (0.0 if skips else 1.0)


def test_never_starve_passes_the_least_certain():
    # Of eight problems at most 6 may go and all would, so two pass: by deviation, then by distance from the edge.
    estimates = [belief(0.0)] * 5 + [belief(0.02, 0.05), belief(0.99, 0.01), belief(0.97, 0.01)]
    decisions = make_gate(max_share=0.75).decide(1, range(8), estimates)
    assert [d.key for d in decisions if d.let_through] == [5, 7]
    assert [d.gated for d in decisions] == [True] * 5 + [False, True, False]
    assert all(d.rule_skip for d in decisions)
    assert [d.probability for d in decisions] == [0.0] * 5 + [1.0, 0.0, 1.0]


def test_never_starve_ties_go_by_derived_seed():
    def passed(step, keys):
        decisions = make_gate(max_share=0.5).decide(step, keys, [SURE] * 4)
        return {d.key for d in decisions if d.let_through}

    assert passed(0, [1, 2, 3, 4]) == passed(0, [4, 2, 1, 3])
    # Six pairs are possible; 30 steps agree with odds 6 ** -29.
    assert len({frozenset(passed(step, [1, 2, 3, 4])) for step in range(30)}) > 1


@pytest.mark.parametrize(
    ("share", "n", "gated"), [(0.75, 4, 3), (0.75, 1, 0), (0.29, 100, 29), (0.0, 5, 0), (1.0, 5, 5)]
)
def test_the_share_is_a_ceiling(share, n, gated):
    decisions = make_gate(max_share=share).decide(0, range(n), [SURE] * n)
    assert sum(d.gated for d in decisions) == gated


def test_the_share_is_of_all_draws_of_a_step():
    gate = make_gate(max_share=0.75)
    first = gate.decide(1, range(7), [UNCERTAIN] * 7)
    # Of eight problems in all six may go, and none has so far: the lone problem of the second draw is skipped.
    assert [d.gated for d in gate.decide(1, [7], [SURE], earlier=first)] == [True]
    assert [d.gated for d in gate.decide(1, [7], [SURE])] == [False]
    full = gate.decide(1, range(7), [SURE] * 7)
    assert sum(d.gated for d in full) == 5  # floor(5.25)
    assert [d.gated for d in gate.decide(1, [7, 8], [SURE] * 2, earlier=full)].count(True) == 1  # 6 of 9


def test_the_share_is_decided_before_the_audits_draw():
    decisions = make_gate(max_share=0.5, audit=1.0).decide(0, range(4), [SURE] * 4)
    assert sum(d.let_through for d in decisions) == 2
    assert sum(d.audited for d in decisions) == 2
    assert not any(d.gated for d in decisions)
    assert not any(d.audited and d.let_through for d in decisions)


def test_audit_draws_are_named_not_ordered():
    gate = make_gate(audit=0.3)
    keys = list(range(2000))
    audited = {d.key for d in gate.decide(5, keys, [SURE] * 2000) if d.audited}
    backwards = {d.key for d in gate.decide(5, keys[::-1], [SURE] * 2000) if d.audited}
    assert audited == backwards
    assert audited != {d.key for d in gate.decide(6, keys, [SURE] * 2000) if d.audited}
    # Binomial(2000, 0.3): deviation 20.5; six of them either way, false alarm about 2e-9.
    assert abs(len(audited) - 600) < 123


def test_inactive_gate_passes_everything_and_measures_the_rule():
    gate = make_gate(max_share=0.1)
    decisions = gate.decide(0, [1, 2, 3], [SURE, SURE, UNCERTAIN], active=False)
    assert [d.gated for d in decisions] == [False] * 3
    assert [d.rule_skip for d in decisions] == [True, True, False]
    assert not any(d.audited or d.let_through for d in decisions)
    gate.observe(decisions, [True, False, True], [10, 10, 10])
    report = gate.report()
    assert (report.audits, report.precision, report.recall, report.base_rate) == (2, 0.5, 0.5, pytest.approx(2 / 3))
    assert report.tokens_saved == 0.0


def test_quality_by_hand():
    # Audits at pi = 1/4: z = 1, 1, 0 with 100, 60, 40 tokens. Passed: z = 1, 0, 0, 0.
    # TP = 2 x 4 = 8; precision 8/12; recall 8/(8 + 1); base rate (8 + 1)/(12 + 4); saved 200 x 3 = 600.
    gate = audited_gate([True, True, False], [100, 60, 40], [True, False, False, False])
    report = gate.report()
    assert (report.audits, report.passed) == (3, 4)
    assert report.precision == pytest.approx(2 / 3)
    assert report.recall == pytest.approx(8 / 9)
    assert report.base_rate == pytest.approx(9 / 16)
    assert report.f1 == pytest.approx(2 * (2 / 3) * (8 / 9) / (2 / 3 + 8 / 9))
    assert report.tokens_saved == pytest.approx(600)
    assert gate.tokens_saved == pytest.approx(600)
    # variance: sum t^2 (3/4) / (1/16) = 12 (10000 + 3600 + 1600)
    assert gate.tokens_saved_error == pytest.approx(math.sqrt(12 * 15200))
    # Equal weights: Wilson's interval on the audits themselves.
    expected = wilson_interval(2, 3, 0.9)
    assert report.precision_interval.low == pytest.approx(expected.low)
    assert report.precision_interval.high == pytest.approx(expected.high)


def audited_gate(z_audited, tokens_audited, z_passed):
    """A gate with audit 1/4 that has observed these audited and passed problems."""
    gate = make_gate(audit=0.25)
    keys = list(range(400))
    decisions = gate.decide(0, keys, [SURE] * 400)
    chosen = [d for d in decisions if d.audited][: len(z_audited)]
    assert len(chosen) == len(z_audited)
    gate.observe(chosen, z_audited, tokens_audited)
    passed = gate.decide(1, range(len(z_passed)), [UNCERTAIN] * len(z_passed))
    gate.observe(passed, z_passed, [50] * len(z_passed))
    return gate


def test_let_through_problems_count_as_passed_for_the_gate_and_as_skipped_for_the_rule():
    gate = make_gate(max_share=0.5, audit=1.0)
    estimates = [belief(0.0, 0.01), SURE]
    decisions = gate.decide(0, [1, 2], estimates)
    assert [d.let_through for d in decisions] == [True, False]
    gate.observe(decisions, [False, True], [10, 20])
    assert gate.report().precision == 1.0
    assert gate.report().audits == 1
    assert gate.rule_report().precision == 0.5


def test_audit_estimates_are_unbiased():
    """Gate a population whose truth is known; precision, recall and saving come out right on average.

    Over 200 runs of 400 gated problems at pi = 0.2 the pooled precision has about 16,000 audits, so its deviation is
    below 0.004; the pooled saving's relative deviation is about
    0.016. Bounds of six deviations: false alarm about 1e-8.
    """
    saved = spent = true_positives = weight = 0.0
    for run in range(200):
        rng = random.Random(run)
        gate = Gate(run, PaperRule(), max_share=1.0, audit=0.2)
        decisions = gate.decide(0, range(400), [SURE] * 400)
        z = [rng.random() < 0.7 for _ in decisions]
        tokens = [100 if flat else 400 for flat in z]
        rolled = [i for i, d in enumerate(decisions) if not d.gated]
        gate.observe([decisions[i] for i in rolled], [z[i] for i in rolled], [tokens[i] for i in rolled])
        spent += sum(t for t, d in zip(tokens, decisions, strict=True) if d.gated)
        saved += gate.tokens_saved
        report = gate.report()
        true_positives += report.precision * report.audits
        weight += report.audits
    assert true_positives / weight == pytest.approx(0.7, abs=0.024)
    assert saved / spent == pytest.approx(1.0, abs=0.1)


def test_window_is_counted_in_events():
    gate = make_gate(window=3)
    for step, flat in enumerate([True, True, False, False, False]):
        gate.observe(gate.decide(step, [0], [SURE], active=False), [flat], [1])
    assert (gate.report().audits, gate.report().precision) == (3, 0.0)


def test_undefined_shares_are_none_and_absent_from_metrics():
    gate = make_gate()
    assert gate.report().precision is None
    assert gate.report().recall is None
    assert "gate/precision" not in gate.metrics()
    gate.observe(gate.decide(0, [1], [UNCERTAIN]), [False], [5])
    report = gate.report()
    assert (report.precision, report.recall, report.f1, report.base_rate) == (None, None, None, 0.0)
    assert all(math.isfinite(value) for value in gate.metrics().values())


def test_metrics_of_a_step():
    gate = make_gate(max_share=0.5)
    decisions = gate.decide(0, [1, 2], [SURE, SURE]) + gate.decide(0, [3, 4], [belief(0.0, 0.01), UNCERTAIN])
    gate.observe(decisions, [None if d.gated else True for d in decisions], [None if d.gated else 3 for d in decisions])
    metrics = gate.metrics()
    assert metrics["gate/rule_share"] == 0.75
    assert metrics["gate/share"] == 0.5
    assert metrics["gate/let_through"] == 1.0
    assert metrics["gate/audited"] == 0.0


def test_a_rolled_out_problem_needs_its_truth():
    gate = make_gate()
    passed = gate.decide(0, [4], [UNCERTAIN])
    with pytest.raises(ValueError, match="problem 4"):
        gate.observe(passed, [None], [3])
    gate.observe(gate.decide(0, [1], [SURE]), [None], [None])
    assert gate.report().passed == 0


def test_state_survives_a_restart():
    gate = audited_gate([True, False], [10, 20], [True, False])
    again = make_gate(audit=0.25)
    again.load_state_dict(json.loads(json.dumps(gate.state_dict())))
    assert again.metrics() == gate.metrics()
    for one in (gate, again):
        one.observe(one.decide(9, [1, 2], [SURE, UNCERTAIN], active=False), [True, False], [5, 6])
    assert again.state_dict() == gate.state_dict()


def test_an_empty_step_is_no_accident():
    gate = make_gate()
    gate.observe(gate.decide(0, [], []), [], [])
    assert gate.report().audits == 0


@pytest.mark.parametrize("options", [{"audit": 1.5}, {"audit": math.nan}, {"max_share": 2}, {"window": 0}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"gate setting {next(iter(options))} must"):
        Gate(0, PaperRule(), **options)
