"""`masa train` ended from outside: asked to leave, or killed, as often as it takes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from masa.runs import RunFolder
from masa.training.checkpoint import latest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


def start(run: Path, *, steps: int, resume: bool = False, processes: int = 1) -> subprocess.Popen[str]:
    values: dict[str, Any] = {"max_steps": steps, "parallel_steps": steps // 2, "problems_per_step": 2}
    values |= {"num_generations": 2, "max_completion_length": 48, "save_strategy": "steps", "save_steps": 1}
    values |= {"save_total_limit": 2, "heldout.data.size": 4, "heldout.solutions": 2, "heldout.every": 5}
    options = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.Popen(
        [
            sys.executable,
            *(launcher if processes > 1 else []),
            "-m",
            "masa.cli",
            "train",
            str(ROOT / "configs/tiny.yaml"),
            "--output",
            str(run),
            *options,
        ]
        + (["--resume"] if resume else []),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
    )


def finish(run: Path, *, steps: int, resume: bool = False) -> None:
    process = start(run, steps=steps, resume=resume)
    words = process.communicate(timeout=600)[1]
    assert process.returncode == 0, words


def written(run: Path) -> int:
    """When the run's metrics were last written; 0 if never."""
    path = RunFolder(run).metrics_path
    return path.stat().st_mtime_ns if path.exists() else 0


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int, since: int = 0) -> None:
    """Until the metrics, written after `since`, have the step, or the process has ended."""
    deadline = time.monotonic() + 120
    while process.poll() is None and (written(run) == since or (RunFolder(run).last_step() or 0) < step):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def contents(run: Path) -> dict[str, Any]:
    """All that the run says, without times."""
    folder = RunFolder.open(run)
    ledger = folder.read_ledger()
    ledger.pop("seconds")
    return {
        "metrics": [{k: v for k, v in row.items() if not k.startswith("time/")} for row in folder.read_metrics()],
        "evaluations": [{k: v for k, v in row.items() if k != "seconds"} for row in folder.read_evaluations()],
        "rollouts": [folder.read_rollouts(step) for step in folder.steps()],
        "ledger": ledger,
        "checkpoints": sorted(path.name for path in run.glob("checkpoint-*")),
        "hidden": sorted(path.name for path in run.rglob(".*")),
    }


def assert_same(run: Path, whole: Path, steps: int) -> None:
    found, expected = contents(run), contents(whole)
    assert [row["step"] for row in found["metrics"]] == list(range(1, steps + 1))
    for part in expected:
        assert found[part] == expected[part], part
    there, here = load_file(whole / "model" / "model.safetensors"), load_file(run / "model" / "model.safetensors")
    assert all(there[name].equal(here[name]) for name in there)
    assert (run / "report.html").exists()


def test_sigterm_saves_and_the_rest_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish(whole, steps=8)
    process = start(run, steps=8)
    wait_for_step(process, run, 2)
    process.send_signal(signal.SIGTERM)
    words = process.communicate(timeout=120)[1]
    assert process.returncode == 143, words
    step = RunFolder.open(run).last_step()
    assert step is not None
    assert 2 <= step < 8
    assert "finishing this step" in words
    assert words.splitlines()[-1] == (
        f"stopped by SIGTERM after step {step}: checkpoint-{step} is saved in {run}, --resume goes on from it"
    )
    assert latest(run) == run / f"checkpoint-{step}"
    assert "Traceback" not in words
    finish(run, steps=8, resume=True)
    assert_same(run, whole, 8)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_several_processes_leave_together(tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    process = start(run, steps=8, processes=2)
    wait_for_step(process, run, 2)
    process.send_signal(number)
    words = process.communicate(timeout=120)[1]
    step = RunFolder.open(run).last_step()
    assert step is not None
    assert 2 <= step < 8
    assert words.count(f"checkpoint-{step} is saved in {run}, --resume goes on from it") == 1
    assert latest(run) == run / f"checkpoint-{step}"
    finish(run, steps=8, resume=True)  # in one process
    assert [row["step"] for row in RunFolder.open(run).read_metrics()] == list(range(1, 9))


@pytest.mark.slow
def test_fifty_kills_at_random_moments(tmp_path: Path) -> None:
    """Kills fall on starts, rollouts, updates, writes and evaluations alike, since they are drawn by time."""
    kills, steps = 50, 100
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish(whole, steps=steps)
    draw = random.Random(0)
    at: list[int] = []
    while len(at) < kills:
        last = latest(run) if run.exists() else None
        if last is None:
            shutil.rmtree(run, ignore_errors=True)  # before its first checkpoint a run starts anew
        before = written(run)
        process = start(run, steps=steps, resume=last is not None)
        if draw.random() < 0.9:  # else while it starts
            wait_for_step(process, run, 1 + (0 if last is None else int(last.name.partition("-")[2])), before)
            time.sleep(draw.uniform(0, 1.5))
        else:
            time.sleep(draw.uniform(0, 6))
        process.kill()
        words = process.communicate(timeout=60)[1]
        assert process.returncode in (-signal.SIGKILL, 0), words
        if process.returncode == 0:  # it came to its end: from the start
            assert_same(run, whole, steps)
            shutil.rmtree(run)
        else:
            at.append(RunFolder(run).last_step() or 0)
    print(json.dumps({"killed after steps": at}))
    if latest(run) is None:
        shutil.rmtree(run, ignore_errors=True)
    finish(run, steps=steps, resume=run.exists())
    assert_same(run, whole, steps)
