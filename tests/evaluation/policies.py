"""Policies whose answers and predictions are written down, and data sets for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from masa.evaluation.answers import EvaluationSet
from masa.evaluation.sampling import GroupSampler
from masa.records import FinishReason, Grade, Problem, Request, Rollout
from masa.rollout.prompting import PromptBuilder
from masa.rollout.requests import RequestMaker

SAMPLES = 4


def encode(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def decode_ids(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


def right_in_k(k: int, sample: int) -> str:
    """k of 4 solutions are right; each has k + 2 tokens."""
    return ("y" if sample < k else "n") * (k + 2)


def knows_itself(k: int) -> tuple[int, int]:
    """Foretold eighths and length: the truth."""
    return 2 * k, k + 2


class WrittenEngine:
    """Problem `k:i` is solved by `solve(k, sample)` and foretold by `foretell(k)`; what was asked is kept."""

    def __init__(
        self,
        solve: Callable[[int, int], str] = right_in_k,
        foretell: Callable[[int], tuple[int, int]] = knows_itself,
    ) -> None:
        self.solve = solve
        self.foretell = foretell
        self.requests: list[Request] = []

    def generate(self, requests: Sequence[Request], *, logprobs: bool = False) -> list[Rollout]:
        self.requests += requests
        seen: dict[str, int] = {}
        rollouts = []
        for request in requests:
            prompt = decode_ids(request.prompt_ids)
            k = int(prompt.rsplit("\n", 1)[-1].partition(":")[0])
            sample = seen[prompt] = seen.get(prompt, -1) + 1
            if prompt.startswith("Foretell"):
                eighths, length = self.foretell(k)
                text = f'<meta></meta>{{"math_notion": [], "pass_rate": {eighths}, "solution_length": {length}}}'
            else:
                text = self.solve(k, sample)
            rollouts.append(Rollout(encode(text), FinishReason.STOP))
        return rollouts


def says_y(problems: Sequence[Problem], texts: Sequence[str]) -> list[Grade]:
    """Right is what begins with y; the answer is the first letter."""
    return [Grade(text.startswith("y"), text[:1] or None, "by its letter") for text in texts]


def data_set(copies: int = 1, *, name: str = "letters", max_tokens: int = 200, **changed: Any) -> EvaluationSet:
    """Problems `k:i` for k = 0..4, each `copies` times."""
    texts = [f"{k}:{i}" for i in range(copies) for k in range(5)]
    prompts = PromptBuilder(
        lambda prompts: [list(map(ord, str(p))) for p in prompts],
        template="brief",
        min_length=1,
        max_length=max_tokens,
        problem_column="problem",
    )
    values: dict[str, Any] = {
        "name": name,
        "problems": [Problem(key, text, "y", task=f"t/{text[0]}") for key, text in enumerate(texts)],
        "rows": [{"prompt": text} for text in texts],
        "sampler": GroupSampler(
            prompts,
            RequestMaker(seed=0, max_tokens=max_tokens, max_meta_tokens=200),
            lambda rollouts: [decode_ids(rollout.token_ids) for rollout in rollouts],
        ),
        "grade": says_y,
    }
    return EvaluationSet(**values | changed)
