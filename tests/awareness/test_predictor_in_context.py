import json

import pytest
from predictor_worlds import observation, problem, said

from masa.awareness import Evidence, InContextPredictor, SelfPredictor

SUM = "Add up the numbers 12, 7 and 30, and give the total."


def test_estimates_are_those_of_self():
    predictor = InContextPredictor()
    predictor.observe(0, [observation(0, 8)])
    evidence = Evidence(problem(0), said(0.5, 0.75, None, length=20))
    assert predictor.estimate(evidence) == SelfPredictor().estimate(evidence)
    assert predictor.uses_predictions
    assert predictor.wants_predictions(problem(0))


def test_its_own_attempts_are_told():
    predictor = InContextPredictor()
    assert predictor.context(problem(0)) == ""
    predictor.observe(3, [observation(0, 3, length=57)])
    assert predictor.context(problem(0)) == "Earlier attempts: 3 of 8 right, 57 tokens on average."
    predictor.observe(4, [observation(0, 0)])
    assert predictor.context(problem(0)) == "Earlier attempts: 3 of 8, then 0 of 8 right, 57 tokens on average."


def test_only_the_last_three_and_their_correct_lengths():
    # Tokens a right attempt: (1 * 30 + 3 * 50) / 4 = 45; the group that left no longer counts.
    predictor = InContextPredictor()
    for step, (right, length) in enumerate([(8, 999), (1, 30), (0, 10**9), (3, 50)]):
        predictor.observe(step, [observation(0, right, length=length)])
    assert predictor.context(problem(0)) == (
        "Earlier attempts: 1 of 8, then 0 of 8, then 3 of 8 right, 45 tokens on average."
    )


def test_without_a_right_attempt_no_length_is_told():
    predictor = InContextPredictor()
    predictor.observe(0, [observation(0, 0)])
    assert predictor.context(problem(0)) == "Earlier attempts: 0 of 8 right."


def test_the_nearest_neighbour_speaks_for_a_new_problem():
    predictor = InContextPredictor()
    predictor.observe(0, [observation(0, 2, text=SUM), observation(1, 7, text="Who wrote the third letter to Anna?")])
    similar = problem(5, "Add up the numbers 14, 9 and 31, and give the total.")
    assert predictor.context(similar) == "Attempts at a similar problem: 2 of 8 right, 50 tokens on average."
    assert predictor.context(problem(6, "ζ(2)?")) == ""
    assert InContextPredictor(similarity=1.0).context(similar) == ""


def test_case_and_spacing_do_not_matter():
    predictor = InContextPredictor(similarity=0.999)
    predictor.observe(0, [observation(0, 2, text=SUM)])
    assert predictor.context(problem(9, SUM.upper().replace(" ", " \n "))).startswith(
        "Attempts at a similar problem: 2"
    )


def test_a_key_of_another_data_set_is_not_taken_for_its_own():
    predictor = InContextPredictor()
    predictor.observe(0, [observation(0, 2, text=SUM)])
    assert predictor.context(problem(0, "Who wrote the third letter to Anna?")) == ""


@pytest.mark.parametrize("text", ["", "a", "\ud800", "line one\nline two", "😀" * 10_000])
def test_any_text_is_safe_and_gives_one_line(text):
    predictor = InContextPredictor(similarity=0.0)
    predictor.observe(0, [observation(0, 2, text=SUM), observation(1, 3, text=text or " ")])
    assert "\n" not in predictor.context(problem(7, text))
    assert predictor.context(problem(7, text)).startswith("Attempts at a similar problem: ")


def test_those_rolled_out_longest_ago_leave_first():
    predictor = InContextPredictor(capacity=2)
    texts = {k: c * 9 for k, c in enumerate("abc")}
    for step, key in enumerate([0, 1, 0, 2]):
        predictor.observe(step, [observation(key, key + 1, text=texts[key])])
    told = [predictor.context(problem(k, texts[k])) for k in range(3)]
    assert told[0].startswith("Earlier attempts: 1 of 8, then 1 of 8 right")
    assert told[1] == ""  # its vector left with it
    assert told[2].startswith("Earlier attempts: 3 of 8 right")
    assert predictor.metrics() == {"predictor/known_problems": 2.0}


def test_state_comes_back_exactly():
    first, second = InContextPredictor(capacity=5), InContextPredictor(capacity=5)
    for step in range(12):
        first.observe(step, [observation(step % 7, step % 9, length=40 + step, text=f"{'xyz'[step % 3]} {step % 7} q")])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for predictor in (first, second):
        predictor.observe(12, [observation(3, 8, text="y 3 q"), observation(20, 0, text="quite another one")])
    problems = [problem(k, f"{'xyz'[k % 3]} {k} q") for k in range(25)]
    assert [first.context(p) for p in problems] == [second.context(p) for p in problems]
    assert any(first.context(p) for p in problems)
    assert first.state_dict() == second.state_dict()


@pytest.mark.parametrize(
    ("setting", "rule"), [({"similarity": 1.1}, "lie between"), ({"capacity": 0}, "be at least 1")]
)
def test_bad_settings(setting, rule):
    with pytest.raises(ValueError, match=f"in-context predictor setting {next(iter(setting))} must {rule}"):
        InContextPredictor(**setting)
