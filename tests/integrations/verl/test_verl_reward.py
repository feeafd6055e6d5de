"""The reward manager, fed with verl's own batches."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("verl", reason="needs verl: make test-verl")

import torch
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.trainer.ppo.reward import load_reward_manager

from masa.errors import UserError
from masa.integrations.verl import MASARewardManager, compute_score


def item(tokenizer, text, *, is_meta=None, answer="42", kind="math"):
    """One rollout as verl's agent loop hands it to a reward worker."""
    responses = torch.tensor([tokenizer.encode(text)])
    prompts = torch.tensor([tokenizer.encode("What is 6*7?")])
    rows = {
        "data_source": "sums",
        "reward_model": {"ground_truth": answer},
        "extra_info": {"kind": kind},
        "__num_turns__": 2,
    }
    if is_meta is not None:
        rows["is_meta"] = is_meta
    return DataProto.from_dict(
        tensors={
            "prompts": prompts,
            "responses": responses,
            "attention_mask": torch.ones(1, prompts.shape[1] + responses.shape[1], dtype=torch.int64),
        },
        non_tensors={name: np.array([value]) for name, value in rows.items()},
    )


def score(manager, data):
    return manager.loop.run_until_complete(manager.run_single(data))


@pytest.fixture(autouse=True)
def _event_loop():
    asyncio.set_event_loop(asyncio.new_event_loop())


def test_it_stands_in_the_registry_that_verl_reads(make_config, tokenizer):
    assert get_reward_manager_cls("masa") is MASARewardManager
    assert type(load_reward_manager(make_config(), tokenizer)) is MASARewardManager


def test_solutions_are_scored_and_predictions_left(make_config, tokenizer):
    manager = load_reward_manager(make_config(), tokenizer)
    right = score(manager, item(tokenizer, "It is \\boxed{42}", is_meta=False))
    assert right == {"reward_score": 1.0, "reward_extra_info": {"score": 1.0, "acc": 1.0, "masa_correct": 1.0}}
    wrong = score(manager, item(tokenizer, "It is \\boxed{41}"))  # a validation row has no flag
    assert wrong["reward_score"] == wrong["reward_extra_info"]["masa_correct"] == 0.0
    meta = score(manager, item(tokenizer, '{"pass_rate": 8} \\boxed{42}', is_meta=True))
    assert meta == {"reward_score": 0.0, "reward_extra_info": {}}


def test_verls_own_managers_do_the_scoring(make_config, tokenizer):
    """DAPO's manager takes off up to 1 for the last 100 tokens; correctness is judged before that."""
    config = make_config(
        "+data.masa.reward_manager=dapo",
        "+reward.reward_kwargs.max_resp_len=110",
        "+reward.reward_kwargs.overlong_buffer_cfg.enable=true",
        "+reward.reward_kwargs.overlong_buffer_cfg.len=100",
        "+reward.reward_kwargs.overlong_buffer_cfg.penalty_factor=1.0",
        "+reward.reward_kwargs.overlong_buffer_cfg.log=true",
    )
    text = "." * 20 + "\\boxed{42}"
    data = item(tokenizer, text, is_meta=False)
    over = data.batch["responses"].shape[1] - 10
    result = score(load_reward_manager(config, tokenizer), data)
    assert float(result["reward_score"]) == pytest.approx(1 - over / 100)
    assert result["reward_extra_info"]["masa_correct"] == 1.0


def test_which_value_says_what_is_correct(make_config, tokenizer):
    strict = load_reward_manager(make_config("+data.masa.correct_threshold=2"), tokenizer)
    assert score(strict, item(tokenizer, "\\boxed{42}"))["reward_extra_info"]["masa_correct"] == 0.0
    named = load_reward_manager(make_config("+data.masa.correctness=exact"), tokenizer)
    with pytest.raises(UserError, match=r"correctness is 'exact'.*acc, score"):
        score(named, item(tokenizer, "\\boxed{42}"))
    with pytest.raises(UserError, match="cannot be 'masa' itself"):
        load_reward_manager(make_config("+data.masa.reward_manager=masa"), tokenizer)


def test_graders_as_a_reward_function():
    assert compute_score("any", "so \\boxed{1/2}", "0.5")["score"] == 1.0
    choice = {"kind": "choice", "choices": ["red", "green"], "index": None}
    assert compute_score("any", "The answer is B", "B", choice)["acc"] == 1.0
    assert compute_score("any", "The answer is A", "B", choice)["acc"] == 0.0
