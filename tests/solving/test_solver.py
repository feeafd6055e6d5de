"""The whole story on scripted policies: what is drawn, when it stops, and that no budget is exceeded."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from scripted import MAX_META_TOKENS, MAX_TOKENS, ScriptedEngine, foretelling, foretold, problems, solve

from masa.awareness import LengthCalibration
from masa.awareness.cutoff import Cutoff
from masa.errors import UserError
from masa.records import FinishReason
from masa.solving import STRATEGIES, AdaptiveConsistency, Foretelling, StopReason, Strategy, Vote, make_strategy

sys.path.insert(0, str(Path(__file__).parents[1] / "hostile"))
from hostile_texts import HOSTILE

RULE = AdaptiveConsistency()


def says(*answers: int | None) -> ScriptedEngine:
    """The same answers to every question, place by place; None states none."""
    return ScriptedEngine(lambda _, place: "no" if answers[place] is None else f"Answer: {answers[place]}")


def test_majority_voting_is_one_call_for_all_questions() -> None:
    engine = says(3, 5, 5, None, 3, 5)
    found = solve(engine, Strategy(6), problems(2))
    assert len(engine.calls) == 1
    assert [one.key for one in found] == [0, 1]
    assert found[0].answer == "5"
    assert found[0].votes == (Vote("5", 3), Vote("3", 2))
    assert found[0].text == "Answer: 5"
    assert (found[0].samples, found[0].cut, found[0].share) == (6, 0, 0.5)
    assert found[0].confidence == pytest.approx(42 / 64)  # Beta(4, 3): P(Binomial(6, 1/2) <= 3)
    assert found[0].stopped is StopReason.SAMPLES
    assert (found[0].solution_tokens, found[0].meta_tokens) == (5 * 9 + 2, 0)
    assert found[0].tokens == 47
    assert found[0].foretold is None


def test_a_settled_vote_stops_and_the_others_go_on() -> None:
    engine = ScriptedEngine(lambda key, place: f"Answer: {0 if key == 0 else place % 2}")
    agreed, split = solve(engine, Strategy(8, RULE), problems(2))
    assert (agreed.samples, agreed.stopped) == (4, StopReason.SETTLED)
    assert agreed.confidence == pytest.approx(31 / 32)
    assert (split.samples, split.stopped) == (8, StopReason.SAMPLES)
    assert split.answer == "0"  # of equally many the first given
    assert len(engine.calls[0]) == 8  # four of each, in one call
    assert all("question 1" in "".join(map(chr, request.prompt_ids)) for call in engine.calls[1:] for request in call)


def test_what_cannot_change_the_answer_is_not_drawn() -> None:
    (found,) = solve(says(*[1] * 6), Strategy(5, AdaptiveConsistency(0.99)), problems(1))
    assert (found.samples, found.stopped) == (3, StopReason.DECIDED)


def test_a_prediction_gives_limit_number_and_prior() -> None:
    engine = ScriptedEngine(lambda *_: "Answer: 7", lambda *_: foretold(8, 12))
    (found,) = solve(engine, Strategy(16, RULE, foretelling()), problems(1))
    assert (found.samples, found.stopped) == (2, StopReason.SETTLED)  # four without the prediction
    assert found.foretold is not None
    assert (found.foretold.pass_rate, found.foretold.deviation, found.foretold.length) == (1.0, 0.0, 12.0)
    assert (found.foretold.limit, found.foretold.notions) == (24, ("sum",))
    assert (found.foretold.predictions, found.foretold.valid) == (2, 2)
    assert 1 < found.foretold.samples < 16
    metas, *rest = engine.calls
    assert [request.max_tokens for request in metas] == [MAX_META_TOKENS] * 2
    assert all(request.max_tokens == 24 and request.is_cutoff for call in rest for request in call)
    assert all(request.expected_tokens == 12 for call in rest for request in call)
    assert found.meta_tokens == 2 * len(foretold(8, 12))


def test_prediction_alone_draws_the_foretold_number_at_once() -> None:
    eighths = {0: 8, 1: 4, 2: 0}
    engine = ScriptedEngine(lambda *_: "Answer: 7", lambda key, _: foretold(eighths[key], 20))
    found = solve(engine, Strategy(16, None, foretelling()), problems(3))
    assert len(engine.calls) == 2
    sure, unsure, hopeless = (one.samples for one in found)
    assert hopeless <= sure < unsure <= 16
    assert all(one.foretold is not None and one.samples == one.foretold.samples for one in found)
    assert {one.stopped for one in found} == {StopReason.FORETOLD}
    # They agree on their answer, and yet it is as likely right as the policy says it is.
    likely_sure, likely_unsure, likely_hopeless = (one.likely_right for one in found)
    assert likely_sure > 0.95
    assert 0.5 < likely_unsure < 1
    assert likely_hopeless < 0.1


def test_without_a_valid_prediction_it_is_as_if_none_was_asked() -> None:
    answers = lambda _, place: f"Answer: {place % 3}"  # noqa: E731
    blind = ScriptedEngine(answers, lambda *_: "I shall do well.")
    for stopping in (None, RULE):
        (found,) = solve(blind, Strategy(8, stopping, foretelling()), problems(1))
        (plain,) = solve(ScriptedEngine(answers), Strategy(8, stopping), problems(1))
        assert found.foretold is not None
        assert (found.foretold.pass_rate, found.foretold.limit, found.foretold.samples) == (None, None, 8)
        assert (found.votes, found.confidence, found.samples) == (plain.votes, plain.confidence, plain.samples)


def test_a_prediction_that_misled_is_given_up() -> None:
    # The answer takes 40 tokens, 5 are foretold: nothing is stated until the limit gives way.
    engine = ScriptedEngine(lambda *_: "x" * 30 + "\nAnswer: 7", lambda *_: foretold(8, 5))
    (found,) = solve(engine, Strategy(16, RULE, foretelling()), problems(1))
    assert found.answer == "7"
    assert found.cut >= 1
    assert engine.calls[1][0].max_tokens == 10
    assert engine.calls[-1][-1].max_tokens == MAX_TOKENS
    # No answer at all: everything is tried, and there is none.
    silent = ScriptedEngine(lambda *_: "hm", lambda *_: foretold(8, 5))
    for stopping in (None, RULE):
        (found,) = solve(silent, Strategy(6, stopping, foretelling()), problems(1))
        assert (found.answer, found.text, found.confidence, found.samples) == (None, "hm", 0.0, 6)
        assert found.stopped is StopReason.SAMPLES


def test_a_calibrated_limit() -> None:
    calibration = LengthCalibration()
    calibration.observe(10.0, [15] * 60)
    cutoff = Cutoff(0, rule="quantile", minimum=2, maximum=MAX_TOKENS, calibration=calibration)
    engine = ScriptedEngine(lambda *_: "Answer: 7", lambda *_: foretold(6, 20))
    (found,) = solve(engine, Strategy(4, None, Foretelling(2, cutoff=cutoff)), problems(1))
    assert found.foretold is not None
    assert found.foretold.limit == 30


def test_hints_name_notions_and_are_left_out_where_they_do_not_fit() -> None:
    def prompts(positions: int | None) -> set[str]:
        engine = ScriptedEngine(lambda *_: "Answer: 7", lambda *_: foretold(6, 20))
        solve(engine, Strategy(4, None, foretelling(hints=True)), problems(1), positions=positions)
        return {"".join(map(chr, request.prompt_ids)) for request in engine.calls[1]}

    assert prompts(None) == {"question 0\n\nThese notions may be of use here: sum."}
    assert prompts(MAX_TOKENS + 20) == {"question 0"}


@pytest.mark.parametrize("name", STRATEGIES)
def test_samples_do_not_depend_on_rounds_or_on_other_questions(name: str) -> None:
    draws = lambda key, place: f"Answer: {random.Random(f'{key}/{place}').randrange(3)}"  # noqa: E731

    def engine() -> ScriptedEngine:
        return ScriptedEngine(draws, lambda key, place: foretold((key + place) % 9, 30))

    strategy = make_strategy(name, samples=8, foretelling=foretelling)
    together = solve(engine(), strategy, problems(6))
    assert together == solve(engine(), strategy, problems(6))
    assert together == [solve(engine(), strategy, [problem])[0] for problem in problems(6)]
    first, second = engine(), engine()
    solve(first, strategy, problems(6))
    solve(second, Strategy(8), problems(6))
    asked = [request.seed for request in first.requests if chr(request.prompt_ids[0]) != "F"]
    assert len(set(asked)) == len(asked) == sum(one.samples for one in together)
    assert set(asked) <= {request.seed for request in second.requests}  # those of plain voting


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_budget_is_exceeded_and_little_is_left(name: str) -> None:
    draws = random.Random(name)
    for case in range(60):
        lengths = random.Random(case)
        engine = ScriptedEngine(
            lambda *_, lengths=lengths: f"{'x' * lengths.randrange(130)}\nAnswer: {lengths.randrange(3)}",
            lambda *_, lengths=lengths: foretold(lengths.randrange(10), lengths.choice([20, 60, 500])),
        )
        budget = draws.randrange(1, 6000)
        strategy = make_strategy(name, samples=8, foretelling=foretelling)
        found = solve(engine, strategy, problems(5), budget=budget)
        spent = sum(one.tokens for one in found)
        assert spent <= budget
        assert sum(request.max_tokens for request in engine.calls[0]) <= max(budget, 1)
        if any(one.stopped is StopReason.BUDGET for one in found):
            assert spent == budget  # the last sample is cut rather than left out
        if name in ("uniform", "adaptive"):
            assert all(one.meta_tokens == 0 for one in found)
        else:
            assert sum(one.meta_tokens for one in found) <= budget / 2


def test_a_budget_too_small_for_predictions_makes_none() -> None:
    engine = ScriptedEngine(lambda *_: "Answer: 7", lambda *_: foretold(8, 12))
    (alone,) = solve(engine, Strategy(4, RULE, foretelling()), problems(1), budget=2 * MAX_META_TOKENS - 1)
    assert alone.foretold is None
    assert alone.answer == "7"
    # All that is left is spent as it would have been without a part that foretells.
    engine = ScriptedEngine(lambda _, place: f"{'x' * 60}\nAnswer: {place % 2}", lambda *_: foretold(8, 12))
    for stopping in (None, RULE):
        found = solve(engine, Strategy(8, stopping, foretelling()), problems(4), budget=600)
        assert found == solve(engine, Strategy(8, stopping), problems(4), budget=600)


def test_what_predictions_leave_of_their_share_pays_for_more_of_them() -> None:
    engine = ScriptedEngine(lambda *_: "Answer: 7", lambda *_: foretold(8, 12))
    said = len(foretold(8, 12))
    budget = 2 * (MAX_META_TOKENS + said)
    (found,) = solve(engine, Strategy(2, RULE, foretelling(predictions=4)), problems(1), budget=budget)
    assert found.foretold is not None
    assert found.foretold.predictions == 2
    assert [len(call) for call in engine.calls[:2]] == [1, 1]
    assert len({request.seed for call in engine.calls[:2] for request in call}) == 2


def test_a_budget_is_spent_on_the_worthy_first_and_then_on_open_votes() -> None:
    eighths = {0: 0, 1: 4}
    engine = ScriptedEngine(lambda _, place: f"{'x' * 25}\nAnswer: {place}", lambda key, _: foretold(eighths[key], 20))
    free = solve(engine, Strategy(12, RULE, foretelling()), problems(2))
    assert free[0].samples < free[1].samples
    rich = solve(engine, Strategy(12, RULE, foretelling()), problems(2), budget=100_000)
    assert [one.samples for one in rich] == [12, 12]
    poor = solve(engine, Strategy(12, RULE, foretelling()), problems(2), budget=500)
    assert poor[0].samples < poor[1].samples


def test_an_engine_that_breaks_its_limits_is_found_out() -> None:
    class Greedy(ScriptedEngine):
        def _rollout(self, request):  # type: ignore[no-untyped-def]
            rollout = super()._rollout(request)
            return type(rollout)(rollout.token_ids * 50, FinishReason.STOP)

    with pytest.raises(ValueError, match="an engine broke its limits"):
        solve(Greedy(lambda *_: "Answer: 7"), Strategy(4), problems(1), budget=120)


@pytest.mark.parametrize("kind", ["math", "choice", "literal", "reasoning_gym"])
def test_hostile_texts_as_answers_and_predictions(kind: str) -> None:
    texts = [text for text in HOSTILE.values() if len(text) < 20_000]
    engine = ScriptedEngine(
        lambda key, place: texts[(key + place) % len(texts)], lambda key, place: texts[-key - place]
    )
    found = solve(engine, Strategy(4, RULE, foretelling()), problems(len(texts), kind))
    assert len(found) == len(texts)
    assert all(0 <= one.confidence <= 1 and 1 <= one.samples <= 4 for one in found)


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    engine = ScriptedEngine(lambda key, place: f"Answer: {0 if key == 0 else place % 2}")
    found = solve(engine, Strategy(8, RULE), problems(2), tell=lambda *said: told.append(said))
    assert len(told) == len(engine.calls)
    assert sum(tokens for _, tokens in told) == sum(one.tokens for one in found)
    assert told[0][0] == 0


def test_mistakes() -> None:
    engine = says(1)
    assert solve(engine, Strategy(1, None, foretelling()), []) == []
    with pytest.raises(ValueError, match="distinct keys"):
        solve(engine, Strategy(1), [*problems(1), *problems(1)])
    with pytest.raises(UserError, match="cannot be counted as votes"):
        solve(engine, Strategy(1), problems(1, "code"))
    with pytest.raises(ValueError, match="budget must be at least 1 token"):
        solve(engine, Strategy(1), problems(1), budget=0)
    with pytest.raises(ValueError, match="samples must be at least 1"):
        Strategy(0)
    with pytest.raises(ValueError, match="predictions must be at least 1"):
        Foretelling(0)
    with pytest.raises(ValueError, match="rival must lie between 0 and 1"):
        Foretelling(rival=1.5)
    with pytest.raises(ValueError, match="beta posterior alone"):
        Strategy(4, AdaptiveConsistency(posterior="dirichlet"), foretelling())
    with pytest.raises(UserError, match="unknown strategy 'adaptve': did you mean 'adaptive'"):
        make_strategy("adaptve")
