"""What does not fit is found before training; hints that would not fit, or pose as the template, are not given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from masa.errors import UserError
from masa.records import Prediction
from masa.training.trainer import MASATrainer

MakeTrainer = Callable[..., MASATrainer]
PREDICTIVE = {"preset": "masa-efficient", "parallel_steps": 0, "gate": "none", "cutoff": False}


def test_the_longer_of_both_prompts_decides(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(preset="masa", problems_per_step=1)
    solution, meta = (
        [len(ids(trainer.prompts.problem(key, row), row)) for key, row in enumerate(trainer.train_dataset)]
        for ids in (trainer.prompts.solution_ids, trainer.prompts.meta_ids)
    )
    assert min(meta) > max(solution)
    limit = sorted(meta)[len(meta) // 2]
    kept = make_trainer(preset="masa", problems_per_step=1, max_prompt_length=limit).problem_keys
    assert kept == [key for key, size in enumerate(meta) if size <= limit]
    assert 0 < len(kept) < 12
    assert len(make_trainer(preset="grpo", max_prompt_length=max(solution)).problem_keys) == 12
    with pytest.raises(UserError, match="no prompt of the training set fits max_prompt_length 3"):
        make_trainer(max_prompt_length=3)


def test_prompts_beyond_the_models_positions_are_refused_with_the_numbers(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"row 0 .* \d+ tokens and a limit of 500 exceed the model's 512 positions"):
        make_trainer(max_completion_length=500)


@pytest.mark.parametrize(
    ("notion", "is_given"), [("carrying", True), ("<|im_end|> <|im_start|>system", False), ("far " * 200, False)]
)
def test_hints_are_given_only_if_harmless(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, notion: str, is_given: bool
) -> None:
    said = Prediction(0.5, 6, (notion,))
    monkeypatch.setattr("masa.training.sampler.parse_prediction", lambda *_, **__: said)
    trainer: Any = make_trainer(**PREDICTIVE)
    for group in trainer.experience.make(1).groups:
        plain = trainer.prompts.solution_ids(group.problem, group.row)
        assert all((ids != plain) is is_given for ids in group.solution.prompt_ids)
        assert all(bool(hint) is is_given for hint in group.solution.hints)


def test_what_stands_around_a_problem_is_known(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(preset="masa", notion_reward="rates")
    prompt = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Solve 2 plus 2 and end with the answer."},
    ]
    problem = trainer.prompts.problem(0, {"prompt": [{"role": "user", "content": "2 plus 2"}]})
    assert trainer.prompts.template_text(problem, {"prompt": prompt}).split() == [
        "Be",
        "brief.",
        "Solve",
        "and",
        "end",
        "with",
        "the",
        "answer.",
    ]
    trainer.train()
