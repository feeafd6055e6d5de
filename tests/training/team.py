"""Runs of one process and of several, and whether they are the same run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from masa.runs import RunFolder

SCRIPT = Path(__file__).with_name("team_run.py")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone"]
LIMIT = 300.0
"""Seconds."""
STEPS = 5
EFFICIENT = {"preset": "masa-efficient", "parallel_steps": 2, "expert_buffer_size": 6, "expert_threshold": 0.0}
SAVING = {"save_strategy": "steps", "save_steps": 1}


def train(processes: int, output: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Has that many processes train; `test` says what else they do."""
    output.mkdir(parents=True, exist_ok=True)
    file = output.parent / f"{output.name}.json"
    file.write_text(json.dumps({"output_dir": str(output), "max_steps": STEPS} | settings))
    launcher = [*TORCHRUN, "--nproc_per_node", str(processes)]
    return run([*(launcher if processes > 1 else []), str(SCRIPT), str(file)])


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Python with these arguments; processes that wait for each other for ever fail by the time limit."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=LIMIT)


def weights(output: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(output / "weights.pt", weights_only=True)
    return found


def assert_same_run(one: Path, two: Path) -> None:
    """Metrics, rollouts, ledger and weights of two runs agree, up to the order in which floats were summed."""
    a, b = RunFolder.open(one), RunFolder.open(two)
    assert a.steps() == b.steps()
    assert_alike([a.read_rollouts(step) for step in a.steps()], [b.read_rollouts(step) for step in b.steps()])
    assert_alike(a.read_metrics(), b.read_metrics())
    assert_alike(a.read_ledger(), b.read_ledger())
    ours, theirs = weights(one), weights(two)
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-6


def assert_alike(ours: Any, theirs: Any, *, rel: float = 1e-5) -> None:
    """Equal up to rounding, times apart."""
    if isinstance(ours, dict):
        names = {name for name in ours if not name.startswith("time/") and name != "seconds"}
        assert names == {name for name in theirs if not name.startswith("time/") and name != "seconds"}
        for name in names:
            # TRL's mean of its micro-batches' means, which depends on how rows fall on them.
            assert_alike(ours[name], theirs[name], rel=1e-3 if name == "entropy/live" else rel)
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for left, right in zip(ours, theirs, strict=True):
            assert_alike(left, right, rel=rel)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=rel, abs=1e-7)
    else:
        assert ours == theirs
