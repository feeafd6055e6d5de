"""Learning from own texts: expert SFT inside RL, and the warm start before it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from masa.awareness import (
    ExpertBuffer,
    ExpertOptions,
    ExpertTrajectory,
    MetaPrompt,
    make_expert,
    resolve_template,
    warm_start_target,
)
from masa.seeding import Purpose, derive_random
from masa.training.config import MASAConfig
from masa.training.experience import Experience
from masa.training.groups import ProblemGroup
from masa.training.sft import Example, Imitation

if TYPE_CHECKING:
    from masa.training.trainer import MASATrainer


class ExpertLoop:
    """Collects expert trajectories and fine-tunes on them whenever the buffer is full (v1, Algorithm 1).

    Comes after the step's policy-gradient update and before its checkpoint.
    """

    def __init__(self, config: MASAConfig) -> None:
        self._is_on = bool(config.expert_sft)
        self._updates = config.expert_updates
        self._seed = config.seed
        self._options = ExpertOptions(
            min_length=config.min_solution_length,
            max_length=max(config.max_completion_length or 0, config.min_solution_length),
            threshold=config.expert_threshold,
            include_unsolved=bool(config.expert_include_unsolved),
            consistent=config.expert_consistent,
            notion_key=template_of(config).notion_key,
        )
        self.buffer = ExpertBuffer(config.expert_buffer_size)
        self._imitation: Imitation | None = None

    @property
    def has_imitated(self) -> bool:
        """Whether its optimizer has state."""
        return self._imitation is not None

    def imitation(self, trainer: MASATrainer) -> Imitation:
        """Expert SFT, with optimizer state of its own that lasts as long as the run."""
        if self._imitation is None:
            self._imitation = make_imitation(trainer, trainer.args.expert_learning_rate)
        return self._imitation

    def after_step(self, trainer: MASATrainer, experience: Experience) -> dict[str, float]:
        """Collect, and learn if there is enough; returns metrics of the update, if any."""
        if not self._is_on:
            return {}
        for group in experience.groups:
            self.buffer.add(self.trajectory(group, experience.step))
        metrics = self.buffer.metrics()
        if self.buffer.ready:
            trajectories = self.buffer.drain()
            examples = [trainer.example(item.prompt_ids, item.text) for item in trajectories]
            result = self.imitation(trainer).update(examples, self._updates)
            metrics |= {f"expert/{name}": value for name, value in result.items()}
            metrics["expert/updates"] = self._updates - result["skipped_updates"]
            metrics["expert/trajectories"] = float(len(trajectories))
        return metrics

    def trajectory(self, group: ProblemGroup, step: int) -> ExpertTrajectory | None:
        """The group's expert trajectory, if one of its predictions makes one."""
        if group.outcome is None or not group.meta.rewards:
            return None
        return make_expert(
            group.problem,
            group.meta.texts,
            group.meta.predictions,
            group.meta.rewards,
            group.outcome,
            self._options,
            run_seed=self._seed,
            step=step,
            prompt_ids=group.meta.prompt_ids,
        )

    def state_dict(self) -> dict[str, Any]:
        return self.buffer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.buffer.load_state_dict(state)


def make_imitation(trainer: MASATrainer, learning_rate: float | None) -> Imitation:
    """Fine-tuning of the policy with fresh optimizer state; the default learning rate is that of RL."""
    args: MASAConfig = trainer.args
    return Imitation(
        trainer.accelerator.unwrap_model(trainer.model),
        learning_rate=args.learning_rate if learning_rate is None else learning_rate,
        pad_token_id=trainer.processing_class.pad_token_id,
        max_grad_norm=args.max_grad_norm,
        micro_batch_rows=args.micro_batch_rows,
        autocast=trainer.accelerator.autocast,
        team=trainer.team,
        is_sharded=trainer.is_sharded,
    )


def warm_start(trainer: MASATrainer) -> dict[str, float]:
    """Teach the prediction's form and facts before any RL, from the initial policy's own rollouts alone.

    Samples solution and meta rollouts of `config.warm_start` problems, and fine-tunes on one target a problem: its
    expert trajectory, or where no prediction makes one, a meta rollout with the true statistics and notions put in
    (`warm_start_target`). Beside each target it rehearses one of the problem's solution rollouts as it was, right or
    wrong: these pull in no direction on average, and without them a small model answers every prompt with a
    prediction afterwards.
    """
    started = time.perf_counter()
    config: MASAConfig = trainer.args
    maker = trainer.experience
    keys = list(trainer.problem_keys)
    derive_random(config.seed, Purpose.WARM_START).shuffle(keys)
    groups = [maker.group(key) for key in keys[: config.warm_start]]
    maker.sample(groups, step=0)
    maker.reward_predictions(groups)
    examples = [example for group in groups for example in _warm_start_examples(trainer, group)]
    # Moments of the warm start have no place in expert updates of a policy that has moved on, hence its own.
    imitation = make_imitation(trainer, config.warm_start_learning_rate)
    order = derive_random(config.seed, Purpose.WARM_START, 1)
    result = imitation.update_in_batches(examples, config.warm_start_updates, config.micro_batch_rows, order)
    tokens = _tokens(groups)
    trainer.ledger.add(
        warm_start_tokens=tokens,
        expert_tokens=int(result["tokens"]),
        expert_updates=int(config.warm_start_updates - result["skipped_updates"]),
    )
    seconds = time.perf_counter() - started
    trainer.ledger.add_seconds(warm_start=seconds)
    return {f"warm_start/{name}": value for name, value in result.items()} | {
        "time/warm_start": seconds,
        "warm_start/generated_tokens": float(tokens),
        "warm_start/examples": float(len(examples)),
    }


def _warm_start_examples(trainer: MASATrainer, group: ProblemGroup) -> list[Example]:
    """The target and the rehearsal of one problem; nothing where correctness is unknown."""
    if group.outcome is None:
        return []
    config: MASAConfig = trainer.args
    expert = trainer.expert.trajectory(group, step=0)
    text = warm_start_target(
        group.meta.texts[0],
        group.outcome,
        group.problem.text,
        min_length=config.min_solution_length,
        max_length=config.max_completion_length or 0,
        notion_key=template_of(config).notion_key,
    )
    return [
        trainer.example(group.meta.prompt_ids, text if expert is None else expert.text),
        Example(group.solution.prompt_ids[0], group.solution.rollouts[0].token_ids),
    ]


def _tokens(groups: Sequence[ProblemGroup]) -> int:
    return sum(rollout.length for group in groups for part in (group.solution, group.meta) for rollout in part.rollouts)


def template_of(config: MASAConfig) -> MetaPrompt:
    """The meta prompt's template."""
    return resolve_template(config.meta_prompt)
