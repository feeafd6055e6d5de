import json

import pytest
from predictor_worlds import observation, problem

from masa.awareness import Evidence, HistoryPredictor


def estimate(predictor, key=0):
    return predictor.estimate(Evidence(problem(key)))


def test_without_history_it_abstains():
    result = estimate(HistoryPredictor())
    assert result.abstains
    assert result.exploration is None
    assert result.beta is None


def test_exploration_falls_with_each_consecutive_dead_group():
    predictor = HistoryPredictor(step=0)
    seen = []
    for step in range(6):
        predictor.observe(step, [observation(0, right=0)])
        seen.append(estimate(predictor).exploration)
    assert seen == [0.5, 0.25, 0.125, 0.0625, 0.05, 0.05]  # the floor stops 1/32 and 1/64


def test_variance_or_the_other_side_starts_anew():
    predictor = HistoryPredictor(easy=0.9, hard=0.4, step=0)
    for step, right in enumerate([0, 0]):
        predictor.observe(step, [observation(0, right)])
    assert estimate(predictor).exploration == pytest.approx(0.16)
    predictor.observe(2, [observation(0, 8)])
    assert estimate(predictor).exploration == pytest.approx(0.9)
    predictor.observe(3, [observation(0, 3)])
    assert estimate(predictor).exploration == 1.0
    assert not estimate(predictor).abstains


def test_belief_counts_the_groups_of_the_run():
    predictor = HistoryPredictor()
    predictor.observe(0, [observation(0, 5)])
    result = estimate(predictor)
    assert (result.pass_rate, result.belief.a, result.belief.b) == (5 / 8, 6, 4)
    # sqrt(6 * 4 / 11) / 10
    assert result.deviation == pytest.approx((24 / 11) ** 0.5 / 10)
    deviations = []
    for step in range(3):
        predictor.observe(1 + step, [observation(0, 8)])
        deviations.append(estimate(predictor).deviation)
    assert estimate(predictor).belief.a == 1 + 24
    assert deviations == sorted(deviations, reverse=True)  # longer runs are more certain: least certain pass first
    assert len(set(deviations)) == 3


def test_length_is_that_of_the_last_correct_rollouts():
    predictor = HistoryPredictor()
    predictor.observe(0, [observation(0, 0, length=70)])
    assert estimate(predictor).length is None
    predictor.observe(1, [observation(0, 2, length=40)])
    predictor.observe(2, [observation(0, 0, length=70)])
    assert estimate(predictor).length == 40


def test_base_probabilities_move_toward_their_targets():
    # Of ten groups two are all right (20 % >= 8.3 %: explore less) and one all wrong (10 % < 16.7 %: more).
    predictor = HistoryPredictor()
    batch = [observation(k, right) for k, right in enumerate([8, 8, 0, 1, 2, 3, 4, 5, 6, 7])]
    predictor.observe(0, batch)
    assert (predictor.easy, predictor.hard) == (0.5, 0.5)  # first visits teach nothing about skipping
    predictor.observe(1, [])
    predictor.observe(2, batch)
    assert predictor.easy == pytest.approx(0.49)
    assert predictor.hard == pytest.approx(0.51)
    for step in range(100):
        predictor.observe(3 + step, batch)
    assert (predictor.easy, predictor.hard) == (0.05, 0.95)


def test_state_comes_back_exactly():
    first, second = HistoryPredictor(), HistoryPredictor()
    for step in range(5):
        first.observe(step, [observation(k, (3 * k * step) % 9, length=40 + step) for k in range(6)])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for predictor in (first, second):
        predictor.observe(5, [observation(1, 8), observation(2, 0)])
    assert [estimate(first, k) for k in range(7)] == [estimate(second, k) for k in range(7)]
    assert first.metrics() == second.metrics()
    assert first.metrics()["predictor/known_problems"] == 6


@pytest.mark.parametrize(
    "setting",
    [{"easy": 1.0}, {"hard": 0.01}, {"floor": 0.0}, {"ceiling": 0.01}, {"step": -0.1}, {"easy_target": 2.0}],
)
def test_bad_settings(setting):
    with pytest.raises(ValueError, match=f"history predictor setting {next(iter(setting))} must lie between"):
        HistoryPredictor(**setting)
