"""Rules of the gate, and what the gate makes of their verdicts and of those from outside."""

import json
import math

import pytest

from masa.awareness import Beta, CalibratedRule, Estimate, ExplorationRule, Gate, PaperRule


def believed(a, b, **parts):
    return Estimate(pass_rate=a / (a + b), deviation=0.1, abstains=False, belief=Beta(a, b), **parts)


def explored(probability):
    return Estimate(exploration=probability)


def test_calibrated_rule_goes_by_the_whole_belief():
    rule = CalibratedRule(group_size=8, threshold=0.9)
    # Beta(1, 1) gives 2/9; Beta(1, 99): about 99/107 + 0 = 0.925; Beta(1, 49): 49/57 = 0.86.
    assert not rule.skips(believed(1, 1))
    assert rule.skips(believed(1, 99))
    assert rule.skips(believed(99, 1))
    assert not rule.skips(believed(1, 49))
    assert CalibratedRule(group_size=8, threshold=0.85).skips(believed(1, 49))
    assert CalibratedRule(group_size=4).skips(believed(1, 49))  # 49/53: smaller groups are flat more often
    # The mean of Beta(0.02, 0.08) is 0.2, where the plug-in says 0.8^8 = 0.17; the belief says nearly surely flat.
    assert rule.skips(believed(0.02, 0.08))


@pytest.mark.parametrize("estimate", [Estimate(), Estimate(pass_rate=0.0), Estimate(belief=Beta(1, 999))])
def test_who_abstains_passes(estimate):
    assert not CalibratedRule(group_size=8).skips(estimate)
    assert not PaperRule().skips(estimate)


def test_calibrated_gate_lets_the_smallest_probability_through():
    beliefs = [believed(1, n) for n in (400, 200, 900, 150)]
    decisions = Gate(3, CalibratedRule(8), max_share=0.5, audit=0.0).decide(0, range(4), beliefs)
    assert all(d.rule_skip for d in decisions)
    assert [d.gated for d in decisions] == [True, False, True, False]


def test_exploration_is_its_own_audit():
    gate = Gate(5, ExplorationRule(), max_share=1.0, audit=0.9)
    chances = [0.2, 0.6, 1.0, None] * 1000
    decisions = gate.decide(0, range(4000), [explored(chance) for chance in chances])
    assert [d.probability for d in decisions[:4]] == [0.2, 0.6, 1.0, 1.0]
    assert [d.candidate for d in decisions[:4]] == [True, True, False, False]
    for chance in (0.2, 0.6):
        rolled = [d for d, c in zip(decisions, chances, strict=True) if c == chance and not d.gated]
        assert all(d.audited for d in rolled)
        # Binomial(1000, chance): six deviations of at most 15.5, false alarm about 2e-9.
        assert abs(len(rolled) - 1000 * chance) < 6 * math.sqrt(1000 * chance * (1 - chance))
    assert not any(d.gated or d.audited for d, c in zip(decisions, chances, strict=True) if c in (1.0, None))


def test_exploration_lets_the_likeliest_explored_through():
    chances = [0.1, 0.7, 0.3, 0.9, 1.0]
    decisions = Gate(5, ExplorationRule(), max_share=0.4).decide(0, range(5), [explored(chance) for chance in chances])
    assert [d.let_through for d in decisions] == [False, True, False, True, False]
    assert [d.probability for d in decisions] == [0.1, 1.0, 0.3, 1.0, 1.0]


def test_a_problem_never_explored_is_gated_and_measures_nothing():
    gate = Gate(5, ExplorationRule(), max_share=1.0)
    decisions = gate.decide(0, [1], [explored(0.0)])
    assert decisions[0].gated
    gate.observe(decisions, [None], [None])
    assert gate.report().audits == 0


@pytest.mark.parametrize("chance", [-0.1, 1.5, math.nan])
def test_an_impossible_exploration_probability_is_refused(chance):
    with pytest.raises(ValueError, match="exploration probability"):
        Gate(0, ExplorationRule()).decide(0, [1], [explored(chance)])


@pytest.mark.parametrize("rule", [PaperRule(), CalibratedRule(8, threshold=1.0), ExplorationRule()])
def test_verdicts_from_outside_are_candidates_like_others(rule):
    gate = Gate(1, rule, max_share=0.25, audit=0.25)
    skips = [True, True, False, True, True]
    decisions = gate.decide(0, range(5), [believed(2, 2)] * 5, skips=skips)
    assert [d.outside_skip for d in decisions] == skips
    assert not any(d.rule_skip for d in decisions)
    assert [d.candidate for d in decisions] == skips  # the limit is the rule's: an allocation spends its budget
    assert all(d.probability == (0.25 if d.candidate else 1.0) for d in decisions)
    idle = gate.decide(0, range(5), [believed(2, 2)] * 5, skips=skips, active=False)
    assert [d.candidate for d in idle] == skips
    assert not any(d.gated for d in idle)


def test_what_passes_against_the_rule_may_still_be_skipped_from_outside():
    # Zero-variance probabilities fall with how near the mean is to 1/2.
    estimates = [believed(1, 40), believed(1, 30), believed(1, 50), believed(1, 60)]
    gate = Gate(1, CalibratedRule(8, threshold=0.5), max_share=0.5, audit=0.0)
    passed = gate.let_through(0, range(4), estimates)
    assert passed == {0, 1}
    skips = [True, False, True, False]
    decisions = gate.decide(0, range(4), estimates, skips=skips)
    assert gate.decide(0, range(4), estimates, skips=skips, let_through=passed) == decisions
    assert [d.let_through for d in gate.decide(0, range(4), estimates, let_through={2})] == [False, False, True, False]
    assert [d.let_through for d in decisions] == [True, True, False, False]
    assert [d.gated for d in decisions] == [True, False, True, True]
    # Further draws of the step count what the rule skipped of earlier ones, and not what the outside did.
    assert gate.let_through(0, [9], [believed(1, 40)], earlier=decisions[:2]) == set()
    assert gate.let_through(0, [9], [believed(1, 40)], earlier=decisions[2:]) == {0}


def test_outside_verdicts_and_the_rules_add_up():
    gate = Gate(1, ExplorationRule(), max_share=1.0, audit=0.05)
    decisions = gate.decide(0, range(3), [explored(0.4), explored(1.0), explored(0.4)], skips=[False, True, True])
    assert [d.probability for d in decisions] == [0.4, 0.05, 0.4]
    with pytest.raises(ValueError, match="3 problem keys for 1 outside verdicts"):
        gate.decide(0, range(3), [Estimate()] * 3, skips=[True])
    with pytest.raises(ValueError, match="3 problem keys for 2 estimates"):
        gate.decide(0, range(3), [Estimate()] * 2)


def test_weight_is_bounded():
    gate = Gate(5, ExplorationRule(), max_share=1.0)
    decisions = gate.decide(0, range(4), [explored(chance) for chance in (0.5, 0.05, 1.0, 0.0)])
    assert [d.weight() for d in decisions] == [2.0, 4.0, 1.0, 4.0]
    assert decisions[1].weight(most=30) == 20.0


def test_state_with_unequal_probabilities_survives_a_restart():
    gate = Gate(5, ExplorationRule(), max_share=1.0)
    again = Gate(5, ExplorationRule(), max_share=1.0)
    decisions = gate.decide(0, range(50), [explored(i / 50 + 0.01) for i in range(50)])
    events = gate.observe(decisions, [i % 3 == 0 for i in range(50)], [10 + i for i in range(50)])
    assert len(events) == sum(not d.gated for d in decisions)
    again.load_state_dict(json.loads(json.dumps(gate.state_dict())))
    assert again.metrics() == gate.metrics()
    assert again.state_dict() == gate.state_dict()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: PaperRule(gate_std=-1), "gate_std"),
        (lambda: PaperRule(margin=0.6), "margin"),
        (lambda: CalibratedRule(8, threshold=1.5), "threshold"),
        (lambda: CalibratedRule(0), "group_size"),
    ],
)
def test_settings_out_of_range_are_refused(make, name):
    with pytest.raises(ValueError, match=f"gate setting {name} must"):
        make()
