"""`masa train` with its rollouts from vLLM, end to end on the bundled model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vllm
ROOT = Path(__file__).parents[2]


def test_a_run_with_rollouts_from_vllm(tmp_path: Path, vllm_python: str) -> None:
    settings = {
        "use_vllm": "true",
        "vllm_python": vllm_python,
        "vllm_gpu_memory_utilization": 0.05,
        "vllm_importance_sampling_mode": "token_truncate",
        "max_steps": 3,
        "parallel_steps": 2,
        "problems_per_step": 8,
        "max_completion_length": 64,
        "learning_rate": 1e-3,
        "heldout.data.size": 4,
        "heldout.solutions": 2,
        "heldout.predictions": 2,
    }
    command = [sys.executable, "-m", "masa.cli", "train", str(ROOT / "configs/tiny.yaml"), "--output", "run"]
    command += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert [step["phase"] for step in steps] == ["parallel", "parallel", "predictive"]
    # Were an update not sent, the policies of steps 2 and 3 would be another than the sampler's: the ratio tells.
    for step in steps:
        assert step["importance/ratio"] == pytest.approx(1, abs=1e-3)
        assert step["importance/gap"] < 1e-3
    assert steps[-1]["grad_norm"] > 0
    assert not list(tmp_path.glob("masa-vllm-*")), "the worker left files behind"
