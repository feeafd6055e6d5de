"""verl's own configuration and a few problems; every test here needs verl, see `make test-verl`."""

from pathlib import Path

import pytest
from verl_rows import ANSWERS, PLUGIN, QUESTIONS, row, write_rows

from masa.tiny import MODEL_PATH


@pytest.fixture
def files(tmp_path):
    """Paths of training and validation problems in verl's form."""
    train = [row(question, answer) for question, answer in zip(QUESTIONS, ANSWERS, strict=True)]
    return write_rows(tmp_path / "train.jsonl", train), write_rows(tmp_path / "val.jsonl", train[:1])


@pytest.fixture
def make_config(files, tmp_path):
    """verl's resolved configuration with the plug-in switched on and further overrides."""
    import verl
    from hydra import compose, initialize_config_dir

    def make(*overrides):
        lines = [
            *PLUGIN,
            f"data.train_files={files[0]}",
            f"data.val_files={files[1]}",
            f"+data.cache_dir={tmp_path}",
            "data.train_batch_size=2",
            "data.max_prompt_length=2000",
            "data.max_response_length=160",
            "data.dataloader_num_workers=0",
            "data.shuffle=false",
            "+data.masa.min_length=8",
            "+data.masa.problem_key=extra_info.question",
            f"actor_rollout_ref.model.path={MODEL_PATH}",
            "actor_rollout_ref.rollout.name=vllm",
            "actor_rollout_ref.rollout.n=4",
            "algorithm.adv_estimator=grpo",
            "reward.custom_reward_function.path=pkg://masa.integrations.verl",
            *overrides,
        ]
        with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
            return compose("ppo_trainer", overrides=lines)

    return make


@pytest.fixture(scope="session")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL_PATH, local_files_only=True)
