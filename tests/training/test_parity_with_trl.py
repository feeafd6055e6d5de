"""Preset `grpo` against TRL's own GRPOTrainer on the same rollouts: loss and gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_run import parity_of_length, sums
from trl import GRPOConfig, GRPOTrainer

from masa.training.trainer import MASATrainer

GROUP = 4


def half_dead(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    """Varies on odd problems and is constant on even ones."""
    varied = parity_of_length(completions)
    return [
        reward if int(prompt[0]["content"].split()[0]) % 2 else 1.0
        for prompt, reward in zip(prompts, varied, strict=True)
    ]


def trl_reference(trainer: MASATrainer, model: Any, loss_type: str, tokenizer: Any, output: str, **extra: Any) -> Any:
    """TRL's trainer on the same model, made to take our trainer's rollouts as its own generation."""
    experience = trainer._experience
    assert experience is not None
    groups = experience.groups
    args = GRPOConfig(
        output_dir=output,
        per_device_train_batch_size=len(groups) * GROUP,
        num_generations=GROUP,
        max_completion_length=trainer.args.max_completion_length,
        loss_type=loss_type,
        epsilon_high=0.28,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to="none",
        **extra,
    )
    reference = GRPOTrainer(model, parity_of_length, args=args, train_dataset=sums(12), processing_class=tokenizer)
    ids = [list(rollout.token_ids) for group in groups for rollout in group.solution.rollouts]
    reference._generate_single_turn = lambda *_, **__: (ids, None)
    reference.model.train()
    reference.current_gradient_accumulation_steps = 1
    rows = [dict(group.row) for group in groups for _ in range(GROUP)]
    return reference, reference._generate_and_score_completions(rows)


def accumulate(trainer: Any, batches: list[dict[str, torch.Tensor]]) -> tuple[float, torch.Tensor]:
    trainer.model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        total += loss.item()
    return total, torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo", "cispo"])
@pytest.mark.parametrize("scale_rewards", ["group", "none"])
@pytest.mark.parametrize("packed_update", [True, False])
def test_loss_and_gradients_equal_trl(
    make_trainer: Callable[..., MASATrainer],
    make_model: Any,
    tokenizer: Any,
    tmp_path: Any,
    loss_type: str,
    scale_rewards: str,
    packed_update: bool,
) -> None:
    model = make_model(seed=3)
    twin = copy.deepcopy(model)
    trainer = make_trainer(
        half_dead,
        model=model,
        loss_type=loss_type,
        loss_denominator="all",
        scale_rewards=scale_rewards,
        micro_batch_rows=6,
        packed_update=packed_update,
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    trainer._experience = experience = trainer.experience.make(1)
    batches = trainer._micro_batches(experience)
    assert {group.solution.is_live for group in experience.groups} == {True, False}
    assert sum(len(batch["advantages"]) for batch in batches) < len(experience.rows)  # rows were really dropped
    assert sum(len(batch["advantages"]) > 0 for batch in batches) > 1

    reference, batch = trl_reference(
        trainer, twin, loss_type, tokenizer, str(tmp_path / "trl"), scale_rewards=scale_rewards
    )
    rewards = torch.tensor([reward for group in experience.groups for reward in group.solution.rewards])
    advantages = torch.tensor([a for group in experience.groups for a in group.solution.advantages])
    assert rewards.unique().numel() == 2, "the reward must vary for this test to mean anything"
    torch.testing.assert_close(advantages, batch["advantages"], atol=1e-5, rtol=1e-5)

    ours, ours_grad = accumulate(trainer, batches)
    assert (trainer.packed is not None and trainer.packed.is_on) == packed_update
    theirs, theirs_grad = accumulate(reference, [batch])
    assert theirs_grad.norm() > 0
    assert (ours_grad - theirs_grad).norm() / theirs_grad.norm() < 1e-5
    assert ours == pytest.approx(theirs, abs=1e-6)
