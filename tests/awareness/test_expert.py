"""Expert trajectories. Names with "reference" guard against faults of the paper's released targets."""

import json

import pytest

from masa.awareness import (
    ExpertBuffer,
    ExpertOptions,
    ExpertTrajectory,
    MetaReward,
    MetaScorer,
    format_prediction,
    make_expert,
    parse_prediction,
)
from masa.records import FinishReason, Outcome, Prediction, Problem

PROBLEM = Problem(key=11, text="Compute 3 + 4.", answer="7")
OPTIONS = ExpertOptions(min_length=8, max_length=200)
# p = 3/8, C = {20, 30, 41}: mean 30.33
OUTCOME = Outcome(
    texts=("carry it", "carry", "carry") + ("guess",) * 5,
    lengths=(20, 30, 41, 5, 5, 5, 5, 5),
    correct=(True,) * 3 + (False,) * 5,
)


def meta_text(notions, steps, length, reasoning="I wonder.", between="\n"):
    return f"<meta>{reasoning}</meta>{between}{format_prediction(notions, steps, length)}"


def expert(texts, outcome=OUTCOME, options=OPTIONS, step=2, run_seed=0):
    predictions = [parse_prediction(text, max_length=200, min_length=8) for text in texts]
    scorer = MetaScorer(outcome, PROBLEM.text)
    rewards = [scorer.score(prediction) for prediction in predictions]
    return make_expert(
        PROBLEM, texts, predictions, rewards, outcome, options, run_seed=run_seed, step=step, prompt_ids=[5, 6]
    )


def test_the_best_notions_with_the_true_numbers():
    made = expert([meta_text(["guess", "carry"], 8, 100), meta_text(["carry"], 8, 100), "no answer"])
    assert made == ExpertTrajectory(
        key=11,
        step=2,
        text='<meta>I wonder.</meta>\n{"math_notion": ["carry"], "pass_rate": 3, "solution_length": 30}',
        prompt_ids=(5, 6),
    )


def test_reference_the_target_is_valid_json_that_scores_full():
    # The reference writes a Python dict with the fraction p and a length too short by the factor p, which its own
    # parser rejects.
    made = expert([meta_text(["carry", 'a "quoted" {\\frac}'], 8, 100)])
    prediction = parse_prediction(made.text, max_length=200, min_length=8)
    reward = MetaScorer(OUTCOME, PROBLEM.text).score(prediction)
    assert (reward.difficulty, reward.length) == (1.0, 1.0)
    assert prediction.notions == ("carry", 'a "quoted" {\\frac}')
    assert json.loads(made.text.partition("</meta>")[2])["pass_rate"] == 3


@pytest.mark.parametrize(
    ("correct", "steps"), [((True,) + (False,) * 15, 1), ((True,) * 3 + (False,) * 13, 2), ((True,) * 3, 8)]
)
def test_eight_p_is_rounded_half_up(correct, steps):
    # 8/16 = 0.5 -> 1 (to even would be 0); 24/16 = 1.5 -> 2; 8 -> 8
    outcome = Outcome(("carry",) * len(correct), (20,) * len(correct), correct)
    outcome = Outcome(tuple("carry" if c else "x" for c in correct), outcome.lengths, correct)
    assert f'"pass_rate": {steps},' in expert([meta_text(["carry"], 8, 100)], outcome).text


def test_length_is_rounded_half_up_and_clamped():
    def length(*lengths):
        n = len(lengths)
        outcome = Outcome(("carry",) * n, lengths, (True,) * n)
        return json.loads(expert([meta_text(["carry"], 8, 100)], outcome).text.partition("</meta>")[2])[
            "solution_length"
        ]

    assert length(20, 21) == 21
    assert length(22, 23) == 23
    assert length(2, 3) == 8
    assert length(500) == 200


def test_below_the_threshold_none():
    assert expert([meta_text(["guess", "a", "b", "c", "d", "carry"], 3, 30)]) is None  # 1/6 < 0.2
    assert expert([meta_text(["guess", "a", "b", "c", "carry"], 3, 30)]) is not None  # 1/5
    assert expert(["nothing", meta_text([], 3, 30)]) is None


def test_layouts_between_tag_and_object():
    ending = '{"math_notion": ["carry"], "pass_rate": 3, "solution_length": 30}'
    assert expert([meta_text(["carry"], 8, 100, between="")]).text == "<meta>I wonder.</meta>" + ending
    assert expert([meta_text(["carry"], 8, 100, between=" ")]).text == "<meta>I wonder.</meta> " + ending
    fenced = meta_text(["carry"], 8, 100, between="\n```json\n") + "\n```"
    assert expert([fenced]).text == "<meta>I wonder.</meta>\n" + ending
    untagged = "So: " + format_prediction(["carry"], 8, 100) + " done"
    assert expert([untagged]).text == "So: " + ending


def test_ties_go_by_derived_seed():
    texts = [meta_text(["carry"], 8, 100, reasoning=str(i)) for i in range(4)]
    assert expert(texts, step=1) == expert(texts, step=1)
    assert len({expert(texts, step=step).text for step in range(30)}) > 1  # false alarm: 4 ** -29


def test_unsolved_problems_are_an_option():
    unsolved = Outcome(("a", "b"), (50, 60), (False, False))
    texts = [meta_text(["x"], 6, 90), meta_text(["y"], 1, 120), '</meta>{"pass_rate": 0}']
    assert expert(texts, unsolved) is None
    made = expert(texts, unsolved, ExpertOptions(8, 200, include_unsolved=True))
    assert made.text.endswith('{"math_notion": ["y"], "pass_rate": 0, "solution_length": 120}')


def test_no_trajectory_when_every_correct_rollout_was_truncated():
    outcome = Outcome(("carry", "x"), (200, 50), (True, False), (FinishReason.LENGTH, FinishReason.STOP))
    assert expert([meta_text(["carry"], 4, 100)], outcome) is None


def test_consistent_takes_only_predictions_near_the_truth():
    # p = 3/8: steps 2..4 are near; mean length 30.33: 22.75 to 37.92 are near.
    options = ExpertOptions(8, 200, consistent=True)
    assert expert([meta_text(["carry"], 5, 30)], options=options) is None
    assert expert([meta_text(["carry"], 4, 38)], options=options) is None
    assert expert([meta_text(["carry"], 4, 37)], options=options) is not None
    far_best = [meta_text(["carry"], 8, 100), meta_text(["carry", "guess"], 2, 23)]
    made = expert(far_best, options=options)
    assert '["carry", "guess"]' in made.text


def test_own_notion_key():
    text = '</meta>{"logic_notion": ["carry"], "pass_rate": 8, "solution_length": 100}'
    made = expert([text], options=ExpertOptions(8, 200, notion_key="logic_notion"))
    assert made.text == '</meta>{"logic_notion": ["carry"], "pass_rate": 3, "solution_length": 30}'


def test_groups_must_match():
    with pytest.raises(ValueError, match="zip"):
        make_expert(PROBLEM, ["a"], [Prediction()], [MetaReward(0, 0, 0)] * 2, OUTCOME, OPTIONS, run_seed=0, step=0)


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="min_length"):
        ExpertOptions(min_length=9, max_length=8)
    with pytest.raises(ValueError, match="threshold"):
        ExpertOptions(8, 9, threshold=1.2)


def test_buffer_is_emptied_without_leftovers():
    buffer = ExpertBuffer(capacity=3)
    made = [ExpertTrajectory(key, 0, f"t{key}", (1,)) for key in range(4)]
    buffer.add(None)
    for trajectory in made[:2]:
        buffer.add(trajectory)
    assert not buffer.ready
    for trajectory in made[2:]:
        buffer.add(trajectory)
    assert buffer.ready
    assert buffer.metrics() == {"expert/buffer": 4.0}
    assert buffer.drain() == made
    assert len(buffer) == 0
    assert not buffer.ready
    with pytest.raises(ValueError, match="capacity"):
        ExpertBuffer(0)


def test_buffer_survives_a_restart():
    buffer = ExpertBuffer()
    buffer.add(ExpertTrajectory(3, 7, "é {", (4, 5)))
    again = ExpertBuffer()
    again.load_state_dict(json.loads(json.dumps(buffer.state_dict())))
    assert again.drain() == buffer.drain()
