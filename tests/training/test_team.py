"""Two processes train the policy that one trains: the same problems, rollouts and weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from team import EFFICIENT, SAVING, SCRIPT, STEPS, TORCHRUN, assert_same_run, run, train

from masa.runs import RunFolder


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


@pytest.mark.slow  # whole steps are run with sharded weights: see test_sharding.py
def test_a_sharded_model_is_rolled_out_and_fine_tuned_as_the_whole_one() -> None:
    done = run([*TORCHRUN, "--nproc_per_node", "2", str(SCRIPT.with_name("sharded_run.py"))])
    assert done.returncode == 0, done.stderr
