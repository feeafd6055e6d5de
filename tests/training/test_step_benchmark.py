"""The step benchmark runs, both trainers take their turns, and their losses agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "step.py"


@pytest.mark.slow
def test_one_json_object_with_both_trainers_and_equal_losses(tmp_path: Path) -> None:
    options = "--problems 4 --group 4 --steps 2 --repeats 1 --micro-batches 8 4 --json"
    command = [sys.executable, str(SCRIPT), *options.split(), "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    same = result["same_rollouts"]
    losses = list(same["loss"].values())
    assert len(losses) == 4
    assert max(losses) - min(losses) < 1e-5
    assert same["gradient_gap"] < 1e-5
    assert {name: len(rows) for name, rows in result["steps"]["steps"].items()} == {"trl": 2, "ours": 2}
    for row in result["steps"]["steps"]["ours"]:
        assert row["step"] == pytest.approx(row["generate"] + row["score"] + row["update"])
    (written,) = tmp_path.iterdir()
    assert "| **step** |" in written.read_text()
