"""Weights that are spread over two processes (FSDP2) reach the vLLM of each as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vllm
LIMIT = 600.0
"""Seconds."""


def test_a_sharded_model_is_rolled_out_as_the_whole_one(vllm_python: str) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = Path(__file__).with_name("sharded_rollouts.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, str(script), vllm_python], capture_output=True, text=True, env=environment, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
