"""Sharded training without a GPU: what `accelerate launch --config_file` would set up, over gloo on a CPU.

Accelerate takes up FSDP only where it has found several GPUs; here it is told that the processes of a CPU are such.
All else is accelerate's, transformers' and torch's own: wrapping, mesh, gradients, checkpoints.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import DistributedType, PartialState
from accelerate.utils.launch import prepare_multi_gpu_env

LAUNCH = Path(__file__).parents[2] / "configs/launch"


def launch(name: str, **changes: Any) -> None:
    """Give this process, which torchrun has started, what `configs/launch/NAME.yaml` gives it.

    Args:
        changes: environment variables with other values.
    """
    args, _, _ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", str(LAUNCH / f"{name}.yaml"), "script.py"])
    )
    wanted = prepare_multi_gpu_env(args)
    for variable, value in (wanted | changes).items():
        if variable.startswith(("ACCELERATE_", "FSDP_")):
            os.environ[variable] = value
    begin = PartialState.__init__

    def begun(self: PartialState, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = begun  # type: ignore[method-assign]
