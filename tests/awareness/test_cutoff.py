import json
import math

import pytest

from masa.awareness import Cutoff, Estimate
from masa.records import FinishReason, Outcome

STOP, CUT = FinishReason.STOP, FinishReason.CUTOFF


def foretold(length):
    return Estimate(length=length)


def make_cutoff(**options):
    return Cutoff(3, **{"minimum": 10, "maximum": 1000, "exempt": 0.0, **options})


@pytest.mark.parametrize(
    ("length", "factor", "limit", "is_cutoff"),
    [
        (100.0, 2.0, 200, True),
        (100.2, 2.0, 201, True),
        (100.0, 1.1, 110, True),  # 1.1 x 100 is a hair above 110 in binary
        (33.25, 1.5, 50, True),
        (3.0, 2.0, 10, True),
        (499.9, 2.0, 1000, False),
        (700.0, 2.0, 1000, False),
        (None, 2.0, 1000, False),
    ],
)
def test_limit_is_factor_times_length_clamped(length, factor, limit, is_cutoff):
    (decision,) = make_cutoff(factor=factor).decide(0, [1], [foretold(length)])
    assert (decision.limit, decision.is_cutoff) == (limit, is_cutoff)
    assert (decision.predicted_limit is None) == (length is None)
    assert not decision.exempt


def test_exempt_draw_is_named_not_ordered():
    cutoff = make_cutoff(exempt=0.3)
    keys = list(range(2000))
    decisions = cutoff.decide(4, keys, [foretold(50.0)] * 2000)
    exempt = {d.key for d in decisions if d.exempt}
    assert exempt == {d.key for d in cutoff.decide(4, keys[::-1], [foretold(50.0)] * 2000) if d.exempt}
    # Binomial(2000, 0.3): six deviations of 20.5; false alarm about 2e-9.
    assert abs(len(exempt) - 600) < 123
    for d in decisions:
        assert (d.limit, d.is_cutoff) == ((1000, False) if d.exempt else (100, True))
        assert d.predicted_limit == 100
        assert d.probability == 0.3


def test_inactive_cutoff_exempts_everything():
    (with_length, without) = make_cutoff().decide(0, [1, 2], [foretold(50.0), foretold(None)], active=False)
    assert (with_length.limit, with_length.exempt, with_length.probability) == (1000, True, 1.0)
    assert (without.exempt, without.predicted_limit) == (False, None)


def test_quality_by_hand():
    # Limit 100. First problem: correct 80, correct 120, wrong 300, wrong 90. Second: correct 100 (not cut: it ends at
    # the limit), wrong 150. False cuts 1 of 3; would be cut 120, 300, 150, two of them wrong: 2/3; wrong ones that
    # would be cut 2 of 3. Tokens beyond 20 + 200 + 50 = 270, at exempt share 1/4: saved 270 x 3.
    cutoff = make_cutoff(exempt=0.25)
    decisions = [d for d in cutoff.decide(0, range(100), [foretold(50.0)] * 100) if d.exempt][:2]
    outcomes = [
        Outcome(("t",) * 4, (80, 120, 300, 90), (True, True, False, False)),
        Outcome(("t",) * 2, (100, 150), (True, False)),
    ]
    cutoff.observe(decisions, outcomes)
    report = cutoff.report()
    assert (report.problems, report.correct, report.would_cut, report.incorrect) == (2, 3, 3, 3)
    assert report.false_cut_rate == pytest.approx(1 / 3)
    assert report.precision == pytest.approx(2 / 3)
    assert report.recall == pytest.approx(2 / 3)
    assert report.f1 == pytest.approx(2 / 3)
    assert report.base_rate == pytest.approx(1 / 2)
    assert report.tokens_saved == pytest.approx(810)
    assert cutoff.tokens_saved == pytest.approx(810)
    assert cutoff.tokens_saved_error == pytest.approx(math.sqrt(12 * (220**2 + 50**2)))
    assert report.false_cut_interval.low < 1 / 3 < report.false_cut_interval.high


def test_only_exempt_problems_are_measured():
    cutoff = make_cutoff()
    decisions = cutoff.decide(0, [1, 2, 3], [foretold(50.0), foretold(None), foretold(50.0)])
    outcome = Outcome(("a", "b"), (100, 40), (False, True), (CUT, STOP))
    cutoff.observe(decisions, [outcome, Outcome(("a",), (900,), (True,), (STOP,)), None])
    report = cutoff.report()
    assert (report.problems, report.false_cut_rate, report.precision, report.recall) == (0, None, None, None)
    metrics = cutoff.metrics()
    assert metrics["cutoff/share"] == pytest.approx(1 / 3)  # rollouts cut
    assert metrics["cutoff/limited_share"] == 0.5  # problems with a limit, among those rolled out
    assert "cutoff/precision" not in metrics
    assert all(math.isfinite(value) for value in metrics.values())


def test_parallel_phase_costs_nothing_and_measures():
    cutoff = make_cutoff()
    cutoff.observe(
        cutoff.decide(0, [1], [foretold(50.0)], active=False), [Outcome(("a", "b"), (150, 90), (True, True))]
    )
    assert cutoff.report().false_cut_rate == 0.5
    assert cutoff.tokens_saved == 0.0


def test_window_and_restart():
    cutoff = make_cutoff(window=2)
    for step, length in enumerate([150, 150, 50, 50]):
        cutoff.observe(cutoff.decide(step, [0], [foretold(50.0)], active=False), [Outcome(("t",), (length,), (True,))])
    assert cutoff.report().false_cut_rate == 0.0
    again = make_cutoff(window=2)
    again.load_state_dict(json.loads(json.dumps(cutoff.state_dict())))
    assert again.metrics() == cutoff.metrics()
    assert again.state_dict() == cutoff.state_dict()


def test_a_step_without_rollouts():
    cutoff = make_cutoff()
    cutoff.observe(cutoff.decide(0, [1], [foretold(5.0)]), [None])
    assert "cutoff/share" not in cutoff.metrics()


@pytest.mark.parametrize(
    "options",
    [{"factor": 0.0}, {"factor": math.inf}, {"minimum": 0}, {"minimum": 2000}, {"exempt": -0.1}, {"window": 0}],
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="cutoff setting"):
        make_cutoff(**options)
