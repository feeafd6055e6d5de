"""Sharded training without a GPU: what `accelerate launch --config_file` would set up, over gloo on a CPU.

Accelerate takes up FSDP only where it has found several GPUs; here it is told that the processes of a CPU are such.
All else is accelerate's, transformers' and torch's own: wrapping, mesh, gradients, checkpoints.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import transformers.training_args
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import DistributedType, PartialState
from accelerate.utils import DeepSpeedPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

LAUNCH = Path(__file__).parents[2] / "configs/launch"


def launch(name: str, **changes: Any) -> None:
    """Give this process, which torchrun has started, what `configs/launch/NAME.yaml` gives it.

    Args:
        changes: environment variables with other values.
    """
    args, config, _ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", str(LAUNCH / f"{name}.yaml"), "script.py"])
    )
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ",".join(config.deepspeed_config)
        wanted = prepare_deepspeed_cmd_env(args)[1]
        os.environ["DS_ACCELERATOR"] = "cpu"
        # Asked only of a GPU; processors compute in bfloat16, if slowly.
        transformers.training_args.is_torch_bf16_gpu_available = lambda: True
    else:
        wanted = prepare_multi_gpu_env(args)
    for variable, value in (wanted | changes).items():
        if variable.startswith(("ACCELERATE_", "FSDP_")):
            os.environ[variable] = value
    _take_processors_for_gpus()
    _shard_small_tensors()


def _take_processors_for_gpus() -> None:
    begin = PartialState.__init__

    def begun(self: PartialState, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = begun  # type: ignore[method-assign]


def _shard_small_tensors() -> None:
    """ZeRO-3 keeps tensors of less than 100,000 numbers whole, which are all that a test's model has."""
    begin = DeepSpeedPlugin.__post_init__

    def begun(self: DeepSpeedPlugin) -> None:
        begin(self)
        self.deepspeed_config["zero_optimization"]["stage3_param_persistence_threshold"] = 0

    DeepSpeedPlugin.__post_init__ = begun  # type: ignore[method-assign]
