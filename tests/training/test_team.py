"""Two processes train the policy that one trains: the same problems, rollouts and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
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
    steps = RunFolder.open(pair).read_metrics()
    assert all(step["grad_norm"] > 1e-3 for step in steps)  # equal, and not for standing still


def test_metrics_are_written_once(pair: Path) -> None:
    assert [row["step"] for row in RunFolder.open(pair).read_metrics()] == list(range(1, STEPS + 1))
    assert [path.name for path in sorted(pair.glob("checkpoint-*"))] == [f"checkpoint-{n}" for n in range(1, STEPS + 1)]


def test_a_gate_may_leave_a_process_without_rows(tmp_path: Path) -> None:
    settings = {"preset": "masa-efficient", "parallel_steps": 0, "audit_rate": 0.0, "test": {"live_groups": 1}}
    settings |= {"per_device_eval_batch_size": 4, "optim": "sgd"}
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


def test_what_reward_functions_log_of_completions_is_one_table(tmp_path: Path) -> None:
    tables = []
    for processes, name in ((1, "alone"), (2, "pair")):
        settings: dict[str, Any] = {"max_steps": 2, "log_completions": True, "test": {"reward": "logging_columns"}}
        done = train(processes, tmp_path / name, preset="grpo", **settings)
        assert done.returncode == 0, done.stderr
        paths = sorted((tmp_path / name / "completions").glob("*.parquet"))
        tables.append([pq.read_table(path).to_pydict() for path in paths])
    alone, pair = tables
    assert len(alone) == len(pair) == 2
    for ours, theirs in zip(alone, pair, strict=True):
        assert ours["shouted"] == [text.upper() for text in texts_of(ours)]
        assert ours["shouted"] == theirs["shouted"]
        assert texts_of(ours) == texts_of(theirs)
        assert "too_few" not in ours.keys() | theirs.keys()
        is_logged = any("a" in text for text in texts_of(theirs))
        assert is_logged == ("a_count" in theirs)
        for text, count in zip(texts_of(theirs), theirs.get("a_count", []), strict=is_logged):
            assert count == text.count("a") if "a" in text else count in (None, 0)


def texts_of(table: dict[str, list[Any]]) -> list[str]:
    """The completions of a table, chat messages or text."""
    return [text if isinstance(text, str) else text[0]["content"] for text in table["completion"]]


def test_an_error_of_one_process_ends_all_with_its_line(tmp_path: Path) -> None:
    done = train(2, tmp_path / "run", test={"reward": "raising_on_the_second_process"})
    assert done.returncode != 0
    assert "raised ZeroDivisionError: no such luck" in done.stderr
    assert "EndedElsewhere" not in done.stderr


@pytest.mark.parametrize(
    ("signals", "steps"),
    [
        ([[0, "begin", 1], [1, "save", 2]], 2),  # the launcher's word comes late to one that knows already
        ([[1, "end", STEPS]], STEPS),  # and to one alone that has done its last step
    ],
)
def test_a_signal_that_one_process_gets_late_ends_all_in_order(
    tmp_path: Path, signals: list[list[Any]], steps: int
) -> None:
    run = tmp_path / "run"
    done = train(2, run, preset="grpo", save_strategy="no", test={"signals": signals})
    assert done.returncode == 0, done.stderr
    left = [(run / f"left-{rank}.txt").read_text() for rank in (0, 1)]
    assert left[0] == left[1]
    assert left[0].startswith(f"stopped by SIGTERM after step {steps}")
    assert RunFolder.open(run).last_step() == steps
    if steps < STEPS:
        assert (run / f"checkpoint-{steps}").is_dir()
        assert f"checkpoint-{steps} is saved in {run}" in left[0]


@pytest.mark.slow  # whole steps are run with sharded weights: see test_sharding.py
def test_a_sharded_model_is_rolled_out_and_fine_tuned_as_the_whole_one() -> None:
    done = run([*TORCHRUN, "--nproc_per_node", "2", str(SCRIPT.with_name("sharded_run.py"))])
    assert done.returncode == 0, done.stderr
