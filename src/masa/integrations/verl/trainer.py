"""verl's synchronous trainer, which rewards predictions once the step's solutions are graded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transfer_queue as tq
import verl
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.reward import resolve_reward_manager_cls
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from masa.awareness import resolve_template
from masa.errors import UserError
from masa.integrations.verl.dataset import MASADataset, Sampling
from masa.integrations.verl.reward import CORRECT, NAME, MASARewardManager
from masa.integrations.verl.scoring import Row, score_step
from masa.integrations.verl.settings import Settings
from masa.records import FinishReason

_FIELDS = ["responses", "response_mask", "rm_scores", "extra_fields", "is_meta", "masa_key", "masa_problem"]


@register_trainer(NAME)
class MASATrainerVerl(PPOTrainerSync):  # type: ignore[misc]
    """`PPOTrainerSync` with meta rewards: the method's parallel phase (preset `masa`), one policy for both prompts.

    Each step submits both rows of `train_batch_size` problems, waits for all of them, fills in the rewards of the
    predictions and goes on as verl does. A prompt's rollouts share verl's `uid`, which the two rows do not, so
    solution and meta group are normalised apart. Predictions of a problem none of whose solutions was graded keep 0,
    and with it advantage 0. `ppo_mini_batch_size` counts problems, with both their groups, so that a step has as many
    updates as it has without predictions.

    Only the synchronous mode has all groups of a step at hand: asynchronous ones train on whatever is finished first.

    Raises:
        UserError: for parts of verl's configuration that would train on predictions without their rewards.
    """

    def __init__(self, config: Any) -> None:
        self.settings = Settings.from_config(config.data)
        rollout = config.actor_rollout_ref.rollout
        self.sampling = Sampling(rollout.n, self.settings.predictions or rollout.n, rollout.agent.default_agent_loop)
        _refuse_what_does_not_fit(config)
        _count_mini_batches_in_problems(config, self.sampling)
        super().__init__(config)

    def _build_replay_buffer(self) -> Any:
        # verl's base class takes every name but "sync" for an asynchronous mode, here and after this call.
        self.trainer_mode = "sync"
        return super()._build_replay_buffer()

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        if not isinstance(self.train_dataset, MASADataset):
            raise UserError(
                "the trainer 'masa' needs its own data set: set data.custom_cls.path=pkg://masa.integrations.verl and "
                "data.custom_cls.name=MASADataset"
            )
        self.train_dataset.claim(self.sampling)
        if isinstance(self.val_dataset, MASADataset):
            self.val_dataset.claim(None)

    def _step_once(self, metrics: dict[str, Any], timing_raw: dict[str, Any], sample_batch_size: int) -> KVBatchMeta:
        return super()._step_once(metrics, timing_raw, 2 * sample_batch_size)  # prompts: two a problem

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        self._reward_predictions(batch, metrics)
        return super()._compute_advantage(batch, metrics)

    def _reward_predictions(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> None:
        """Write the meta rewards to `rm_scores`, at the last response token, and their means to `metrics`."""
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        keys = last_outputs(keys)
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=_FIELDS)
        rows = self._rows(data)
        step = score_step(
            rows,
            min_length=self.settings.min_length,
            max_length=self.config.data.max_response_length,
            notion_key=resolve_template(self.settings.template).notion_key,
            options=self.settings.reward_options(),
        )
        metrics.update(step.metrics(rows))
        rewarded = [(i, reward.total) for i, reward in enumerate(step.rewards) if reward is not None]
        if not rewarded:
            return
        scores = [reward_tensor(data["rm_scores"][i], total) for i, total in rewarded]
        tq.kv_batch_put(
            keys=[keys[i] for i, _ in rewarded],
            partition_id=batch.partition_id,
            fields=TensorDict(
                {"rm_scores": torch.nested.as_nested_tensor(scores, layout=torch.jagged)}, batch_size=len(scores)
            ),
        )

    def _rows(self, data: TensorDict) -> list[Row]:
        responses = [ids.tolist() for ids in data["responses"].unbind()]
        lengths = [int(mask.sum()) for mask in data["response_mask"].unbind()]
        texts = self.tokenizer.batch_decode(responses, skip_special_tokens=True)
        columns = [_values(data[name]) for name in ("extra_fields", "is_meta", "masa_key", "masa_problem")]
        limit = self.config.actor_rollout_ref.rollout.response_length
        rows = []
        for ids, length, text, extra, is_meta, key, problem in zip(responses, lengths, texts, *columns, strict=True):
            correct = (extra.get("reward_extra_info") or {}).get(CORRECT)
            # verl keeps no finish reason: a response at the limit that does not end in EOS was truncated.
            truncated = len(ids) >= limit and ids[-1] != self.tokenizer.eos_token_id
            reason = FinishReason.LENGTH if truncated else FinishReason.STOP
            is_correct = None if correct is None else bool(correct)
            rows.append(Row(str(key), bool(is_meta), str(problem), text, length, reason, is_correct))
        return rows


def reward_tensor(like: torch.Tensor, reward: float) -> torch.Tensor:
    """A reward in verl's form: zeros, [response tokens], with the reward at the last one."""
    scores = torch.zeros_like(like, dtype=torch.float32)
    scores[-1] = reward
    return scores


def last_outputs(keys: Sequence[str]) -> list[str]:
    """Of each rollout (`{uid}_{session}_{index}`) the last output: the one that verl's GRPO looks at."""
    last: dict[str, tuple[int, str]] = {}
    for key in keys:
        session, index = key.rsplit("_", 1)
        if session not in last or int(index) > last[session][0]:
            last[session] = (int(index), key)
    return [key for _, key in last.values()]


def _values(column: Any) -> list[Any]:
    """Plain values of a column that is not a tensor, however the queue wrapped them."""
    return [getattr(value, "data", value) for value in column]


def _count_mini_batches_in_problems(config: Any, sampling: Sampling) -> None:
    """Give `ppo_mini_batch_size` in verl's unit: G rows, of which a problem has (G + M) / G.

    It cannot be written so in the first place, as verl refuses more of them than `train_batch_size`.
    """
    rows = sampling.solutions + sampling.predictions
    sections = [config.actor_rollout_ref.actor, config.critic]
    problems = [section.ppo_mini_batch_size for section in sections]  # the critic's may refer to the actor's
    for section, number in zip(sections, problems, strict=True):
        if number * rows % sampling.solutions:
            raise UserError(
                f"ppo_mini_batch_size is {number}: {number} problems of {rows} rows each must be a multiple of "
                f"actor_rollout_ref.rollout.n, {sampling.solutions}"
            )
        section.ppo_mini_batch_size = number * rows // sampling.solutions


def _refuse_what_does_not_fit(config: Any) -> None:
    filtered = (config.algorithm.get("filter_groups") or {}).get("enable", False)
    for is_set, problem in (
        (
            not verl.__version__.startswith("0.9."),
            f"it overrides private methods of verl 0.9, and this is {verl.__version__}: install verl==0.9.1",
        ),
        (
            not issubclass(resolve_reward_manager_cls(config), MASARewardManager),
            "reward.reward_manager.name must be masa",
        ),
        (config.reward.reward_model.enable, "reward.reward_model.enable must be false: correctness comes from a rule"),
        (filtered, "algorithm.filter_groups.enable must be false: it would drop predictions before they are rewarded"),
        (
            config.trainer.v1.sampler.get("sync_refill_failed_groups", False),
            "trainer.v1.sampler.sync_refill_failed_groups must be false: it counts prompts, of which a problem has two",
        ),
        (
            config.trainer.v1.get(NAME, {}).get("parameter_sync_step", 1) != 1,
            "trainer.v1.masa.parameter_sync_step must be 1: parts of a step would part predictions from solutions",
        ),
    ):
        if is_set:
            raise UserError(f"the trainer 'masa' cannot run so: {problem}")
