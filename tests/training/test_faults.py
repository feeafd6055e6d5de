"""Faults put in on purpose: reward functions, models, numbers and trackers that misbehave."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import parity_of_length
from transformers import TrainerCallback
from transformers.integrations import integration_utils
from trl import GRPOTrainer

from masa.errors import UserError
from masa.runs import RunFolder
from masa.training.trainer import MASATrainer

MakeTrainer = Callable[..., MASATrainer]
NAN, INFINITY = float("nan"), float("inf")


def metrics(trainer: MASATrainer) -> list[dict[str, Any]]:
    return RunFolder.open(trainer.args.output_dir).read_metrics()


def weights(trainer: MASATrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])


# Reward functions


def raises(completions: Any, **_: Any) -> list[float]:
    raise RuntimeError("no such court")


def no_list(completions: Any, **_: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (raises, r"\(raises\) raised RuntimeError: no such court \(.*test_faults.py, line \d+\); return None"),
        (no_list, r"\(no_list\) raised TypeError"),
        (lambda completions, **_: [1.0], "returned 1 rewards, but 16 were expected"),
        (lambda completions, **_: ["good"] * len(completions), "raised"),
    ],
)
@pytest.mark.parametrize("limit", [None, 60.0])
def test_a_reward_function_at_fault_is_named(
    make_trainer: MakeTrainer, reward: Any, words: str, limit: float | None
) -> None:
    with pytest.raises(UserError, match=words):
        make_trainer(reward, preset="masa", reward_timeout=limit).train()


@pytest.mark.parametrize("nothing", [None, NAN, INFINITY, -INFINITY])
def test_answers_without_a_reward_stay_ungraded_and_training_goes_on(make_trainer: MakeTrainer, nothing: Any) -> None:
    def every_other(completions: Any, **_: Any) -> list[Any]:
        return [nothing if i % 2 else reward for i, reward in enumerate(parity_of_length(completions))]

    trainer = make_trainer(every_other, preset="masa", max_steps=1)
    trainer.train()
    (row,) = metrics(trainer)
    assert row["reward/ungraded_share"] == 0.5
    assert 0 <= row["reward/solution"] <= 1
    rollouts = RunFolder.open(trainer.args.output_dir).read_rollouts(1)
    ungraded = [r for r in rollouts if r["role"] == "solution" and r["sample"] % 2]
    assert {(r.get("correct"), r["advantage"]) for r in ungraded} == {(None, 0.0)}
    assert torch.isfinite(weights(trainer)).all()


@pytest.mark.parametrize("nothing", [None, NAN])
def test_no_reward_at_all_is_a_step_without_a_live_group(make_trainer: MakeTrainer, nothing: Any) -> None:
    trainer = make_trainer(lambda completions, **_: [nothing] * len(completions), preset="masa")
    before = weights(trainer)
    trainer.train()
    assert torch.equal(before, weights(trainer))
    assert trainer.ledger.steps_without_live_group == 3
    assert [row["reward/ungraded_share"] for row in metrics(trainer)] == [1.0] * 3


PATIENT = 3.0
"""Seconds: long for a function that ends, however busy the machine; what never ends takes longer all the same."""


def test_a_reward_function_that_never_ends_is_given_up(make_trainer: MakeTrainer) -> None:
    calls = itertools.count(1)

    def stuck(completions: Any, **_: Any) -> list[float]:
        if next(calls) == 2:
            while True:  # for ever, in Python: an exception ends it
                time.sleep(0.01)
        return parity_of_length(completions)

    trainer = make_trainer(stuck, preset="masa", reward_timeout=PATIENT)
    with pytest.warns(UserWarning, match=r"'stuck' took longer than reward_timeout \(3 s\): its 16 answers"):
        trainer.train()
    rows = metrics(trainer)
    assert [row["reward/timeouts"] for row in rows] == [0, 1, 0]
    assert [row["reward/ungraded_share"] for row in rows] == [0.0, 1.0, 0.0]
    deadline = time.monotonic() + 60
    while any(thread.name == "reward" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the call that was given up goes on"
        time.sleep(0.01)


def test_a_coroutine_that_never_ends_is_given_up_too(make_trainer: MakeTrainer) -> None:
    async def waits(completions: Any, **_: Any) -> list[float]:
        await asyncio.sleep(1000)
        return []

    functions = [waits, parity_of_length]
    trainer = make_trainer(functions, correctness="parity_of_length", reward_timeout=PATIENT, max_steps=1)
    with pytest.warns(UserWarning, match=r"'waits' took longer than reward_timeout \(3 s\)"):
        trainer.train()
    (row,) = metrics(trainer)
    assert row["reward/timeouts"] == 1
    assert row["reward/ungraded_share"] == 0.0  # the other function graded them
    assert row["reward/solution"] == row["reward_function/parity_of_length"]


def test_a_limit_that_is_not_reached_changes_nothing(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    runs = [
        make_trainer(preset="masa", reward_timeout=limit, output_dir=str(tmp_path / name))
        for name, limit in (("without", None), ("with", 60.0))
    ]
    for trainer in runs:
        trainer.train()
    assert torch.equal(weights(runs[0]), weights(runs[1]))


# The model


def speaking(model: Any, token: int, sign: float) -> Any:
    """The model, made to write `token` always (sign 1) or never (sign -1): one direction of its states decides."""
    with torch.no_grad():
        table = model.get_input_embeddings().weight  # tied to the output head
        table[:, 0] = 1.0
        table[token, 0] = 100.0 * sign
    return model


@pytest.mark.parametrize("preset", ["masa-efficient", "masa-plus"])
def test_a_model_that_says_nothing(make_trainer: MakeTrainer, make_model: Any, tokenizer: Any, preset: str) -> None:
    trainer = make_trainer(
        preset=preset, model=speaking(make_model(), tokenizer.eos_token_id, 1.0), parallel_steps=2, max_steps=5
    )
    trainer.train()
    rows = metrics(trainer)
    assert [row["length/mean"] for row in rows] == [1.0] * 5
    assert [row["finish/stop"] for row in rows] == [1.0] * 5
    assert trainer.ledger.steps_without_live_group == 5


@pytest.mark.parametrize("preset", ["masa-efficient", "masa-plus"])
def test_a_model_that_never_stops(make_trainer: MakeTrainer, make_model: Any, tokenizer: Any, preset: str) -> None:
    trainer = make_trainer(
        preset=preset, model=speaking(make_model(), tokenizer.eos_token_id, -1.0), parallel_steps=2, max_steps=5
    )
    trainer.train()
    rows = metrics(trainer)
    assert [row["length/mean"] for row in rows] == [12.0] * 5
    assert [row["finish/length"] for row in rows] == [1.0] * 5
    assert trainer.ledger.policy_updates > 0


@pytest.mark.parametrize("preset", ["masa-efficient", "masa-plus", "greso", "dapo"])
def test_zero_variance_for_many_steps(make_trainer: MakeTrainer, preset: str) -> None:
    settings: dict[str, Any] = {"preset": preset, "max_steps": 12, "weight_decay": 0.1}
    if preset != "dapo":
        settings["parallel_steps"] = 2
    trainer = make_trainer(lambda completions, **_: [0.0] * len(completions), **settings)
    before = weights(trainer)
    trainer.train()
    assert torch.equal(before, weights(trainer))
    assert trainer.ledger.steps_without_live_group == 12
    assert [row["step"] for row in metrics(trainer)] == list(range(1, 13))


def test_every_prediction_malformed(make_trainer: MakeTrainer) -> None:
    """A random model's always are: the predictor abstains, nothing is gated, cut or hinted, and training goes on."""
    trainer = make_trainer(preset="masa-efficient", parallel_steps=1, max_steps=4, audit_rate=0.0)
    trainer.train()
    rows = metrics(trainer)
    assert [row["awareness/valid_share"] for row in rows] == [0.0] * 4
    assert [row["predictor/abstained"] for row in rows] == [1.0] * 4
    assert [row["gate/share"] for row in rows] == [0.0] * 4
    assert trainer.ledger.cut_rollouts == 0
    assert trainer.ledger.policy_updates > 0


# Numbers


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int], float], None]:
    """Has TRL's loss be multiplied by a number in the steps given, counted from 1."""

    def poison(steps: set[int], factor: float) -> None:
        own = GRPOTrainer.compute_loss

        def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
            loss = own(self, *args, **kwargs)
            return loss * factor if self.state.global_step + 1 in steps else loss

        monkeypatch.setattr(GRPOTrainer, "compute_loss", compute_loss)

    return poison


@pytest.mark.parametrize("factor", [NAN, INFINITY])
def test_a_step_that_is_not_finite_moves_nothing_and_is_counted(
    make_trainer: MakeTrainer, poisoned: Any, factor: float
) -> None:
    poisoned({2, 3}, factor)
    trainer = make_trainer(preset="masa", max_steps=4, weight_decay=0.5)
    seen: dict[int, tuple[torch.Tensor, list[torch.Tensor]]] = {}

    def look(row: dict[str, Any]) -> None:
        moments = [value.clone() for state in trainer.optimizer.state.values() for value in state.values()]
        seen[row["step"]] = weights(trainer), moments

    trainer.step_listeners.append(look)
    trainer.train()
    for step in (2, 3):
        assert torch.equal(seen[1][0], seen[step][0])
        assert all(torch.equal(a, b) for a, b in zip(seen[1][1], seen[step][1], strict=True))
    assert not torch.equal(seen[3][0], seen[4][0])
    rows = metrics(trainer)
    assert [row["steps_not_finite"] for row in rows] == [0, 1, 2, 2]
    assert ["loss" in row for row in rows] == [True, False, False, True]
    assert trainer.ledger.steps_not_finite == 2
    assert trainer.ledger.policy_updates == 2
    assert trainer.ledger.steps_without_live_group == 0


def test_a_gradient_alone_that_is_not_finite_is_skipped_too(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(preset="grpo", max_steps=1)
    before = weights(trainer)
    next(trainer.model.parameters()).register_hook(lambda gradient: gradient * math.inf)
    trainer.train()
    assert torch.equal(before, weights(trainer))
    assert metrics(trainer)[0]["steps_not_finite"] == 1
    assert math.isfinite(metrics(trainer)[0]["loss"])


def test_too_many_in_a_row_end_the_run_with_the_last_good_checkpoint(
    make_trainer: MakeTrainer, poisoned: Any, tmp_path: Path
) -> None:
    poisoned({1, 2, 4, 5, 6}, NAN)
    settings = {"preset": "grpo", "save_strategy": "steps", "save_steps": 3, "max_steps": 9, "max_nonfinite_steps": 3}
    checkpoint = tmp_path / "run" / "checkpoint-3"
    trainer = make_trainer(**settings)
    with pytest.raises(UserError, match="not finite in 3 steps in a row, up to step 6") as caught:
        trainer.train()
    assert str(checkpoint) in str(caught.value)
    assert [row["steps_not_finite"] for row in metrics(trainer)] == [1, 2, 2, 3, 4, 5]
    assert not (tmp_path / "run" / "checkpoint-6").exists()


def test_the_count_in_a_row_outlives_a_resume(make_trainer: MakeTrainer, poisoned: Any) -> None:
    poisoned({1, 2, 3}, NAN)
    settings = {"preset": "grpo", "save_strategy": "steps", "save_steps": 1, "max_nonfinite_steps": 3}
    make_trainer(**settings, max_steps=2).train()
    with pytest.raises(UserError, match="not finite in 3 steps in a row, up to step 3"):
        make_trainer(**settings, max_steps=4).train(resume_from_checkpoint=True)


def test_a_model_whose_weights_are_not_finite_is_named(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(preset="grpo")

    def ruin(_: dict[str, Any]) -> None:
        with torch.no_grad():
            next(trainer.model.parameters()).fill_(NAN)

    trainer.step_listeners.append(ruin)
    with pytest.raises(UserError, match=r"weights are not finite.*go back to an earlier checkpoint"):
        trainer.train()


# Trackers


class Unreachable(TrainerCallback):  # type: ignore[misc]
    """A tracker whose server does not answer."""

    asked = 0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        Unreachable.asked += 1
        raise ConnectionError("no route to host")

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        Unreachable.asked += 1


def test_a_tracker_that_cannot_be_reached_is_left_out_with_one_warning(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "unreachable", Unreachable)
    Unreachable.asked = 0
    trainer = make_trainer(preset="masa", report_to=["unreachable"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train()
    words = [str(w.message) for w in caught if "left out from here on" in str(w.message)]
    assert words == [
        "Unreachable failed and is left out from here on (ConnectionError: no route to host); "
        "metrics.jsonl has every step"
    ]
    assert Unreachable.asked == 1
    assert len(metrics(trainer)) == 3


def test_other_callbacks_may_still_end_a_run(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(preset="masa")
    trainer.add_callback(Unreachable())
    with pytest.raises(ConnectionError):
        trainer.train()
