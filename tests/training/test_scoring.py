"""Reward functions of the user's: everything they may do under TRL, and what they may get wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from small_run import parity_of_length

from masa.errors import UserError
from masa.records import FinishReason, Rollout
from masa.runs import RunFolder
from masa.training.trainer import MASATrainer

MakeTrainer = Callable[..., MASATrainer]


def test_reward_functions_may_log_as_under_trl(make_trainer: MakeTrainer) -> None:
    def reward(completions: list[Any], log_metric: Any, log_extra: Any, **_: Any) -> list[float]:
        rewards = parity_of_length(completions)
        log_metric("even_share", sum(rewards) / len(rewards))
        log_extra("length", [len(completion[0]["content"]) for completion in completions])
        return rewards

    trainer = make_trainer(reward, preset="grpo", log_completions=True)
    trainer.train()
    steps = RunFolder.open(trainer.args.output_dir).read_metrics()
    logged = [entry["even_share"] for entry in trainer.state.log_history if "even_share" in entry]
    assert logged == pytest.approx([step["reward_function/reward"] for step in steps])
    tables = sorted((Path(trainer.args.output_dir) / "completions").glob("*.parquet"))
    table = Dataset.from_parquet(str(tables[-1]))
    assert {"prompt", "completion", "reward", "length", "advantage"} <= set(table.column_names)
    assert len(table) == 16


def test_a_reward_that_raises_is_named_with_its_line(make_trainer: MakeTrainer) -> None:
    def fragile(completions: list[Any], **_: Any) -> list[float]:
        return [1 / 0 for _ in completions]

    with pytest.raises(UserError, match=r"fragile.*ZeroDivisionError.*test_scoring\.py, line \d+"):
        make_trainer(fragile).train()


def test_held_out_answers_are_judged_as_in_training(make_trainer: MakeTrainer) -> None:
    async def reward(
        completions: list[Any], completion_ids: list[list[int]], trainer_state: Any, log_metric: Any, **_: Any
    ) -> list[float | None]:
        log_metric("seen", 1.0)
        return [None if not ids else float(len(ids) % 2 == trainer_state.global_step % 2) for ids in completion_ids]

    trainer = make_trainer(reward)
    rows = [trainer.train_dataset[i] for i in range(3)]
    rollouts = [Rollout((5,) * length, FinishReason.STOP) for length in (2, 3, 0)]
    assert trainer.correct(rows, rollouts, ["a", "b", "c"]) == [True, False, None]
    assert not trainer._pending_metrics
