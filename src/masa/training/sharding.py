"""Weights that are spread over processes (FSDP2, DeepSpeed): gathered for rollouts, sharded for the update."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from trl.models.utils import unwrap_model_for_generation

from masa.errors import UserError
from masa.rollout.llama import is_llama_shaped

if TYPE_CHECKING:
    from masa.training.config import MASAConfig
    from masa.training.trainer import MASATrainer


def is_sharded(backend: Any) -> bool:
    """Whether weights, gradients or optimizer state are spread; `backend` is TRL's `DistributedBackend`."""
    return bool(backend.zero_stage or backend.is_fsdp)


def kind(accelerator: Any) -> str:
    """How weights and moments are spread in checkpoints, which says how they can be read."""
    state = accelerator.state
    if (fsdp := getattr(state, "fsdp_plugin", None)) is not None:
        return f"FSDP{fsdp.fsdp_version}, {fsdp.state_dict_type.name.lower().removesuffix('_state_dict')} checkpoints"
    if (deepspeed := state.deepspeed_plugin) is not None:
        return f"ZeRO-{deepspeed.zero_stage} in {accelerator.num_processes} processes"
    return "whole weights"


def unserved(backend: Any, config: MASAConfig, model: nn.Module) -> list[str]:
    """What cannot be done with sharded weights, each with the remedy."""
    found = {
        "FSDP 1 (use fsdp_version: 2)": backend.is_fsdp and backend.fsdp_version != 2,
        "FSDP with a model other than Llama, Mistral, Qwen2 or Qwen3 (use data parallelism)": (
            backend.is_fsdp and not is_llama_shaped(model)
        ),
        "expert_sft under DeepSpeed (use FSDP2, or leave expert_sft off)": (
            bool(backend.zero_stage) and bool(config.expert_sft)
        ),
        "use_vllm under ZeRO-3 without ds3_gather_for_generation (set it)": (
            backend.zero_stage == 3 and config.use_vllm and not config.ds3_gather_for_generation
        ),
        "warm_start under DeepSpeed (use FSDP2, or fine-tune before)": (
            bool(backend.zero_stage) and bool(config.warm_start)
        ),
    }
    return [name for name, is_met in found.items() if is_met]


@contextmanager
def whole_weights(trainer: MASATrainer) -> Iterator[None]:
    """All weights on every process for as long as the context lasts; entered by all processes together."""
    modules = [module for module in trainer.model.modules() if isinstance(module, FSDPModule)]
    if modules:
        if not is_llama_shaped(trainer.model):
            raise RuntimeError("a module of the sharded model has changed: rollouts would call it and wait for ever")
        with unsharded(modules):
            yield
    elif not trainer.is_sharded or trainer.model_wrapped is trainer.model:  # before training nothing is sharded yet
        yield
    else:
        with unwrap_model_for_generation(
            trainer.model_wrapped,
            trainer.accelerator,
            gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
            gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
        ):
            yield


def leave_out_empty_passes(accelerator: Any) -> None:
    """Have a loss that no parameter takes part in do nothing.

    DeepSpeed, which takes the optimizer's step after the last backward pass, refuses such a pass; and after one that
    gives zeros its optimizers move weights by their momentum.
    """
    backward = accelerator.backward

    def backward_if_any(loss: Tensor, **kwargs: Any) -> None:
        if loss.requires_grad:
            backward(loss, **kwargs)

    accelerator.backward = backward_if_any


def refuse_moved_weights(accelerator: Any) -> None:
    """Called after a step whose gradient is not finite, which DeepSpeed skips where it looks for that.

    Raises:
        UserError: if it did not.
    """
    if not accelerator.optimizer_step_was_skipped:
        raise UserError(
            "DeepSpeed has moved the weights by a gradient that is not finite, which this version or config of it does "
            "not look for: set bf16.check_grad_overflow in its config, or use version 0.19.8"
        )


@contextmanager
def saved_whole(accelerator: Any) -> Iterator[None]:
    """FSDP saves a model as one, which others can load, even where it saves checkpoints in shards."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None:
        yield
        return
    asked = plugin.state_dict_type
    plugin.set_state_dict_type("FULL_STATE_DICT")
    try:
        yield
    finally:
        plugin.set_state_dict_type(asked)


@contextmanager
def unsharded(modules: list[FSDPModule]) -> Iterator[None]:
    """The modules' parameters as plain tensors.

    The engine reads weights and calls no module that FSDP wraps, so nothing gathers or frees them in between.
    """
    try:
        for module in modules:
            module.unshard()
        yield
    finally:
        for module in modules:
            module.reshard()
