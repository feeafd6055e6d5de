import random
import re

from masa.awareness import MetaScorer, own_notions, parse_prediction, warm_start_target
from masa.records import FinishReason, Outcome
from masa.tiny.predictions import prediction

PROBLEM = "What is 27 plus 38?"
MIXED = Outcome(
    texts=("We carry the digit, then add.", "Add with a carry", "add quickly", "I guess, add nothing"),
    lengths=(20, 31, 9, 8),
    correct=(True, True, False, False),
)


def target(text, outcome=MIXED, **options):
    return warm_start_target(text, outcome, PROBLEM, **{"min_length": 8, "max_length": 100, **options})


def test_own_reasoning_with_true_numbers():
    # C = {20, 31}: mean 25.5, rounded up; p = 1/2
    made = target("<meta>Hmm, sums.</meta> {bad json")
    assert made == (
        '<meta>Hmm, sums.</meta> {"math_notion": ["carry", "digit"], "pass_rate": 4, "solution_length": 26}'
    )


def test_short_template_where_the_tag_is_missing():
    made = target("whatever")
    assert made.startswith("<meta>")
    assert "4 of 8" in made
    assert "26 tokens" in made
    assert made.count("</meta>") == 1
    assert made.endswith('{"math_notion": ["carry", "digit"], "pass_rate": 4, "solution_length": 26}')


def test_the_target_is_laid_out_as_the_bundled_model_was_taught():
    for seed in range(20):
        taught = prediction("27 + 38", "chain_sum", 100, random.Random(seed))
        made = target(taught)
        assert laid_out(made) == laid_out(taught)
        assert made.partition("</meta>")[0] == taught.partition("</meta>")[0]
        assert parse_prediction(made, max_length=100, min_length=8).is_valid
    assert laid_out(target("no tag")) == laid_out(taught)


def laid_out(text):
    """What is left of a target's object, from the tag on, without its values."""
    _, tag, answer = text.partition("</meta>")
    return tag + re.sub(r"\[.*\]|\d+", "_", answer)


def test_target_parses_and_scores():
    prediction = parse_prediction(target("x"), max_length=100, min_length=8)
    reward = MetaScorer(MIXED, PROBLEM).score(prediction)
    assert (reward.difficulty, reward.length, reward.notion) == (1.0, 1.0, 1.0)


def test_notions_are_far_commoner_in_correct_rollouts():
    # "add" is in all rollouts; "carry" in both correct ones, "digit" in one; stop words and "plus" are out.
    assert own_notions(MIXED, PROBLEM) == ("carry", "digit")
    assert own_notions(MIXED, PROBLEM, limit=1) == ("carry",)
    assert own_notions(MIXED, "Carrying on") == ("digit",)


def test_where_all_are_correct_the_frequent_content_words():
    outcome = Outcome(("add, add, carry", "adding the digits", "add 3 to 4 by x"), (5, 6, 7), (True, True, True))
    assert own_notions(outcome, "q")[:2] == ("add", "carry")


def test_where_nothing_tells_them_apart_the_frequent_words():
    outcome = Outcome(("add", "add"), (5, 6), (True, False))
    assert own_notions(outcome, "q") == ("add",)


def test_unsolved():
    outcome = Outcome(("guess it", "guess"), (40, 51), (False, False))
    assert target("</meta>", outcome) == '</meta>{"math_notion": ["guess"], "pass_rate": 0, "solution_length": 46}'


def test_only_truncated_correct_rollouts():
    outcome = Outcome(("a", "b"), (90, 10), (True, False), (FinishReason.LENGTH, FinishReason.STOP))
    assert target("</meta>", outcome).endswith('{"math_notion": [], "pass_rate": 4, "solution_length": 90}')


def test_clamped_and_own_key():
    assert target("</meta>", max_length=22, notion_key="logic_notion").endswith(
        '{"logic_notion": ["carry", "digit"], "pass_rate": 4, "solution_length": 22}'
    )
