"""A model's answers to whole data sets, chunk by chunk into files: what is interrupted goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.awareness import parse_prediction
from masa.errors import UserError
from masa.evaluation.sampling import GroupSampler, SampledGroup
from masa.records import FinishReason, Grade, Outcome, Prediction, Problem
from masa.rollout.engine import Engine
from masa.runs.answers import AnswerFolder
from masa.runs.jsonlines import Row

Grader = Callable[[Sequence[Problem], Sequence[str]], Sequence[Grade]]
"""Problems and texts, one each, to verdicts."""
Tell = Callable[[int, int], None]
"""Called with the problems that are newly done, and the tokens generated for them (0 if they were done before)."""

_CHUNK_ROLLOUTS = 512
"""Rollouts of a chunk, about: enough to keep an engine's slots busy, little enough to lose."""
_CHUNK_TOKENS = 2**20
"""Of long rollouts a chunk holds fewer: no more than could take so many tokens ..."""
_LEAST_CHUNK_ROLLOUTS = 128
"""... but so many at least."""


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Problems, what the model is asked, and who judges its answers."""

    name: str
    problems: Sequence[Problem]
    rows: Sequence[Mapping[str, Any]]
    """Their prompts, as `PromptBuilder` takes them."""
    sampler: GroupSampler
    grade: Grader
    min_length: int = 1
    """Least length that the meta prompt allows, in tokens."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One graded solution."""

    text: str
    length: int
    """Generated tokens, end-of-sequence included."""
    finish_reason: FinishReason
    correct: bool
    extracted: str | None
    """Its final answer, or None where it states none."""
    token_ids: tuple[int, ...] = ()
    """Empty where no one asked for them."""


@dataclass(frozen=True, slots=True)
class Answers:
    """All that a model said of one problem."""

    problem: Problem
    solutions: tuple[Answer, ...]
    predictions: tuple[Prediction, ...] = ()
    meta_tokens: int = 0
    """Generated for the predictions."""

    @property
    def outcome(self) -> Outcome:
        """The solution group."""
        return Outcome(
            texts=tuple(answer.text for answer in self.solutions),
            lengths=tuple(answer.length for answer in self.solutions),
            correct=tuple(answer.correct for answer in self.solutions),
            finish_reasons=tuple(answer.finish_reason for answer in self.solutions),
        )


def collect(
    engine: Engine,
    data: EvaluationSet,
    folder: AnswerFolder,
    *,
    n: int,
    m: int = 0,
    tell: Tell | None = None,
) -> list[Answers]:
    """`n` graded solutions and `m` predictions of every problem; what the folder holds already is read, not sampled.

    A chunk's file holds one row a rollout (`data`, `problem`, `role`, `sample`, `text`, `length`, `finish_reason`;
    solutions: `extracted`, `correct`, `reason`; predictions: `prediction`) and is there as a whole or not at all. Which
    problems share a chunk follows from `n`, `m` and the token limits alone, so that an interruption changes nothing,
    to the last bit.

    Raises:
        UserError: if a file of the folder is damaged, or grading refuses a problem.
    """
    longest = max(data.sampler.requests.max_tokens, data.sampler.requests.max_meta_tokens if m else 1)
    rollouts = min(_CHUNK_ROLLOUTS, max(_LEAST_CHUNK_ROLLOUTS, _CHUNK_TOKENS // longest))
    size = max(1, rollouts // (n + m))
    found: list[Answers] = []
    for chunk, start in enumerate(range(0, len(data.problems), size)):
        part = slice(start, start + size)
        rows = folder.read(data.name, chunk)
        is_new = rows is None
        if rows is None:
            rows = list(_sample(engine, data, part, n=n, m=m))
            folder.write(data.name, chunk, rows)
        problems = data.problems[part]
        if len(rows) != len(problems) * (n + m):
            raise UserError(
                f"{folder.path}: chunk {chunk} of {data.name} holds {len(rows)} rows instead of "
                f"{len(problems) * (n + m)}: it was changed by hand; remove the file to have it made again"
            )
        found += _read(problems, rows)
        if tell is not None:
            tell(len(problems), sum(int(row["length"]) for row in rows) if is_new else 0)
    return found


def _sample(engine: Engine, data: EvaluationSet, part: slice, *, n: int, m: int) -> Iterator[Row]:
    problems, prompts = data.problems[part], data.rows[part]
    solved = data.sampler.solve(engine, problems, prompts, n)
    grades = data.grade(
        [problem for problem in problems for _ in range(n)], [text for group in solved for text in group.texts]
    )
    foretold = data.sampler.foretell(engine, problems, prompts, m) if m else [SampledGroup((), ()) for _ in problems]
    for i, (problem, solutions, metas) in enumerate(zip(problems, solved, foretold, strict=True)):
        for sample, rollout in enumerate(solutions.rollouts):
            grade = grades[i * n + sample]
            row: Row = {
                "data": data.name,
                "problem": problem.key,
                "task": problem.task,
                "role": "solution",
                "sample": sample,
                "text": solutions.texts[sample],
                "length": rollout.length,
                "finish_reason": rollout.finish_reason.value,
                "extracted": grade.extracted,
                "correct": grade.correct,
                "reason": grade.reason,
            }
            # Only a probe asks where in a solution its answer stands.
            yield row | {"token_ids": list(rollout.token_ids)} if m else row
        for sample, rollout in enumerate(metas.rollouts):
            prediction = parse_prediction(
                metas.texts[sample], max_length=data.sampler.requests.max_tokens, min_length=data.min_length
            )
            yield {
                "data": data.name,
                "problem": problem.key,
                "task": problem.task,
                "role": "meta",
                "sample": sample,
                "text": metas.texts[sample],
                "length": rollout.length,
                "finish_reason": rollout.finish_reason.value,
                "prediction": {
                    "pass_rate": prediction.pass_rate,
                    "length": prediction.length,
                    "notions": None if prediction.notions is None else list(prediction.notions),
                },
            }


def _read(problems: Sequence[Problem], rows: Sequence[Row]) -> Iterator[Answers]:
    solutions: dict[int, list[Answer]] = {problem.key: [] for problem in problems}
    predictions: dict[int, list[Prediction]] = {problem.key: [] for problem in problems}
    meta_tokens = dict.fromkeys(solutions, 0)
    for row in rows:
        key = row["problem"]
        if row["role"] == "meta":
            said = row["prediction"]
            notions = None if said["notions"] is None else tuple(said["notions"])
            predictions[key].append(Prediction(said["pass_rate"], said["length"], notions))
            meta_tokens[key] += row["length"]
        else:
            solutions[key].append(
                Answer(
                    text=row["text"],
                    length=row["length"],
                    finish_reason=FinishReason(row["finish_reason"]),
                    correct=row["correct"],
                    extracted=row["extracted"],
                    token_ids=tuple(row.get("token_ids", ())),
                )
            )
    for problem in problems:
        key = problem.key
        yield Answers(problem, tuple(solutions[key]), tuple(predictions[key]), meta_tokens[key])
