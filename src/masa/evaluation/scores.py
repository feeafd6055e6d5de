"""The figures of an evaluation: pass@k, mean and majority with intervals over problems, spread over samplings."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from masa.awareness import bootstrap_average_interval
from masa.evaluation.answers import Answer, Answers
from masa.evaluation.estimators import majority_correct, pass_at_k
from masa.records import FinishReason


@dataclass(frozen=True, slots=True)
class Measured:
    """A share and its 95 % bootstrap interval over problems; where all problems fare alike it has no width."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean generated tokens of an answer; None where there is no such answer."""

    mean: float
    correct: float | None
    incorrect: float | None


@dataclass(frozen=True, slots=True)
class SetScores:
    """How a model does on one data set, from `n` answers a problem."""

    name: str
    problems: int
    n: int
    pass_at_k: dict[int, Measured]
    """By k: the mean over problems of the unbiased estimate."""
    mean_at_n: Measured
    """Share of right answers: pass@1."""
    majority_at_n: Measured
    """Accuracy of a majority vote over the n answers."""
    spread: float | None
    """Standard deviation (n - 1) of the accuracy over the n samplings, each one answer a problem; None for n = 1."""
    finish_reasons: dict[str, int]
    truncated_share: float
    """Answers that met the token limit."""
    unanswered_share: float
    """Answers in which no final answer was found."""
    length: Lengths
    tokens: int
    by_task: dict[str, float]
    """mean@n by the problems' task, where they have one."""


@dataclass(frozen=True, slots=True)
class Average:
    """Unweighted means over data sets, as papers quote them; intervals draw each set's problems by themselves."""

    pass_at_k: dict[int, Measured]
    mean_at_n: Measured
    majority_at_n: Measured


@dataclass(frozen=True, slots=True)
class Scores:
    """An evaluation."""

    sets: tuple[SetScores, ...]
    average: Average | None
    """None for a single set."""
    tokens: int


def score(answers: Sequence[tuple[str, Sequence[Answers]]], ks: Sequence[int]) -> Scores:
    """The figures of data sets by name.

    Args:
        answers: each set's name, and n answers for each of its problems.
        ks: the k of pass@k, each at most n.

    Raises:
        ValueError: for a set without problems, or a k beyond n.
    """
    columns = [_Columns.of(found, ks) for _, found in answers]
    sets = tuple(_set(name, found, part) for (name, found), part in zip(answers, columns, strict=True))
    average = _Columns.average(columns) if len(columns) > 1 else None
    return Scores(sets, average, sum(one.tokens for one in sets))


@dataclass(frozen=True, slots=True)
class _Columns:
    """Estimates, one a problem."""

    pass_at_k: dict[int, list[float]]
    mean: list[float]
    majority: list[float]

    @staticmethod
    def of(found: Sequence[Answers], ks: Sequence[int]) -> _Columns:
        right = [sum(answer.correct for answer in one.solutions) for one in found]
        sizes = [len(one.solutions) for one in found]
        return _Columns(
            {k: [pass_at_k(n, c, k) for n, c in zip(sizes, right, strict=True)] for k in ks},
            [c / n for n, c in zip(sizes, right, strict=True)],
            [
                majority_correct(
                    [answer.extracted for answer in one.solutions], [answer.correct for answer in one.solutions]
                )
                for one in found
            ],
        )

    @staticmethod
    def average(columns: Sequence[_Columns]) -> Average:
        return Average(
            {k: measured([one.pass_at_k[k] for one in columns]) for k in columns[0].pass_at_k},
            measured([one.mean for one in columns]),
            measured([one.majority for one in columns]),
        )


def measured(groups: Sequence[Sequence[float]]) -> Measured:
    """The mean over data sets of their problems' mean, with its interval.

    Raises:
        ValueError: for a set without problems.
    """
    interval = bootstrap_average_interval(groups, seed=0)
    if interval is None:
        raise ValueError("a data set without problems has no scores")
    return Measured(statistics.fmean(statistics.fmean(values) for values in groups), interval.low, interval.high)


def _set(name: str, found: Sequence[Answers], columns: _Columns) -> SetScores:
    alone = _Columns.average([columns])
    n = len(found[0].solutions)
    all_answers = [answer for one in found for answer in one.solutions]
    samplings = [statistics.fmean(one.solutions[sample].correct for one in found) for sample in range(n)]
    by_task: dict[str, list[float]] = defaultdict(list)
    for one, mean in zip(found, columns.mean, strict=True):
        if one.problem.task:
            by_task[one.problem.task].append(mean)
    return SetScores(
        name=name,
        problems=len(found),
        n=n,
        pass_at_k=alone.pass_at_k,
        mean_at_n=alone.mean_at_n,
        majority_at_n=alone.majority_at_n,
        spread=statistics.stdev(samplings) if n > 1 else None,
        finish_reasons=dict(Counter(answer.finish_reason.value for answer in all_answers)),
        truncated_share=statistics.fmean(answer.finish_reason is FinishReason.LENGTH for answer in all_answers),
        unanswered_share=statistics.fmean(answer.extracted is None for answer in all_answers),
        length=Lengths(
            statistics.fmean(answer.length for answer in all_answers),
            _mean_length(answer for answer in all_answers if answer.correct),
            _mean_length(answer for answer in all_answers if not answer.correct),
        ),
        tokens=sum(answer.length for answer in all_answers),
        by_task={task: statistics.fmean(values) for task, values in sorted(by_task.items())},
    )


def _mean_length(answers: Iterable[Answer]) -> float | None:
    lengths = [answer.length for answer in answers]
    return statistics.fmean(lengths) if lengths else None
