"""Foretell, then spend: the whole story of answering questions by a policy that knows itself.

Predictions about all questions come first and give each its token limit and its number of samples. Then samples are
drawn in rounds, one call of the engine for all open questions, until each vote is settled or nothing is left to spend.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from masa.awareness.parsing import parse_prediction
from masa.awareness.predictors import Evidence
from masa.awareness.prompts import draw_hint
from masa.grading.equality import check_voted, stated_answers
from masa.records import Problem, Request, Rollout
from masa.rollout.engine import Decode, Engine
from masa.rollout.prompting import PromptBuilder
from masa.rollout.requests import RequestMaker
from masa.seeding import Purpose
from masa.solving.budget import Budget
from masa.solving.question import Question
from masa.solving.solution import Solution
from masa.solving.strategy import Foretelling, Strategy
from masa.solving.votes import count
from masa.solving.worth import RIVAL, plan_samples, vote_values

T = TypeVar("T")

Steps: TypeAlias = Generator[list[Request], Any, T]
"""Work between two calls of an engine: it gives requests, is sent their rollouts, and returns what came of them."""
Tell = Callable[[int, int], None]
"""Called after each round of samples with the questions that are newly done, and the tokens of the round."""


@dataclass(frozen=True, slots=True)
class Solver:
    """Answers questions with one policy.

    Seeds name the question's key and the sample's place alone, as an evaluation's do: a question gets the same samples
    whatever else is asked, in however many rounds they come, and those that `masa eval` draws under the same settings.
    """

    engine: Engine
    prompts: PromptBuilder
    requests: RequestMaker
    """The run's own limits, sampling and seed."""
    decode: Decode
    strategy: Strategy
    min_length: int = 1
    """Least length that the meta prompt allows, in tokens."""
    positions: int | None = None
    """Tokens of prompt and rollout together; None without a bound."""

    def solve(
        self,
        problems: Sequence[Problem],
        rows: Sequence[Mapping[str, Any]],
        *,
        budget: int | None = None,
        tell: Tell | None = None,
    ) -> list[Solution]:
        """One solution a problem, in order, by calls of the engine; see `steps`."""
        steps = self.steps(problems, rows, budget=budget, tell=tell)
        rollouts: list[Rollout] | None = None
        while True:
            try:
                requests = steps.send(rollouts)
            except StopIteration as end:
                found: list[Solution] = end.value
                return found
            rollouts = self.engine.generate(requests)

    def steps(
        self,
        problems: Sequence[Problem],
        rows: Sequence[Mapping[str, Any]],
        *,
        budget: int | None = None,
        tell: Tell | None = None,
    ) -> Steps[list[Solution]]:
        """One solution a problem, in order; whoever drives it calls the engine, for this work alone or for more.

        Args:
            problems: with keys that differ; their answers are not looked at.
            rows: their prompts, as `PromptBuilder` takes them.
            budget: tokens to generate for all of them together, predictions included; never exceeded. A rollout is
                asked for only if its whole limit is left; the last tokens pay for one sample with a shorter limit.
            tell: hears of progress.

        Raises:
            UserError: for a kind of problem whose answers cannot be voted on.
            ValueError: for keys that are not distinct, a budget below 1, or a prompt that exceeds the model.
        """
        if len({problem.key for problem in problems}) < len(problems):
            raise ValueError("problems need distinct keys: they name the samples' seeds")
        for problem in problems:
            check_voted(problem)
        purse = Budget(budget)
        most, whole = self.strategy.samples, self.requests.max_tokens
        questions = [
            Question(problem, row, most, whole, planned=most) for problem, row in zip(problems, rows, strict=True)
        ]
        if questions and self.strategy.foretelling is not None:
            yield from self._foretell(self.strategy.foretelling, questions, purse)
            if questions[0].predictions:
                self._plan(self.strategy.foretelling, questions, purse)
        done, spent = 0, 0
        while (yield from self._round(questions, purse)):
            now = sum(question.stopped is not None for question in questions)
            if tell is not None:
                tell(now - done, purse.spent - spent)
            done, spent = now, purse.spent
        rival = RIVAL if self.strategy.foretelling is None else self.strategy.foretelling.rival
        return [question.solution(self.strategy.stopping, rival) for question in questions]

    def _foretell(self, foretelling: Foretelling, questions: Sequence[Question], purse: Budget) -> Steps[None]:
        """Predictions and what follows from them.

        All questions get as many: those asked for, or as many as a share of the budget surely pays for. Most end long
        before their limit, so what a call leaves of the share may pay for a further one.
        """
        share = foretelling.budget_share * purse.left
        while (left := foretelling.predictions - len(questions[0].predictions)) > 0:
            if purse.is_bounded:
                left = min(left, int(share - purse.spent) // (len(questions) * self.requests.max_meta_tokens))
            if left < 1:
                break
            yield from self._ask(questions, left, purse)
        for question in questions if questions[0].predictions else ():
            estimate = foretelling.predictor.estimate(Evidence(question.problem, question.predictions))
            question.estimate = estimate
            question.belief = foretelling.belief(estimate)
            limit = None if foretelling.cutoff is None else foretelling.cutoff.limit(estimate)
            if limit is not None and limit < question.limit:
                question.limit = question.foretold_limit = limit

    def _ask(self, questions: Sequence[Question], each: int, purse: Budget) -> Steps[None]:
        """So many further predictions of each question, in one call."""
        requests = [
            request
            for question in questions
            for request in self.requests.metas(
                self.prompts.meta_ids(question.problem, question.row),
                each,
                *(0, question.problem.key),
                purpose=Purpose.EVALUATION_META,
                first=len(question.predictions),
            )
        ]
        rollouts: list[Rollout] = yield requests
        purse.spend(sum(rollout.length for rollout in rollouts))
        texts = self.decode(rollouts)
        for place, question in enumerate(questions):
            part = slice(place * each, (place + 1) * each)
            question.meta_tokens += sum(rollout.length for rollout in rollouts[part])
            question.predictions += tuple(
                parse_prediction(text, max_length=self.requests.max_tokens, min_length=self.min_length)
                for text in texts[part]
            )

    def _plan(self, foretelling: Foretelling, questions: Sequence[Question], purse: Budget) -> None:
        """How many samples each question is worth. Of what nothing is foretold, all are, where no budget says less.

        Where no length is foretold a sample is taken to cost what it costs elsewhere, or its limit if none is anywhere.
        """
        most = self.strategy.samples
        values = [vote_values(question.belief, most, foretelling.rival) for question in questions]
        known = [expected for question in questions if (expected := _expected(question)) is not None]
        elsewhere = statistics.fmean(known) if known else float(self.requests.max_tokens)
        costs = [_expected(question) or elsewhere for question in questions]
        sizes = plan_samples(values, costs, budget=purse.left, least_gain=foretelling.least_gain)
        for question, size in zip(questions, sizes, strict=True):
            is_known = question.estimate is not None and question.estimate.beta is not None
            question.planned = question.foretold_samples = size if is_known or purse.is_bounded else most

    def _round(self, questions: Sequence[Question], purse: Budget) -> Steps[bool]:
        """Samples for every open question in one call; False once there was nothing to draw."""
        stopping = self.strategy.stopping
        wanted: list[tuple[int, int]] = []  # place in the group, question
        for index, question in enumerate(questions):
            if question.stopped is None:
                # A budget that is left over is spent on votes that are still open.
                most = question.most if stopping is not None and purse.is_bounded else question.planned
                places = range(question.drawn, question.drawn + question.wants(stopping, most))
                wanted += [(place, index) for place in places]
        worth_it = [(place, index) for place, index in wanted if place < questions[index].planned]
        wanted = sorted(worth_it or wanted)
        drawn = dict.fromkeys((index for _, index in wanted), 0)
        limits = {index: questions[index].limit for index in drawn}
        fits = purse.affordable(limits[index] for _, index in wanted)
        for fit, (_, index) in zip(fits, wanted, strict=True):
            drawn[index] += fit
        if wanted and not any(fits) and purse.left >= self.min_length:
            first = wanted[0][1]
            drawn[first], limits[first] = 1, int(purse.left)
        asked = [index for index, number in drawn.items() if number]
        requests = [
            request for index in asked for request in self._samples(questions[index], drawn[index], limits[index])
        ]
        if not requests:
            return False
        yield from self._draw([questions[index] for index in asked], [drawn[index] for index in asked], requests, purse)
        return True

    def _draw(
        self, questions: Sequence[Question], numbers: Sequence[int], requests: list[Request], purse: Budget
    ) -> Steps[None]:
        """Generates, reads and counts; `numbers` are requests a question."""
        rollouts: list[Rollout] = yield requests
        purse.spend(sum(rollout.length for rollout in rollouts))
        texts = self.decode(rollouts)
        owners = [question.problem for question, number in zip(questions, numbers, strict=True) for _ in range(number)]
        answers = stated_answers(owners, texts)
        start = 0
        cast: list[list[str]] = []
        for question, number in zip(questions, numbers, strict=True):
            part = slice(start, start + number)
            start += number
            question.add(rollouts[part], texts[part], answers[part], self.requests.max_tokens)
            cast.append([answer for answer in answers[part] if answer is not None])
        count([question.ballot for question in questions], cast)

    def _samples(self, question: Question, number: int, limit: int) -> list[Request]:
        key, first = question.problem.key, question.drawn
        plain = self.prompts.solution_ids(question.problem, question.row)
        prompts = [plain] * number
        if self.strategy.foretelling is not None and self.strategy.foretelling.hints:
            prompts = [self._hinted(question, place) or plain for place in range(first, first + number)]
        expected = _expected(question)
        return self.requests.solutions(
            prompts, 0, key, limit=limit, expected=expected, purpose=Purpose.EVALUATION, first=first
        )

    def _hinted(self, question: Question, place: int) -> tuple[int, ...] | None:
        """The prompt with the notions of one prediction; None without any, or where it would not fit the model."""
        hint = draw_hint(
            question.predictions, run_seed=self.requests.seed, step=0, key=question.problem.key, sample=place
        )
        if hint is None:
            return None
        (ids,) = self.prompts.tokenize([self.prompts.solution_prompt(question.row, hint)])
        fits = self.positions is None or len(ids) + self.requests.max_tokens <= self.positions
        return ids if fits else None


def _expected(question: Question) -> float | None:
    """L^, as far as the limit lets a sample go on, in tokens."""
    length = None if question.estimate is None else question.estimate.length
    return None if length is None else min(length, float(question.limit))
