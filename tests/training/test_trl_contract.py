"""What we rely on in TRL's and transformers' private methods: a new version that changes it fails here, with a word."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any

import pytest
from small_run import sums
from transformers import Trainer
from trl import GRPOConfig, GRPOTrainer

from masa.training.trainer import MASATrainer

OVERRIDDEN = {
    "__init__": "model reward_funcs args train_dataset eval_dataset processing_class reward_processing_classes "
    "callbacks optimizers quantization_config peft_config tools rollout_func environment_factory",
    "_prepare_inputs": "generation_batch",
    "compute_loss": "model inputs return_outputs num_items_in_batch",
    "_get_per_token_logps_and_entropies": "model input_ids attention_mask logits_to_keep batch_size compute_entropy "
    "compute_aux_loss pixel_values image_grid_thw num_images pixel_attention_mask spatial_shapes num_tiles image_sizes "
    "token_type_ids mm_token_type_ids image_position_ids",
    "training_step": "model inputs num_items_in_batch",
    "_generate_single_turn": "prompt_ids images multimodal_fields num_generations has_tool_images",
    "get_train_dataloader": "",
    "_get_grad_norm": "model grad_norm",
    "_save_checkpoint": "model trial",
    "_load_optimizer_and_scheduler": "checkpoint",
}
CALLED = {
    "create_model_card": "model_name dataset_name tags",
    "save_model": "output_dir _internal_call",
    "_calculate_rewards": "inputs prompts completions completion_ids_list",
    "_tokenize_prompts": "prompts",
    "_get_output_dir": "trial",
    "_get_learning_rate": "",
}
MINOR = "1.16"


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_trl_is_the_minor_version_that_was_tested() -> None:
    assert version("trl").startswith(MINOR + "."), f"read the overrides in trainer.py against TRL {version('trl')}"


@pytest.mark.parametrize("name", [*OVERRIDDEN, *CALLED])
def test_private_methods_have_the_signature_we_wrote_against(name: str) -> None:
    wanted = (OVERRIDDEN | CALLED)[name].split()
    assert parameters(getattr(GRPOTrainer, name)) == wanted, f"GRPOTrainer.{name} has changed: check masa's use of it"


def test_every_override_of_a_trl_method_is_under_contract() -> None:
    own = {name for name, value in vars(MASATrainer).items() if inspect.isfunction(value)}
    inherited = {name for name in own if hasattr(Trainer, name) or hasattr(GRPOTrainer, name)}
    assert inherited - {"train", "_fill_trl_logs"} == set(OVERRIDDEN)


def test_experience_has_the_keys_that_the_loss_reads(make_model: Any, tokenizer: Any, tmp_path: Any) -> None:
    args = GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=6,
        bf16=False,
        use_cpu=True,
        report_to="none",
    )
    trainer = GRPOTrainer(
        make_model(),
        lambda completions, **_: [0.0] * len(completions),
        args=args,
        train_dataset=sums(4),
        processing_class=tokenizer,
    )
    rows = [{"prompt": [{"role": "user", "content": "1"}], "answer": "1"}] * 4
    trainer.model.train()
    assert set(trainer._generate_and_score_completions(rows)) == {
        "prompt_ids",
        "prompt_mask",
        "completion_ids",
        "completion_mask",
        "advantages",
        "num_items_in_batch",
    }
    assert {"_step", "_metrics", "_logs", "_buffered_inputs"} <= set(vars(trainer))
