"""When the predictive phase begins and ends."""

import json
import random

import pytest

from masa.awareness import Estimate, FixedPhases, Gate, PaperRule, PhaseSwitch
from masa.awareness.gate_audit import GateEvent

SKIP = Estimate(pass_rate=0.0, deviation=0.0, abstains=False)
PASS = Estimate(pass_rate=0.5, deviation=0.3, abstains=False)


def event(candidate, flat, probability=1.0):
    return GateEvent(candidate, candidate, flat, probability, 100)


class Training:
    """Gate and switch side by side on a population with base rate 0.5; `advise` says what is predicted of z."""

    def __init__(self, seed, advise, **options):
        self.rng = random.Random(seed)
        self.gate = Gate(seed, PaperRule(), audit=0.1)
        self.switch = PhaseSwitch(**options)
        self.advise = advise
        self.step = 0
        self.phases = []

    def run(self, steps, problems=32):
        for _ in range(steps):
            self.step += 1
            predictive = self.switch.is_predictive(self.step)
            flat = [self.rng.random() < 0.5 for _ in range(problems)]
            estimates = [SKIP if self.advise(z, self.rng) else PASS for z in flat]
            decisions = self.gate.decide(self.step, range(problems), estimates, active=predictive)
            truth = [None if d.gated else z for d, z in zip(decisions, flat, strict=True)]
            self.switch.observe(self.step, self.gate.observe(decisions, truth, [100] * problems))
            self.phases.append(predictive)
        return self.phases

    @property
    def switches(self):
        return self.switch.metrics()["phase/switches"]


def right(share):
    """A gate whose verdict to skip is right with this probability (base rate 0.5, half of the flat ones found)."""
    return lambda z, rng: rng.random() < (0.5 if z else 0.5 * (1 - share) / share)


def test_fixed_phases():
    phases = FixedPhases(3)
    assert [phases.is_predictive(step) for step in range(1, 6)] == [False, False, False, True, True]
    assert FixedPhases(0).is_predictive(1)
    assert not FixedPhases(None).is_predictive(10**9)
    phases.observe(1, [event(True, True)])
    phases.load_state_dict(json.loads(json.dumps(phases.state_dict())))
    assert phases.metrics() == {}
    with pytest.raises(ValueError, match="k must be"):
        FixedPhases(-1)


@pytest.mark.parametrize("base_rate", [0.5, 0.9, 0.97, 1.0])
def test_collapsed_predictions_never_enter(base_rate):
    """All predictions at one edge: precision is the base rate, however high, and however long one waits."""
    switch = PhaseSwitch(floor=0.5)
    rng = random.Random(1)
    for step in range(1, 301):
        switch.observe(step, [event(True, rng.random() < base_rate) for _ in range(16)])
        assert not switch.is_predictive(step + 1)
    assert switch.metrics()["phase/precision_low"] > 0.5 or base_rate == 0.5


def test_verdicts_independent_of_the_truth_never_enter():
    for seed in range(5):
        training = Training(seed, lambda _z, rng: rng.random() < 0.5, floor=0.0)
        assert not any(training.run(200))


def test_an_informed_gate_enters_and_stays():
    for seed in range(10):
        training = Training(seed, right(0.97))
        phases = training.run(150)
        # About 8 verdicts a step: 30 by the fifth step or so; by then, or soon after, the bound is met.
        assert phases.index(True) < 40
        assert training.switches == 1
        assert all(phases[phases.index(True) :])


def test_entering_takes_thirty_verdicts():
    switch = PhaseSwitch()
    switch.observe(1, [event(True, True)] * 29 + [event(False, False)] * 29)
    assert not switch.is_predictive(2)
    assert switch.metrics()["phase/verdicts"] == 29
    switch.observe(2, [event(True, True)])
    assert switch.is_predictive(3)


def test_the_bar_rises_with_the_base_rate():
    # 40 right of 40: lower bound n / (n + z^2) with z = 1.2816, 40 / 41.64 = 0.9606. Beside 100 flat among 100 passed
    # the base rate is 1 and the bar 1; beside 60 live among 60 passed it is 0.4 and the bar max(floor, 0.7).
    for passed, enters in (([event(False, True)] * 100, False), ([event(False, False)] * 60, True)):
        switch = PhaseSwitch(floor=0.95)
        switch.observe(1, [event(True, True)] * 40 + passed)
        assert switch.is_predictive(2) is enters
        assert switch.metrics()["phase/precision_low"] == pytest.approx(40 / (40 + 1.2815516**2))
        assert switch.metrics()["phase/threshold"] == (0.95 if enters else 1.0)
    switch = PhaseSwitch(floor=0.97)
    switch.observe(1, [event(True, True)] * 40 + [event(False, False)] * 60)
    assert not switch.is_predictive(2)


def test_a_gate_gone_bad_leaves():
    for seed in range(10):
        training = Training(seed, right(0.97))
        training.run(60)
        assert training.switch.is_predictive(61)
        training.advise = right(0.3)
        left = training.run(120)[60:]
        # About 24 verdicts a step, a tenth of them audited: a third of the 30 or more audits must be bad ones.
        assert False in left
        assert 3 < left.index(False) < 60
        assert not any(left[left.index(False) :])
        assert training.switches == 2


def test_after_leaving_only_fresh_evidence_counts():
    switch = PhaseSwitch()
    switch.observe(1, [event(True, True)] * 500)
    assert switch.is_predictive(2) is False  # base rate 1: nothing to tell apart
    switch.observe(2, [event(False, False)] * 500)
    assert switch.is_predictive(3)
    # The 500 good verdicts of the parallel phase do not outweigh 30 bad audits.
    switch.observe(3, [event(True, False, 0.1)] * 30 + [event(False, False)] * 900)
    assert not switch.is_predictive(4)
    # And the way back in takes 30 new verdicts, of which the 500 are none.
    switch.observe(4, [event(True, True)] * 29 + [event(False, False)] * 100)
    assert not switch.is_predictive(5)
    assert switch.metrics()["phase/verdicts"] == 29
    switch.observe(5, [event(True, True)])
    assert switch.is_predictive(6)
    assert switch.metrics()["phase/switches"] == 3


def test_passed_problems_do_not_crowd_out_rare_audits():
    # One bad audit among 1,000 passed problems a step: the thirtieth decides, though no 1,024 problems hold thirty.
    switch = PhaseSwitch()
    switch.observe(1, [event(True, True)] * 60 + [event(False, False)] * 60)
    assert switch.is_predictive(2)
    for step in range(2, 31):
        switch.observe(step, [event(True, False, 0.1), *[event(False, False)] * 1000])
        assert switch.is_predictive(step + 1)
    switch.observe(31, [event(True, False, 0.1)])
    assert not switch.is_predictive(32)


def test_an_allocations_verdicts_are_no_evidence_against_the_rule():
    switch = PhaseSwitch()
    switch.observe(1, [event(True, True), event(False, False)] * 100)
    assert switch.is_predictive(2)
    switch.observe(2, [GateEvent(False, True, False, 0.1, 100)] * 100)
    assert switch.is_predictive(3)
    assert switch.metrics()["phase/verdicts"] == 0


def test_no_flapping_between_the_two_conditions():
    """Gates below the bar to enter never do, and gates above it stay: at most one switch in 250 steps."""
    for share in (0.6, 0.7, 0.9):
        for seed in range(3):
            training = Training(seed, right(share))
            training.run(250)
            assert training.switches <= (0 if share < 0.75 else 1)


@pytest.mark.parametrize("steps", [3, 30, 90])
def test_state_survives_a_restart(steps):
    training = Training(4, right(0.97))
    training.run(steps)
    again = PhaseSwitch()
    again.load_state_dict(json.loads(json.dumps(training.switch.state_dict())))
    assert again.metrics() == training.switch.metrics()
    rng = random.Random(0)
    for step in range(200):
        events = [event(rng.random() < 0.5, rng.random() < 0.3, 0.1) for _ in range(8)]
        again.observe(step, events)
        training.switch.observe(step, events)
        assert again.state_dict() == training.switch.state_dict()


@pytest.mark.parametrize("options", [{"floor": 1.1}, {"least": 0}, {"window": 20}, {"audits": 29}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"phase setting {next(iter(options))} must"):
        PhaseSwitch(**options)
