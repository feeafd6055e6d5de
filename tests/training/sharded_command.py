"""`masa` as `accelerate launch --config_file configs/launch/NAME.yaml` would start it, in float32 on a CPU.

torchrun --nproc_per_node 2 sharded_command.py NAME train ...
"""

from __future__ import annotations

import sys

import sharding_on_cpu

from masa.cli import main

if __name__ == "__main__":
    sharding_on_cpu.launch(sys.argv.pop(1), ACCELERATE_MIXED_PRECISION="no")
    main()
