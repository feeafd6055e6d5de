"""Two processes train the policy that one trains: the same problems, rollouts and weights."""

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


def assert_alike(ours: Any, theirs: Any) -> None:
    """Equal up to rounding, times apart."""
    if isinstance(ours, dict):
        names = {name for name in ours if not name.startswith("time/") and name != "seconds"}
        assert names == {name for name in theirs if not name.startswith("time/") and name != "seconds"}
        for name in names:
            assert_alike(ours[name], theirs[name])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for left, right in zip(ours, theirs, strict=True):
            assert_alike(left, right)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    else:
        assert ours == theirs


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("alone") / "run"
    done = train(1, output, **EFFICIENT, **SAVING)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pair") / "run"
    done = train(2, output, **EFFICIENT, **SAVING)
    assert done.returncode == 0, done.stderr
    return output


def test_two_processes_train_the_policy_that_one_trains(alone: Path, pair: Path) -> None:
    assert_same_run(alone, pair)
    rows = [json.loads((pair / f"rows-{rank}.json").read_text()) for rank in (0, 1)]
    assert all(sum(map(sum, of_rank)) for of_rank in rows)  # both had something to learn from
    whole = json.loads((alone / "rows-0.json").read_text())
    assert [sum(a) + sum(b) for a, b in zip(*rows, strict=True)] == [sum(step) for step in whole]


def test_metrics_are_written_once(pair: Path) -> None:
    assert [row["step"] for row in RunFolder.open(pair).read_metrics()] == list(range(1, STEPS + 1))
    assert [path.name for path in sorted(pair.glob("checkpoint-*"))] == [f"checkpoint-{n}" for n in range(1, STEPS + 1)]


def test_a_gate_may_leave_a_process_without_rows(tmp_path: Path) -> None:
    settings = {"preset": "masa-efficient", "parallel_steps": 0, "audit_rate": 0.0, "test": {"live_groups": 1}}
    settings |= {"per_device_eval_batch_size": 4}
    for processes, name in ((1, "alone"), (2, "pair")):
        settings["test"]["evaluate"] = processes == 2
        done = train(processes, tmp_path / name, **settings)
        assert done.returncode == 0, done.stderr
    rows = [json.loads((tmp_path / "pair" / f"rows-{rank}.json").read_text()) for rank in (0, 1)]
    assert any(sum(a) and not sum(b) for a, b in zip(*rows, strict=True))
    assert_same_run(tmp_path / "alone", tmp_path / "pair")
    evaluation = json.loads((tmp_path / "pair" / "evaluation.json").read_text())
    assert 0 < evaluation["eval_reward"] < 1


@pytest.mark.parametrize(("before", "after"), [pytest.param(1, 2, marks=pytest.mark.slow), (2, 1)])
def test_another_number_of_processes_goes_on(tmp_path: Path, alone: Path, before: int, after: int) -> None:
    run = tmp_path / "run"
    first = train(before, run, **EFFICIENT, **SAVING, max_steps=3)
    assert first.returncode == 0, first.stderr
    then = train(after, run, **EFFICIENT, **SAVING, test={"resume": True})
    assert then.returncode == 0, then.stderr
    assert_same_run(alone, run)


def test_an_error_of_one_process_ends_all_with_its_line(tmp_path: Path) -> None:
    done = train(2, tmp_path / "run", test={"reward": "raising_on_the_second_process"})
    assert done.returncode != 0
    assert "raised ZeroDivisionError: no such luck" in done.stderr
    assert "EndedElsewhere" not in done.stderr


def test_a_sharded_model_is_rolled_out_and_fine_tuned_as_the_whole_one() -> None:
    done = run([*TORCHRUN, "--nproc_per_node", "2", str(SCRIPT.with_name("sharded_run.py"))])
    assert done.returncode == 0, done.stderr
