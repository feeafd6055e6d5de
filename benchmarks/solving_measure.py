"""Strategies of `masa solve` replayed over draws: what each got right and spent, with intervals, and bounds to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from solving_draws import Draws

from masa.awareness import Estimate, Evidence, SelfPredictor, parse_prediction
from masa.awareness.beliefs import Beta
from masa.awareness.predictors import Predictor
from masa.awareness.predictors.self_calibration import fit_calibration
from masa.evaluation.answers import EvaluationSet
from masa.grading.equality import stated_answers
from masa.records import Problem
from masa.seeding import Purpose, derive_generator
from masa.solving import GradedVotes, Solution, Solver, Strategy, plan_samples

Array = NDArray[np.float64]

RESAMPLES = 2000
_SIMULATIONS = 1000
"""Votes that the oracle holds against each number of samples."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a strategy came to, [sets, problems] each."""

    correct: Array
    """1 for a right answer."""
    tokens: Array
    """Generated, predictions included."""
    meta: Array
    """Of these, for predictions."""
    samples: Array

    @classmethod
    def beside(cls, some: Sequence[Spent]) -> Spent:
        """Of some problems and of others, one."""
        names = [one.name for one in fields(cls)]
        return cls(*(np.concatenate([getattr(one, name) for one in some], axis=1) for name in names))

    @property
    def accuracy(self) -> float:
        """Mean over sets and problems, 0..1."""
        return float(self.correct.mean())

    @property
    def cost(self) -> float:
        """Mean tokens a problem."""
        return float(self.tokens.mean())


@dataclass(frozen=True, slots=True)
class Replay:
    """Problems, their draws, and the sets that are looked at."""

    draws: Draws
    data: EvaluationSet
    seeds: tuple[int, ...]

    def part(self, start: int, stop: int, seeds: Sequence[int]) -> Replay:
        """Some of the problems and sets."""
        data = self.data
        some = EvaluationSet(
            data.name, data.problems[start:stop], data.rows[start:stop], data.sampler, data.grade, data.min_length
        )
        return Replay(self.draws, some, tuple(seeds))

    def solve(self, strategy: Strategy, seed: int, *, budget: int | None = None) -> list[Solution]:
        """What `masa solve --seed` would answer."""
        draws, data = self.draws, self.data
        solver = Solver(
            draws, data.sampler.prompts, draws.maker(seed), draws.decode, strategy, min_length=data.min_length
        )
        return solver.solve(data.problems, data.rows, budget=budget)

    def run(self, strategy: Strategy, *, budget: float | None = None) -> Spent:
        """Every set's answers; `budget` is in tokens a problem."""
        whole = None if budget is None else max(1, int(budget * len(self.data.problems)))
        return self.spent([self.solve(strategy, seed, budget=whole) for seed in self.seeds])

    def spent(self, solutions: Sequence[Sequence[Solution]]) -> Spent:
        """Answers of each set, graded."""
        right = [self.draws.right(self.data, self.data.problems, [one.text for one in some]) for some in solutions]
        return Spent(
            np.array(right, dtype=float),
            np.array([[one.tokens for one in some] for some in solutions], dtype=float),
            np.array([[one.meta_tokens for one in some] for some in solutions], dtype=float),
            np.array([[one.samples for one in some] for some in solutions], dtype=float),
        )


class Corrected(Predictor):
    """Self-prediction with another belief about the pass rate than the one it names.

    Args:
        belief: of a problem, and of the pass rate that was foretold of it.
    """

    name = "corrected"
    uses_predictions = True

    def __init__(self, belief: Callable[[Problem, float], Beta]) -> None:
        self.belief = belief

    def estimate(self, evidence: Evidence) -> Estimate:
        """The policy's own estimate, with that belief."""
        found = SelfPredictor().estimate(evidence)
        if found.pass_rate is None:
            return found
        return Estimate(
            pass_rate=found.pass_rate,
            deviation=found.deviation,
            length=found.length,
            notions=found.notions,
            valid=found.valid,
            abstains=found.abstains,
            belief=self.belief(evidence.problem, found.pass_rate),
        )


def fit_corrected(replay: Replay, predictions: int, samples: int) -> Corrected:
    """What the mean of so many predictions was worth on the replay's problems; nothing else is learnt from."""
    said, right = [], []
    longest, least = replay.draws.requests.max_tokens, replay.data.min_length
    for seed in replay.seeds:
        for problem in replay.data.problems:
            texts = [replay.draws.get(seed, problem.key, "meta", i).text for i in range(predictions)]
            heard = tuple(parse_prediction(text, max_length=longest, min_length=least) for text in texts)
            rate = SelfPredictor().estimate(Evidence(problem, heard)).pass_rate
            if rate is not None:
                said.append(rate)
                right.append(sum(replay.draws.get(seed, problem.key, "solution", i).correct for i in range(samples)))
    ones = np.ones(len(said))
    calibration = fit_calibration(np.array(said), np.array(right, dtype=float), samples * ones, ones)
    return Corrected(lambda _, rate: calibration.belief(rate))


def fit_told(replay: Replay, samples: int) -> Corrected:
    """As if every prediction named the problem's true pass rate, which is that of all its draws."""
    beliefs = {}
    for problem in replay.data.problems:
        drawn = [replay.draws.get(seed, problem.key, "solution", i) for seed in replay.seeds for i in range(samples)]
        right = sum(one.correct for one in drawn)
        beliefs[problem.key] = Beta(0.5 + right, 0.5 + len(drawn) - right)
    return Corrected(lambda problem, _: beliefs[problem.key])


def graded_votes(replay: Replay, samples: int) -> list[GradedVotes]:
    """What the replay's problems were answered, one a problem and set."""
    found = []
    for seed in replay.seeds:
        for problem in replay.data.problems:
            drawn = [replay.draws.get(seed, problem.key, "solution", i) for i in range(samples)]
            answers = stated_answers([problem] * samples, [one.text for one in drawn])
            found.append(GradedVotes(tuple(answers), tuple(one.correct for one in drawn)))
    return found


def oracle(
    replay: Replay, uniform: Sequence[Sequence[Sequence[Solution]]], samples: int, budgets: Sequence[float]
) -> list[Spent]:
    """The best allocation of a fixed number of samples to each problem, at each budget (tokens a problem).

    It knows, of each problem, how often each answer comes among the draws of all sets, which of them is right, and the
    mean length of a sample, and gives each problem at least one sample; it does not know which answers a set draws. A
    rule that stops by what it has seen knows less beforehand and more afterwards, so it is no bound of such a rule.

    Args:
        replay: all problems and sets.
        uniform: solutions of a uniform vote by samples - 1, set and problem.
        samples: of a problem, at most.
        budgets: tokens a problem.
    """
    problems = replay.data.problems
    generator = derive_generator(0, Purpose.EVALUATION)
    values, costs = [], []
    for problem in problems:
        drawn = [replay.draws.get(seed, problem.key, "solution", i) for seed in replay.seeds for i in range(samples)]
        costs.append(float(np.mean([one.rollout.length for one in drawn])))
        values.append(_values(_answers(replay, problem, samples), samples, generator))
    found = []
    for budget in budgets:
        sizes = plan_samples(values, costs, budget=budget * len(problems), least_gain=1e-4)
        chosen = [
            [uniform[size - 1][row][place] for place, size in enumerate(sizes)] for row in range(len(replay.seeds))
        ]
        found.append(replay.spent(chosen))
    return found


def _answers(replay: Replay, problem: Problem, samples: int) -> list[tuple[str | None, bool]]:
    """Every draw's answer, None without one, and whether it is right."""
    drawn = [replay.draws.get(seed, problem.key, "solution", i) for seed in replay.seeds for i in range(samples)]
    answers = stated_answers([problem] * len(drawn), [one.text for one in drawn])
    return list(zip(answers, [one.correct for one in drawn], strict=True))


def _values(
    answers: Sequence[tuple[str | None, bool]], samples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Chance that a vote of n samples is right, n = 0..samples, where answers come as often as they were drawn."""
    names: dict[str, int] = {}
    right: dict[int, bool] = {}
    for answer, ok in answers:
        if answer is not None:  # right answers are one, however they are written
            name = names.setdefault("right" if ok else f"wrong {answer}", len(names))
            right[name] = ok
    if not any(right.values()):
        return np.zeros(samples + 1)
    silent = len(names)
    codes = np.array(
        [silent if answer is None else names["right" if ok else f"wrong {answer}"] for answer, ok in answers]
    )
    drawn = codes[generator.integers(0, len(codes), (_SIMULATIONS, samples))]
    votes = np.cumsum(np.eye(silent + 1)[drawn], axis=1)[..., :silent]
    most = votes.max(axis=2, keepdims=True)
    leads = (votes == most) & (most > 0)
    is_right = np.array([right[name] for name in range(silent)])
    wins = (leads & is_right).sum(axis=2) / np.maximum(1, leads.sum(axis=2))
    return np.concatenate([[0.0], np.maximum.accumulate(wins.mean(axis=0))])


def hindsight(replay: Replay, uniform: Sequence[Sequence[Sequence[Solution]]], samples: int) -> Spent:
    """A vote stopped as soon as its leader is the one that a vote of `samples` would name: no stopping rule does better
    without changing answers."""
    chosen = [
        [
            next(uniform[n][row][place] for n in range(samples) if uniform[n][row][place].answer == last.answer)
            for place, last in enumerate(uniform[samples - 1][row])
        ]
        for row in range(len(replay.seeds))
    ]
    return replay.spent(chosen)


@dataclass(frozen=True, slots=True)
class Means:
    """A strategy's accuracy and tokens a problem on some problems."""

    accuracy: float
    cost: float


Figure = Callable[[Sequence[Means]], float | None]


def interval(spent: Sequence[Spent], figure: Figure) -> tuple[float, float] | None:
    """95 % percentile bootstrap over problems of a figure of several strategies, which are drawn together.

    None where the figure is not there in more than a tenth of the resamples.
    """
    count = spent[0].correct.shape[1]
    shares = derive_generator(1, Purpose.EVALUATION).multinomial(count, np.full(count, 1 / count), RESAMPLES) / count
    rows = [(shares @ one.correct.mean(axis=0), shares @ one.tokens.mean(axis=0)) for one in spent]
    drawn = (figure([Means(float(right[i]), float(tokens[i])) for right, tokens in rows]) for i in range(RESAMPLES))
    found = [value for value in drawn if value is not None]
    if len(found) < 0.9 * RESAMPLES:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def tokens_to(spent: Sequence[Spent | Means], accuracy: float) -> float | None:
    """Tokens a problem at which a curve first comes to an accuracy, linear between its points; None if it does not."""
    points = sorted((one.cost, one.accuracy) for one in spent)
    before: tuple[float, float] | None = None
    for cost, reached in points:
        if reached >= accuracy:
            if before is None or reached == before[1]:
                return cost
            return before[0] + (accuracy - before[1]) / (reached - before[1]) * (cost - before[0])
        before = (cost, reached)
    return None
