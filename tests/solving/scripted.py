"""A policy whose answers and predictions are written down, behind the engine's protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from masa.awareness import Cutoff
from masa.records import FinishReason, Problem, Request, Rollout
from masa.rollout.prompting import PromptBuilder
from masa.rollout.requests import RequestMaker
from masa.seeding import Purpose, derive_seed
from masa.solving import Foretelling, Solution, Solver, Strategy

MAX_TOKENS, MAX_META_TOKENS = 100, 80
MOST = 64

Script = Callable[[int, int], str]
"""Problem key and place in the group to a text, one token a character."""


def foretold(eighths: int | str, length: int | str) -> str:
    return f'<meta></meta>{{"math_notion": ["sum"], "pass_rate": {eighths}, "solution_length": {length}}}'


class ScriptedEngine:
    """Knows a request's question by its prompt and its place by its seed; cuts texts at their limits."""

    def __init__(self, solve: Script, foretell: Script | None = None) -> None:
        self.scripts = {Purpose.EVALUATION: solve, Purpose.EVALUATION_META: foretell or (lambda *_: "")}
        self.calls: list[list[Request]] = []

    def generate(self, requests: Sequence[Request], *, logprobs: bool = False) -> list[Rollout]:
        self.calls.append(list(requests))
        return [self._rollout(request) for request in requests]

    def prompt_states(self, prompts: Sequence[tuple[int, ...]]) -> Any:
        raise NotImplementedError

    @property
    def requests(self) -> list[Request]:
        return [request for call in self.calls for request in call]

    def _rollout(self, request: Request) -> Rollout:
        prompt = "".join(map(chr, request.prompt_ids))
        is_meta = prompt.startswith("Foretell")
        purpose = Purpose.EVALUATION_META if is_meta else Purpose.EVALUATION
        key = int(prompt.split("question ")[1].split()[0])
        place = next(i for i in range(MOST) if derive_seed(0, purpose, 0, key, i) == request.seed)
        ids = tuple(map(ord, self.scripts[purpose](key, place)))
        if len(ids) <= request.max_tokens:
            return Rollout(ids, FinishReason.STOP)
        reason = FinishReason.CUTOFF if request.is_cutoff else FinishReason.LENGTH
        return Rollout(ids[: request.max_tokens], reason)


def decode(rollouts: Sequence[Rollout]) -> list[str]:
    return ["".join(map(chr, rollout.token_ids)) for rollout in rollouts]


def problems(count: int, kind: str = "math", **extra: Any) -> list[Problem]:
    return [Problem(key, f"question {key}", "", kind, extra=extra) for key in range(count)]


def solve(
    engine: ScriptedEngine,
    strategy: Strategy,
    asked: Sequence[Problem],
    *,
    budget: int | None = None,
    positions: int | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> list[Solution]:
    prompts = PromptBuilder(
        lambda prompts: [list(map(ord, str(prompt))) for prompt in prompts],
        template="brief",
        min_length=1,
        max_length=MAX_TOKENS,
        problem_column="problem",
    )
    requests = RequestMaker(seed=0, max_tokens=MAX_TOKENS, max_meta_tokens=MAX_META_TOKENS)
    solver = Solver(engine, prompts, requests, decode, strategy, positions=positions)
    return solver.solve(asked, [{"prompt": problem.text} for problem in asked], budget=budget, tell=tell)


def foretelling(factor: float | None = 2.0, **changed: Any) -> Foretelling:
    cutoff = None if factor is None else Cutoff(0, rule="paper", factor=factor, minimum=2, maximum=MAX_TOKENS)
    return Foretelling(**{"predictions": 2, "cutoff": cutoff} | changed)
