"""Held-out evaluation on a policy whose answers and predictions are written down: every number is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from masa.evaluation.heldout import HeldOut
from masa.records import FinishReason, Request, Rollout
from masa.rollout.prompting import PromptBuilder
from masa.rollout.requests import RequestMaker


def encode(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


class ScriptedEngine:
    """Solves problem `k` in `k` of 4 rollouts, with k + 2 tokens each, and foretells just that."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def generate(self, requests: Sequence[Request], *, logprobs: bool = False) -> list[Rollout]:
        self.requests += requests
        seen: dict[str, int] = {}
        rollouts = []
        for request in requests:
            prompt = "".join(map(chr, request.prompt_ids))
            k = int(prompt.rsplit("\n", 1)[-1])
            sample = seen[prompt] = seen.get(prompt, -1) + 1
            if prompt.startswith("Foretell"):
                text = f'<meta></meta>{{"math_notion": ["x"], "pass_rate": {2 * k}, "solution_length": {k + 2}}}'
            else:
                text = ("y" if sample < k else "n") * (k + 2)
            rollouts.append(Rollout(encode(text), FinishReason.STOP))
        return rollouts


def heldout(**changed: Any) -> HeldOut:
    settings: dict[str, Any] = {
        "rows": [{"prompt": str(k), "answer": "y", "task": f"t/{k % 2}"} for k in range(5)],
        "prompts": PromptBuilder(
            lambda prompts: [list(map(ord, str(p))) for p in prompts], template="brief", min_length=1, max_length=64
        ),
        "requests": RequestMaker(seed=0, max_tokens=64, max_meta_tokens=64),
        "is_correct": lambda rows, rollouts, texts: [text.startswith("y") for text in texts],
        "decode": lambda rollouts: ["".join(map(chr, r.token_ids)) for r in rollouts],
        "solutions": 4,
        "predictions": 2,
    }
    return HeldOut(**settings | changed)


def test_accuracy_and_awareness_of_a_policy_that_knows_itself() -> None:
    row = heldout().measure(ScriptedEngine(), step=7)
    assert (row["step"], row["problems"], row["samples_per_problem"]) == (7, 5, 4)
    assert row["pass_at_1"] == pytest.approx(0.5)  # mean of 0, 1/4, 1/2, 3/4, 1
    assert row["pass_rates"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert row["pass_at_1_low"] < 0.5 < row["pass_at_1_high"]
    assert (row["never_solved_share"], row["always_solved_share"], row["zero_variance_share"]) == (0.2, 0.2, 0.4)
    assert row["by_task"] == {"t/0": pytest.approx(0.5), "t/1": pytest.approx(0.5)}
    assert row["pass_rate_spearman"] == pytest.approx(1.0)
    assert row["length_spearman"] == pytest.approx(1.0)
    assert (row["valid_share"], row["ece"], row["length_ratio"]) == (1.0, 0.0, 1.0)
    assert row["points"][0] == [0.0, 0.0, 2.0, None]  # never solved: no correct length
    assert row["points"][3] == [0.75, 0.75, 5.0, 5.0]
    assert row["mean_length"] == pytest.approx(4.0)


def test_without_predictions_there_is_no_awareness() -> None:
    row = heldout(predictions=0).measure(ScriptedEngine(), step=0)
    assert "points" not in row
    assert "pass_rate_spearman" not in row


def test_the_same_seeds_serve_every_evaluation() -> None:
    first, second = ScriptedEngine(), ScriptedEngine()
    heldout().measure(first, step=0)
    heldout().measure(second, step=50)
    assert [request.seed for request in first.requests] == [request.seed for request in second.requests]
    assert len({request.seed for request in first.requests}) == len(first.requests)
