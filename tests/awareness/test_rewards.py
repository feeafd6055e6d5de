"""Rewards, by hand. Names with "reference" guard against faults of the paper's released scorer."""

import math

import pytest

from masa.awareness import MetaReward, MetaScorer, RewardOptions, mean_reward, meta_reward
from masa.awareness.rewards import difficulty_reward, length_reward
from masa.records import FinishReason, Outcome, Prediction

STOP, LENGTH, CUTOFF = FinishReason.STOP, FinishReason.LENGTH, FinishReason.CUTOFF

# Four rollouts, three of them correct: p = 3/4, C = {100, 120, 160}.
OUTCOME = Outcome(
    texts=("carrying the sums", "carry, then add", "add by parity", "add and guess"),
    lengths=(100, 120, 160, 20),
    correct=(True, True, True, False),
)
PROBLEM = "What is the sum of 27 and 38?"


def notion(*notions, outcome=OUTCOME, problem=PROBLEM, **options):
    return meta_reward(Prediction(None, None, notions), outcome, problem, **options).notion


def test_difficulty_is_a_power_of_the_base():
    # 0.01 ** |3/4 - 5/8| = 10 ** (-2/8) = 0.5623
    assert difficulty_reward(5 / 8, 3 / 4) == pytest.approx(0.5623413, abs=1e-7)
    assert difficulty_reward(3 / 4, 3 / 4) == 1.0
    assert difficulty_reward(0.0, 1.0) == pytest.approx(0.01)
    # One step of the grid of sixteenths: an odd count of 16 caps the reward at 0.75.
    assert difficulty_reward(8 / 16, 9 / 16) == pytest.approx(0.7498942, abs=1e-7)
    assert difficulty_reward(None, 0.5) == 0.0


def test_brier_difficulty():
    assert difficulty_reward(0.25, 0.75, form="brier") == 0.75
    assert difficulty_reward(None, 0.75, form="brier") == 0.0


@pytest.mark.parametrize(
    ("predicted", "reward"), [(99, 0.0), (100, 1.0), (130, 1.0), (160, 1.0), (161, 0.0), (20, 0.0), (None, 0.0)]
)
def test_length_range_is_inclusive_and_of_correct_rollouts(predicted, reward):
    assert length_reward(predicted, OUTCOME.correct_lengths) == reward


def test_reference_one_correct_rollout_can_be_hit():
    # Strict bounds make this reward impossible.
    assert length_reward(77, (77,)) == 1.0
    assert length_reward(78, (77,)) == 0.0
    assert length_reward(77, ()) == 0.0


def test_log_ratio_length():
    # mean C = 380/3 = 126.67; exp(-|ln(63.33/126.67)|) = 1/2, and the same for the double
    assert length_reward(100, (50, 50), form="log-ratio") == pytest.approx(0.5)
    assert length_reward(25, (50, 50), form="log-ratio") == pytest.approx(0.5)
    assert length_reward(60, (40, 50), form="log-ratio") == pytest.approx(math.exp(-abs(math.log(60 / 45))))
    assert length_reward(60, (), form="log-ratio") == 0.0


def test_truncated_and_cut_rollouts_are_in_the_pass_rate_and_not_in_the_lengths():
    outcome = Outcome(("a", "b", "c", "d"), (10, 20, 500, 50), (True, False, True, True), (STOP, STOP, LENGTH, CUTOFF))
    reward = meta_reward(Prediction(0.75, 10, ()), outcome, "q")
    assert reward.difficulty == 1.0
    assert reward.length == 1.0
    assert meta_reward(Prediction(0.75, 20, ()), outcome, "q").length == 0.0


def test_notion_share_of_those_commoner_in_correct_rollouts():
    # carry: 2 correct, 0 incorrect, wins. add: 2 against 1, wins. guess: 0 against 1, loses. parity: 1 against 0, wins.
    assert notion("carry") == 1.0
    assert notion("adding", "guess") == 0.5
    assert notion("carrying", "guesses", "parity", "matrix") == 0.5
    assert notion() == 0.0
    assert meta_reward(Prediction(), OUTCOME, PROBLEM).notion == 0.0


def test_notion_counts_rollouts_not_occurrences_and_ties_lose():
    outcome = Outcome(("add add add", "add", "none"), (1, 1, 1), (True, False, False))
    assert notion("add", outcome=outcome) == 0.0


def test_notions_that_are_the_same_count_once():
    assert notion("carry", "Carrying", "carries", "guess") == 0.5


def test_notions_of_the_problem_stand_in_neither_numerator_nor_denominator():
    # "sums" is in the problem as "sum"; it would have won.
    assert notion("sums") == 0.0
    assert notion("sums", "carry") == 1.0
    assert notion("sums", "guess") == 0.0
    assert notion("sums", problem="no such word") == 1.0


def test_reference_substrings_are_no_words():
    outcome = Outcome(("considering all", "an integer"), (5, 5), (True, False))
    assert notion("ring", outcome=outcome) == 0.0
    assert notion("ring", outcome=outcome, matching="substring") == 1.0


def test_reference_analysis_is_found():
    outcome = Outcome(("by analysis", "by trial"), (5, 5), (True, False))
    assert notion("analysis", outcome=outcome) == 1.0


def test_reference_a_comma_as_a_notion_does_not_raise():
    assert notion(",", "carry") == 0.5  # it counts as a notion and is found nowhere


def test_counts_let_common_words_win_and_rates_do_not():
    # "add" is in 2 of 3 correct rollouts and in 1 of 1 incorrect one: 2 > 1, but 2/3 < 1.
    assert notion("add") == 1.0
    assert notion("add", notion="rates") == 0.0
    assert notion("carry", notion="rates") == 1.0


def test_rates_leave_out_stop_words_and_the_templates_words():
    outcome = Outcome(("the sum then carry", "guess"), (5, 5), (True, False))
    options = {"outcome": outcome, "problem": "q", "notion": "rates", "template_text": "Give the sums."}
    assert notion("the", "sum", "carry", **options) == 1.0
    assert notion("then", **options) == 0.0
    assert notion("the sum carry", "guess", **options) == 0.0  # one word of its own is enough to count


def test_rates_with_one_side_empty():
    everything = Outcome(("carry", "add"), (5, 5), (True, True))
    nothing = Outcome(("carry", "add"), (5, 5), (False, False))
    assert notion("carry", outcome=everything, notion="rates") == 1.0
    assert notion("carry", outcome=nothing, notion="rates") == 0.0


def test_weights_take_a_component_alone_or_none():
    assert MetaReward(0.5, 1.0, 0.0, weights=(1.0, 0.0, 0.0)).total == 0.5
    assert MetaReward(0.5, 1.0, 0.0, weights=(1.0, 3.0, 0.0)).total == pytest.approx(3.5 / 4)
    for weights in ((0.0, 0.0, 0.0), (1.0, -1.0, 1.0), (1.0, math.nan, 1.0)):
        with pytest.raises(ValueError, match="not all 0"):
            RewardOptions(weights=weights)


def test_total_is_always_over_three():
    # difficulty 0.01 ** 0.125 = 0.5623, length 1, notion 1/2: 2.0623 / 3
    reward = meta_reward(Prediction(5 / 8, 120, ("carry", "guess")), OUTCOME, PROBLEM)
    assert (reward.length, reward.notion) == (1.0, 0.5)
    assert reward.total == pytest.approx(0.6874471, abs=1e-7)
    assert meta_reward(Prediction(3 / 4, None, None), OUTCOME, PROBLEM).total == pytest.approx(1 / 3)
    assert meta_reward(Prediction(), OUTCOME, PROBLEM).total == 0.0


def test_unsolved_problem_gives_at_most_a_third():
    outcome = Outcome(("a carry", "b"), (5, 6), (False, False))
    reward = meta_reward(Prediction(0.0, 5, ("carry",)), outcome, "q")
    assert (reward.difficulty, reward.length, reward.notion) == (1.0, 0.0, 0.0)


def test_scorer_gives_what_the_one_shot_gives():
    scorer = MetaScorer(OUTCOME, PROBLEM, RewardOptions(notion="rates", length="log-ratio", difficulty="brier"))
    for prediction in (Prediction(0.5, 100, ("carry", "sum")), Prediction(1.0, 7, ("guess", "carry")), Prediction()):
        expected = meta_reward(prediction, OUTCOME, PROBLEM, notion="rates", length="log-ratio", difficulty="brier")
        assert scorer.score(prediction) == expected


def test_mean_reward():
    first, second = (meta_reward(Prediction(p, 120, ("carry",)), OUTCOME, PROBLEM) for p in (0.75, None))
    mean = mean_reward([first, second])
    assert (mean.difficulty, mean.length, mean.notion) == (0.5, 1.0, 1.0)
    assert mean_reward([]) is None


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="unknown length reward option 'ratio': use range or log-ratio"):
        RewardOptions(length="ratio")
    with pytest.raises(ValueError, match="base"):
        RewardOptions(base=1.0)
