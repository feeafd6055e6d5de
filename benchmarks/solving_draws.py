"""Draws for `benchmarks/solving.py`: made once, kept in a folder, replayed behind the engine's protocol.

A draw set is named by its seed. Under that seed it holds, of every problem, the very samples and predictions that
`masa solve --seed` would draw, so a replay is no model of solving: the strategies ask as they always do, and get what
the model would have answered, ended at the limit that they ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from masa.cli.loading import Policy
from masa.evaluation.answers import EvaluationSet
from masa.evaluation.sampling import GroupSampler, SampledGroup
from masa.records import FinishReason, Problem, Request, Rollout
from masa.rollout.requests import RequestMaker
from masa.runs.answers import AnswerFolder
from masa.runs.jsonlines import Row
from masa.seeding import Purpose, derive_seed

_CHUNK = 25
"""Problems of a file."""
_ROLES = {"solution": Purpose.EVALUATION, "meta": Purpose.EVALUATION_META}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A rollout, its text, and whether it is right."""

    rollout: Rollout
    text: str
    correct: bool = False
    """Of a whole solution."""


class Draws:
    """The draws of several sets; an engine that knows nothing else.

    Args:
        requests: the run's own; each set has its own seed in place of theirs.
        decode: token ids to texts.
    """

    def __init__(self, requests: RequestMaker, decode: Callable[[Sequence[Rollout]], list[str]]) -> None:
        self.requests = requests
        self._decode = decode
        self._by_seed: dict[int, Drawn] = {}
        self._texts: dict[tuple[int, ...], str] = {}
        self._right: dict[tuple[int, str], bool] = {}

    def maker(self, seed: int) -> RequestMaker:
        """Requests of one set."""
        return replace(self.requests, seed=seed)

    def add(self, seed: int, key: int, role: str, sample: int, drawn: Drawn) -> None:
        """One more draw of a set."""
        self._by_seed[derive_seed(seed, _ROLES[role], 0, key, sample)] = drawn
        self._texts[drawn.rollout.token_ids] = drawn.text
        if role == "solution":
            self._right[key, drawn.text] = drawn.correct

    def get(self, seed: int, key: int, role: str, sample: int) -> Drawn:
        """A whole rollout, as it was drawn."""
        return self._by_seed[derive_seed(seed, _ROLES[role], 0, key, sample)]

    def right(self, data: EvaluationSet, problems: Sequence[Problem], texts: Sequence[str | None]) -> list[bool]:
        """Whether texts solve their problems, one each; no text is wrong, and no text is graded twice."""
        pairs = [(problem, text) for problem, text in zip(problems, texts, strict=True) if text is not None]
        new = [(problem, text) for problem, text in pairs if (problem.key, text) not in self._right]
        grades = data.grade([problem for problem, _ in new], [text for _, text in new])
        for (problem, text), grade in zip(new, grades, strict=True):
            self._right[problem.key, text] = grade.correct
        return [
            text is not None and self._right[problem.key, text] for problem, text in zip(problems, texts, strict=True)
        ]

    def generate(self, requests: Sequence[Request], *, logprobs: bool = False) -> list[Rollout]:  # noqa: ARG002
        """The rollouts that were drawn under the requests' seeds, ended at their limits.

        Raises:
            KeyError: for one that was not drawn.
        """
        return [self._cut(self._by_seed[request.seed].rollout, request) for request in requests]

    def prompt_states(self, prompts: Sequence[tuple[int, ...]]) -> Any:
        """There are none."""
        raise NotImplementedError("draws hold no hidden states")

    def decode(self, rollouts: Sequence[Rollout]) -> list[str]:
        """Texts of rollouts, each sequence of tokens decoded once."""
        missing = [one for one in rollouts if one.token_ids not in self._texts]
        for one, text in zip(missing, self._decode(missing), strict=True):
            self._texts[one.token_ids] = text
        return [self._texts[one.token_ids] for one in rollouts]

    @staticmethod
    def _cut(rollout: Rollout, request: Request) -> Rollout:
        if rollout.length <= request.max_tokens:
            return rollout
        reason = FinishReason.CUTOFF if request.is_cutoff else FinishReason.LENGTH
        return Rollout(rollout.token_ids[: request.max_tokens], reason)


def draw(
    policy: Policy,
    data: EvaluationSet,
    folder: AnswerFolder,
    *,
    seeds: Sequence[int],
    samples: int,
    predictions: int,
    tell: Callable[[str], None],
) -> Draws:
    """Every set's draws of every problem; what the folder holds is read, not sampled.

    Args:
        policy: the model.
        data: the problems.
        folder: of the draws.
        seeds: one a set.
        samples: solutions of a problem, a set.
        predictions: of a problem, a set.
        tell: hears of each file that is new.
    """
    draws = Draws(data.sampler.requests, policy.decode)
    starts = range(0, len(data.problems), _CHUNK)
    for seed in seeds:
        sampler = GroupSampler(data.sampler.prompts, draws.maker(seed), policy.decode)
        for chunk, start in enumerate(starts):
            rows = folder.read(f"set-{seed}", chunk)
            if rows is None:
                part = slice(start, start + _CHUNK)
                rows = _sample(policy, data, sampler, part, samples=samples, predictions=predictions)
                folder.write(f"set-{seed}", chunk, rows)
                tell(f"set {seed}, problems {start} to {start + len(data.problems[part]) - 1}: drawn")
            for row in rows:
                rollout = Rollout(tuple(row["token_ids"]), FinishReason(row["finish_reason"]))
                drawn = Drawn(rollout, row["text"], row["correct"])
                draws.add(seed, row["problem"], row["role"], row["sample"], drawn)
    return draws


def _sample(
    policy: Policy, data: EvaluationSet, sampler: GroupSampler, part: slice, *, samples: int, predictions: int
) -> list[Row]:
    problems, prompts = data.problems[part], data.rows[part]
    rows: list[Row] = []
    solved = sampler.solve(policy.engine, problems, prompts, samples)
    foretold = sampler.foretell(policy.engine, problems, prompts, predictions) if predictions else []
    for role, groups in (("solution", solved), ("meta", foretold)):
        for problem, group in zip(problems, groups, strict=False):
            rows += _rows(data, problem, role, group)
    return rows


def _rows(data: EvaluationSet, problem: Problem, role: str, group: SampledGroup) -> list[Row]:
    grades = data.grade([problem] * len(group.texts), group.texts) if role == "solution" else []
    return [
        {
            "problem": problem.key,
            "role": role,
            "sample": sample,
            "token_ids": list(rollout.token_ids),
            "finish_reason": rollout.finish_reason.value,
            "text": text,
            "correct": bool(grades) and grades[sample].correct,
        }
        for sample, (rollout, text) in enumerate(zip(group.rollouts, group.texts, strict=True))
    ]
