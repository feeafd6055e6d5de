"""The benchmark of solving: what is replayed is what the engine would have answered, and its figures are right."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted import MAX_META_TOKENS, MAX_TOKENS, ScriptedEngine, decode, foretold

from masa.awareness import Cutoff
from masa.evaluation.answers import EvaluationSet
from masa.evaluation.sampling import GroupSampler
from masa.grading import grade_problems
from masa.records import Problem
from masa.rollout.prompting import PromptBuilder
from masa.rollout.requests import RequestMaker
from masa.runs.answers import AnswerFolder
from masa.solving import STRATEGIES, Foretelling, Solver, make_strategy

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
SAMPLES = 8
PROBLEMS = [Problem(key, f"question {key}", str(key % 3), "literal", task=f"t/{key % 2}") for key in range(30)]


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    monkeypatch.setattr(sys, "path", [*sys.path, BENCHMARKS])
    return importlib.import_module("solving_draws"), importlib.import_module("solving_measure")


def says(key: int, place: int) -> str:
    chance = random.Random(f"{key}/{place}")
    return "x" * chance.randrange(80) + f"\nAnswer: {chance.randrange(3)}"


def engine() -> ScriptedEngine:
    return ScriptedEngine(says, lambda key, place: foretold((key + place) % 9, 30))


def evaluation_set() -> EvaluationSet:
    prompts = PromptBuilder(
        lambda prompts: [list(map(ord, str(prompt))) for prompt in prompts],
        template="brief",
        min_length=1,
        max_length=MAX_TOKENS,
        problem_column="problem",
    )
    requests = RequestMaker(seed=0, max_tokens=MAX_TOKENS, max_meta_tokens=MAX_META_TOKENS)
    rows = [{"prompt": problem.text} for problem in PROBLEMS]
    return EvaluationSet("questions", PROBLEMS, rows, GroupSampler(prompts, requests, decode), grade_problems)


class Policy:
    """What `draw` needs of a loaded model."""

    def __init__(self) -> None:
        self.engine = engine()
        self.decode = decode


def replay(modules: tuple[Any, Any], folder: Path) -> tuple[Any, Policy]:
    drawing, measuring = modules
    policy, data = Policy(), evaluation_set()
    kept = AnswerFolder(folder, {"a": 1})
    options: dict[str, Any] = {"seeds": [0], "samples": SAMPLES, "predictions": 4, "tell": lambda _: None}
    return measuring.Replay(drawing.draw(policy, data, kept, **options), data, (0,)), policy


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("budget", [None, 4000])
def test_a_replay_is_what_the_engine_would_have_answered(
    name: str, budget: int | None, modules: tuple[Any, Any], tmp_path: Path
) -> None:
    found, policy = replay(modules, tmp_path / "draws")
    cutoff = Cutoff(0, rule="paper", factor=1.5, minimum=2, maximum=MAX_TOKENS)
    strategy = make_strategy(name, samples=SAMPLES, foretelling=lambda: Foretelling(2, cutoff=cutoff))
    data = found.data
    live = Solver(engine(), data.sampler.prompts, data.sampler.requests, decode, strategy)
    answered = live.solve(PROBLEMS, data.rows, budget=budget)
    assert found.solve(strategy, 0, budget=budget) == answered
    if name in ("predicted", "both"):
        assert any(one.cut for one in answered)
    again, policy = replay(modules, tmp_path / "draws")
    assert not policy.engine.calls  # all is read from the folder
    assert again.solve(strategy, 0, budget=budget) == answered
    spent = found.run(strategy, budget=None if budget is None else budget / len(PROBLEMS))
    right = [
        one.text is not None and one.answer == problem.answer for one, problem in zip(answered, PROBLEMS, strict=True)
    ]
    assert spent.correct.tolist() == [[float(ok) for ok in right]]
    assert spent.tokens.sum() == sum(one.tokens for one in answered)


def test_the_oracle_spends_where_votes_are_won(modules: tuple[Any, Any]) -> None:
    _, measuring = modules
    generator = np.random.default_rng(0)
    even = [("1", True)] * 6 + [("2", False)] * 2 + [("3", False)] * 2
    values = measuring._values(even, 9, generator)
    assert values[0] == 0
    assert values[1] == pytest.approx(0.6, abs=0.05)
    assert values[9] > 0.85
    assert measuring._values([("2", False)] * 4, 3, generator).tolist() == [0] * 4
    assert measuring._values([("1", True)] * 4, 3, generator).tolist() == [0, 1, 1, 1]
    # An answer that is never stated wins no vote, and loses none either.
    assert measuring._values([("1", True), (None, False)], 6, generator)[6] == pytest.approx(1 - 2**-6, abs=0.03)


def test_tokens_to_an_accuracy_are_read_off_a_curve(modules: tuple[Any, Any]) -> None:
    _, measuring = modules

    def point(accuracy: float, tokens: float) -> Any:
        one = np.full((1, 1), 1.0)
        return measuring.Spent(accuracy * one, tokens * one, 0 * one, one)

    points = [point(0.8, 300), point(0.5, 100), point(0.6, 200)]
    assert measuring.tokens_to(points, 0.7) == pytest.approx(250)
    assert measuring.tokens_to(points, 0.4) == 100
    assert measuring.tokens_to(points, 0.9) is None
    low, high = measuring.interval([point(0.5, 100)], lambda some: some[0].accuracy)
    assert low == high == 0.5
