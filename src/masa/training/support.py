"""What MASA's own generation path can serve; everything else is TRL's, untouched, or refused in one line."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from torch import nn

from masa.errors import UserError
from masa.training.config import MASAConfig
from masa.training.microbatches import ROW_DROPPING_LOSSES

_LEARNED_POSITIONS = ("wpe", "embed_positions", "position_embeddings")


def needs_method(config: MASAConfig) -> bool:
    """Whether the settings use any part of the method, so that TRL's own path would not do."""
    return bool(config.num_meta_generations) or config.gate != "none" or config.refill != "none"


def unsupported(
    config: MASAConfig,
    *,
    train_dataset: Any,
    tools: Any = None,
    rollout_func: Any = None,
    environment_factory: Any = None,
) -> list[str]:
    """Settings that only TRL's own generation path serves, each with its name; known before a model is loaded."""
    columns = getattr(train_dataset, "column_names", None) or []
    found = {
        "tools": bool(tools),
        "rollout_func": rollout_func is not None,
        "environment_factory": environment_factory is not None,
        "use_transformers_continuous_batching": config.use_transformers_continuous_batching,
        "images": "image" in columns or "images" in columns,
        "a streaming dataset": not isinstance(train_dataset, Dataset),
        "num_iterations > 1": config.num_iterations > 1,
        "steps_per_generation other than gradient_accumulation_steps": (
            config.steps_per_generation != config.gradient_accumulation_steps
        ),
        "beta > 0 (a KL term)": config.beta != 0.0,
        "off_policy_mask_threshold": config.off_policy_mask_threshold is not None,
        "scale_rewards 'batch'": config.scale_rewards == "batch",
        "multi_objective_aggregation": config.multi_objective_aggregation != "sum_then_normalize",
        "min_p": config.min_p is not None,
        "repetition_penalty": config.repetition_penalty != 1.0,
        "generation_kwargs": bool(config.generation_kwargs),
        "cache_implementation": config.cache_implementation is not None,
        "use_vllm inside several processes (give each a vLLM of its own: vllm_python)": (
            config.use_vllm and config.world_size > 1 and config.vllm_mode == "colocate" and config.vllm_python is None
        ),
        "vllm_tensor_parallel_size > 1": config.use_vllm and config.vllm_tensor_parallel_size > 1,
        "vllm_enable_sleep_mode": config.use_vllm and config.vllm_enable_sleep_mode,
        "vllm_structured_outputs_regex": config.use_vllm and config.vllm_structured_outputs_regex is not None,
        "vllm_server_base_url (give host and port)": config.use_vllm and config.vllm_server_base_url is not None,
        "vllm_model_impl other than 'vllm'": config.use_vllm and config.vllm_model_impl != "vllm",
        f"loss_type {config.loss_type!r}": config.loss_type not in ROW_DROPPING_LOSSES,
    }
    return [name for name, is_used in found.items() if is_used]


def refuse(config: MASAConfig, reasons: list[str]) -> None:
    """Raise a UserError if the method is asked to serve what it cannot; without the method TRL's own path does."""
    if reasons and needs_method(config):
        raise UserError(
            f"preset {config.preset!r} does not serve {', '.join(reasons)} yet: leave it out, or use preset 'grpo' "
            "with num_meta_generations 0, gate 'none' and refill 'none', which keeps TRL's own path"
        )


def refuse_beside_vllm(config: MASAConfig, reasons: list[str]) -> None:
    """Raise a UserError for what was found out after TRL's own vLLM had been left to ours."""
    if reasons and config.use_vllm:
        raise UserError(f"use_vllm is not served for {', '.join(reasons)}: leave it out")


def has_learned_positions(model: nn.Module) -> bool:
    """Whether positions are looked up in a table, as in GPT-2.

    TRL pads prompts on the left and passes no position ids: harmless for rotary positions, wrong for a table.
    """
    return any(
        name.rsplit(".", 1)[-1] in _LEARNED_POSITIONS and isinstance(module, nn.Embedding)
        for name, module in model.named_modules()
    )


def can_drop_dead_rows(config: MASAConfig, *, aux_loss: bool) -> bool:
    """Whether rows with advantage 0 may skip the learner without changing loss or gradient.

    A term that acts on every token (entropy bonus, auxiliary loss of a mixture of experts) or a threshold taken
    over all tokens (entropy quantile) would miss them.
    """
    return not (
        config.entropy_coef != 0.0 or config.use_adaptive_entropy or config.top_entropy_quantile < 1.0 or aux_loss
    )
