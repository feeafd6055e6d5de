"""A step of the trainer with everything of verl's that runs without a GPU.

Real are Ray, the queue, the loaders, the agent loop's and reward loop's workers, the replay buffer and the GRPO
advantages; the rollout server gives scripted answers, and nothing is balanced over or updated on GPUs.
"""

import sys

import pytest

pytest.importorskip("verl", reason="needs verl: make test-verl")

import ray
import torch
import transfer_queue as tq
from ray import cloudpickle
from verl.experimental.reward_loop import RewardLoopManager
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
from verl.trainer.ppo.v1 import AgentLoopManagerTQ, get_trainer_cls
from verl.utils.config import validate_config
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.replica import TokenOutput

from masa.errors import UserError
from masa.integrations.verl.trainer import MASATrainerVerl, last_outputs

SOLUTIONS = {  # of "What is 2+3?": p = 3/4, one of them cut at the limit; of "What is 7-4?": never solved
    "2+3": ["by carrying \\boxed{5}", "carrying: \\boxed{5}", "it is \\boxed{6}", "\\boxed{5}" + "." * 200],
    "7-4": ["\\boxed{1}", "\\boxed{1}", "\\boxed{2}", "\\boxed{4}"],
}
PREDICTIONS = {
    "2+3": [
        '</meta>{"math_notion": ["carrying"], "pass_rate": 6, "solution_length": 15}',
        '</meta>{"math_notion": ["luck"], "pass_rate": 6, "solution_length": 100}',
    ],
    "7-4": ['</meta>{"math_notion": [], "pass_rate": 0, "solution_length": 15}', '</meta>{"pass_rate": 8}'],
}


class ScriptedServer(LLMServerClient):
    """Answers each prompt with the next text of its script."""

    def __init__(self, config, tokenizer):
        super().__init__(config)
        self.tokenizer = tokenizer
        self.asked = {}

    async def generate(self, request_id, *, prompt_ids, sampling_params, **kwargs):
        prompt = self.tokenizer.decode(prompt_ids)
        script = SOLUTIONS if "Box it." in prompt else PREDICTIONS
        (name,) = [name for name in script if name in prompt]
        turn = self.asked[prompt] = self.asked.get(prompt, -1) + 1
        ids = [*self.tokenizer.encode(script[name][turn]), self.tokenizer.eos_token_id]
        limit = self.config.actor_rollout_ref.rollout.response_length
        return TokenOutput(token_ids=ids[:limit], log_probs=[0.0] * len(ids[:limit]))


class WithoutModel(MASATrainerVerl):
    """The trainer less what needs the policy."""

    def on_sample_end(self):
        pass

    def _balance_batch(self, batch, metrics, **kwargs):
        return upsample_batch_to_divisible_size(batch, 5, self.tokenizer.eos_token_id)  # as verl pads for its workers

    def _update_actor(self, batch, metrics):
        return batch


@pytest.fixture(scope="module")
def _ray():
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    environment = {"VERL_USE_EXTERNAL_MODULES": "masa.integrations.verl", "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=4, include_dashboard=False, runtime_env={"env_vars": environment})
    yield
    ray.shutdown()


@pytest.fixture
def trainer(_ray, make_config, tokenizer):
    config = make_config(
        "+data.masa.predictions=2",
        "+data.masa.template=brief",
        "algorithm.rollout_correction.bypass_mode=true",  # log-probabilities are the rollout's
        "reward.num_workers=1",
        "actor_rollout_ref.rollout.agent.num_workers=1",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    )
    tq.init(config.transfer_queue)
    trainer = WithoutModel(config)
    trainer.global_steps = 1
    trainer._init_tokenizer()
    trainer._init_dataloader()
    trainer.reward_loop_manager = RewardLoopManager(config)
    trainer.agent_loop_manager = AgentLoopManagerTQ.create(
        config=config,
        llm_client=ScriptedServer(config, tokenizer),
        teacher_client=None,
        reward_loop_worker_handles=trainer.get_reward_handles(),
    )
    yield trainer
    tq.close()


def test_a_step_rewards_predictions_against_their_own_group(trainer):
    assert trainer.steps_per_epoch == 2
    metrics = {}
    batch = trainer.step(metrics, {})

    fields = ["rm_scores", "advantages", "is_meta", "masa_problem", "uid", "responses"]
    data = tq.kv_batch_get(keys=batch.keys, partition_id="train", select_fields=fields)
    rows = {}
    for i, tag in enumerate(batch.tags):
        if tag.get("is_padding"):
            assert not data["rm_scores"][i].any()
            continue
        name = (data["masa_problem"][i], bool(data["is_meta"][i]))
        rows.setdefault(name, []).append(i)
        # verl takes the sum over tokens; the reward stands at the last one
        assert not data["rm_scores"][i][:-1].any()
        assert len(data["rm_scores"][i]) == len(data["responses"][i])
    sizes = {name: len(places) for name, places in rows.items()}
    assert sizes == {
        ("What is 2+3?", False): 4,
        ("What is 2+3?", True): 2,
        ("What is 7-4?", False): 4,
        ("What is 7-4?", True): 2,
    }
    assert len({data["uid"][places[0]] for places in rows.values()}) == 4  # four groups for verl

    def rewards(*name):
        return sorted((float(data["rm_scores"][i][-1]) for i in rows[name]), reverse=True)

    assert rewards("What is 2+3?", False) == [1, 1, 1, 0]
    assert rewards("What is 7-4?", False) == [0, 0, 0, 0]
    # p = 3/4; "carrying" is in two right solutions; C leaves out the one that was cut.
    right = [len(data["responses"][i]) for i in rows["What is 2+3?", False] if data["rm_scores"][i][-1] == 1]
    assert sorted(right) == [13, 16, 160]
    assert rewards("What is 2+3?", True) == pytest.approx([1, 1 / 3])
    assert rewards("What is 7-4?", True) == pytest.approx([1 / 3, 0.01 / 3])

    for places in rows.values():
        scores = torch.stack([data["rm_scores"][i][-1] for i in places])
        advantages = torch.stack([data["advantages"][i][-1] for i in places])
        torch.testing.assert_close(advantages, (scores - scores.mean()) / (scores.std() + 1e-6))

    assert metrics["masa/reward/meta"] == pytest.approx((1 + 1 / 3 + 1 / 3 + 0.01 / 3) / 4)
    assert metrics["masa/pass_rate"] == pytest.approx(3 / 8)
    assert metrics["masa/awareness/valid_share"] == pytest.approx(3 / 4)
    assert metrics["masa/predictions_without_outcome"] == 0


def test_the_trainer_stands_in_verls_registry_and_is_synchronous(make_config):
    trainer = get_trainer_cls("masa")(make_config())
    assert type(trainer) is MASATrainerVerl
    assert trainer.trainer_mode == trainer.replay_buffer.trainer_mode == "sync"
    assert type(trainer.replay_buffer).__name__ == "ReplayBuffer"


def test_mini_batches_count_problems_with_all_their_rows(make_config):
    lines = (
        "+data.masa.predictions=2",
        "actor_rollout_ref.actor.ppo_mini_batch_size=2",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1",
    )
    config = make_config(*lines)
    validate_config(config, use_reference_policy=False, use_critic=False)  # as verl does before there is a trainer
    trainer = MASATrainerVerl(config)
    trainer.global_steps = 1
    assert trainer._get_required_batch_multiple(dp_size=4) == 2 * (4 + 2)  # the step's rows: one update, no padding
    with pytest.raises(UserError, match=r"1 problems of 7 rows each.*rollout.n, 4"):
        MASATrainerVerl(make_config("+data.masa.predictions=3", "actor_rollout_ref.actor.ppo_mini_batch_size=1"))


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("algorithm.filter_groups.enable=true", "filter_groups"),
        ("reward.reward_manager.name=naive", "reward_manager.name must be masa"),
        ("reward.reward_model.enable=true", "reward_model"),
        ("trainer.v1.sampler.sync_refill_failed_groups=true", "sync_refill"),
        ("+trainer.v1.masa.parameter_sync_step=2", "parameter_sync_step"),
    ],
)
def test_what_would_train_on_unrewarded_predictions_is_refused(make_config, line, word):
    with pytest.raises(UserError, match=word):
        MASATrainerVerl(make_config(line))


def test_of_several_outputs_of_a_rollout_the_last_counts():
    assert last_outputs(["a_0_0", "a_1_0", "a_0_10", "a_0_9"]) == ["a_0_10", "a_1_0"]


def test_another_minor_version_is_refused(make_config, monkeypatch):
    monkeypatch.setattr("verl.__version__", "0.10.0")
    with pytest.raises(UserError, match=r"this is 0.10.0: install verl==0.9.1"):
        MASATrainerVerl(make_config())


def test_another_data_set_is_refused(make_config):
    trainer = MASATrainerVerl(make_config("data.custom_cls.path=null"))
    trainer._init_tokenizer()
    with pytest.raises(UserError, match="MASADataset"):
        trainer._init_dataloader()
