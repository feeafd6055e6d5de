"""Weights sharded over two processes, as configs/launch has it, train the policy that one process trains.

DeepSpeed, no dependency of the project, is tried where it is installed (`DS_BUILD_OPS=0 pip install deepspeed`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sharding_on_cpu import LAUNCH
from team import EFFICIENT, SAVING, TORCHRUN, assert_alike, assert_same_run, run, train, weights
from transformers import AutoModelForCausalLM

from masa.errors import UserError
from masa.runs import RunFolder
from masa.training.checkpoint import STATE_FILE, latest
from masa.training.sharding import refuse_moved_weights

SHARDED_COMMAND = Path(__file__).with_name("sharded_command.py")
TINY = LAUNCH.parent / "tiny.yaml"
FSDP2 = {"name": "fsdp2", "ACCELERATE_MIXED_PRECISION": "no"}
ZERO3 = {"name": "zero3", "ACCELERATE_MIXED_PRECISION": "no"}
IN_SHARDS = FSDP2 | {"FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}
NO_SFT = {"preset": "masa-efficient", "parallel_steps": 2, "expert_sft": False}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}


def needed(launch: str) -> dict[str, Any]:
    """Settings that a launch config needs on a CPU; skips the test where DeepSpeed is needed and missing."""
    if not launch.startswith("zero"):
        return {}
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    return {"use_cpu": False, "ddp_backend": "gloo"}  # else accelerate sees one process


def train_both(folder: Path, *, launch: Any = FSDP2, test: Any = None, **settings: Any) -> tuple[Path, Path]:
    """The folders of a run of one process and of one with sharded weights."""
    sharded = {"test": (test or {}) | {"launch": launch}} | needed(launch["name"])
    for processes, name, own in ((1, "alone", {"test": test or {}}), (2, "sharded", sharded)):
        done = train(processes, folder / name, **settings, **own)
        assert done.returncode == 0, done.stderr
    return folder / "alone", folder / "sharded"


def assert_loads(checkpoint: Path, run: Path, dtype: torch.dtype = torch.float64) -> None:
    """A saved model holds the run's weights for those who know nothing of sharding."""
    loaded = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype).state_dict()
    expected = weights(run)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_sharded_weights_train_as_whole_ones_do(alone: Path, tmp_path: Path) -> None:
    done = train(2, tmp_path / "run", **EFFICIENT, **SAVING, test={"launch": FSDP2})
    assert done.returncode == 0, done.stderr
    assert_same_run(alone, tmp_path / "run")
    assert_loads(tmp_path / "run" / "checkpoint-5", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("launch", [FSDP2, IN_SHARDS], ids=["whole", "in shards"])
def test_a_run_goes_on_from_a_checkpoint(alone: Path, tmp_path: Path, launch: dict[str, str]) -> None:
    run = tmp_path / "run"
    first = train(2, run, **EFFICIENT, **SAVING, max_steps=3, test={"launch": launch})
    assert first.returncode == 0, first.stderr
    refused = train(1, run, **EFFICIENT, **SAVING, test={"resume": True})
    assert refused.returncode != 0
    assert "it was made with FSDP2, " in refused.stderr
    assert "this run has whole weights: use the same launch config" in refused.stderr
    then = train(2, run, **EFFICIENT, **SAVING, test={"launch": launch, "resume": True, "save_model": True})
    assert then.returncode == 0, then.stderr
    assert_same_run(alone, run)
    assert_loads(run / "model", run)


@pytest.mark.slow
def test_a_gate_may_leave_a_process_without_rows(tmp_path: Path) -> None:
    settings = {"preset": "masa-efficient", "parallel_steps": 0, "audit_rate": 0.0}
    alone, sharded = train_both(tmp_path, **settings, test={"live_groups": 1})
    rows = [json.loads((sharded / f"rows-{rank}.json").read_text()) for rank in (0, 1)]
    assert any(sum(a) and not sum(b) for a, b in zip(*rows, strict=True))
    assert_same_run(alone, sharded)


@pytest.mark.slow
def test_steps_without_a_row_or_a_finite_loss_change_nothing(tmp_path: Path) -> None:
    test = {"reward": "nothing_to_learn_at_step_2", "spoilt_step": 4}
    alone, sharded = train_both(tmp_path, preset="grpo", max_grad_norm=0.1, test=test)
    assert_same_run(alone, sharded)
    rows = [json.loads((sharded / f"rows-{rank}.json").read_text()) for rank in (0, 1)]
    assert [[sum(step) > 0 for step in of_rank] for of_rank in rows] == [[True, False, True, True, True]] * 2
    assert json.loads((sharded / "ledger.json").read_text())["steps_not_finite"] == 1


@pytest.mark.slow
def test_a_warm_start_comes_once_weights_are_sharded(tmp_path: Path) -> None:
    alone, sharded = train_both(tmp_path, **EFFICIENT, warm_start=4, warm_start_updates=2)
    assert_same_run(alone, sharded)


@pytest.mark.slow
def test_adapters_are_trained_too(tmp_path: Path) -> None:
    alone, sharded = train_both(tmp_path, **EFFICIENT, **SAVING, test={"dtype": "float32", "lora": LORA})
    assert_same_run(alone, sharded)


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["fsdp2", "zero2", "zero3"])
def test_launch_configs_as_they_are_train_in_half_precision(tmp_path: Path, launch: str) -> None:
    settings = (NO_SFT if launch.startswith("zero") else EFFICIENT) | needed(launch)
    test = {"launch": {"name": launch}, "dtype": "float32", "evaluate": True}
    done = train(2, tmp_path / "run", **settings, bf16=True, per_device_eval_batch_size=4, test=test)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "ledger.json").read_text())["steps_not_finite"] == 0
    assert 0 < json.loads((tmp_path / "run" / "evaluation.json").read_text())["eval_reward"] < 1


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["fsdp2", "zero3"])
def test_the_command_measures_before_and_after(tmp_path: Path, launch: str) -> None:
    settings = ["heldout.solutions=2", "max_steps=2", "expert_sft=false", "warm_start=0"]
    own = [f"{name}={value}" for name, value in ({"use_cpu": True, "bf16": False} | needed(launch)).items()]
    folders = tmp_path / "alone", tmp_path / "sharded"
    command = [["-m", "masa.cli"], [*TORCHRUN, "--nproc_per_node", "2", str(SHARDED_COMMAND), launch]]
    for start, folder, more in zip(command, folders, (["use_cpu=true"], own), strict=True):
        sets = [word for setting in [*settings, *more] for word in ("--set", setting)]
        done = run([*start, "train", str(TINY), "--output", str(folder), *sets])
        assert done.returncode == 0, done.stderr
    one, two = map(RunFolder.open, folders)
    assert [row["step"] for row in two.read_evaluations()] == [0, 2]
    assert_alike(one.read_evaluations(), two.read_evaluations())
    assert_alike(one.read_metrics(), two.read_metrics())
    ours, theirs = (AutoModelForCausalLM.from_pretrained(folder / "model").state_dict() for folder in folders)
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launch", "process", "settings", "step"),
    [
        (FSDP2, "0", {"preset": "grpo"}, 1),
        (FSDP2, "0", EFFICIENT, 4),  # with moments of expert SFT, which are spread too
        (IN_SHARDS, "1", {"preset": "grpo"}, 1),
        (ZERO3, "1", {"preset": "grpo"}, 1),
    ],
    ids=["whole", "whole, with expert SFT", "in shards", "zero3"],
)
def test_a_full_disk_ends_all_with_one_line(
    tmp_path: Path, launch: dict[str, str], process: str, settings: dict[str, Any], step: int
) -> None:
    run = tmp_path / "run"
    test = {"dtype": "float32", "launch": launch, "full_disk_of": process}
    saving = SAVING | {"save_steps": step}
    done = train(2, run, **settings, **saving, **needed(launch["name"]), test=test)
    assert done.returncode != 0
    assert f"UserError: disk full: checkpoint-{step} could not be saved" in done.stderr
    assert latest(run) is None
    assert not list(run.rglob(STATE_FILE))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_deepspeed_trains_as_one_process_does(tmp_path: Path, stage: str) -> None:
    launch = {"name": stage, "ACCELERATE_MIXED_PRECISION": "no"}
    test = {"dtype": "float32", "evaluate": True, "save_model": True}
    settings = NO_SFT | SAVING | {"per_device_eval_batch_size": 4}
    alone, sharded = train_both(tmp_path, launch=launch, test=test, **settings)
    assert_same_run(alone, sharded)
    assert_loads(sharded / "model", sharded, torch.float32)

    for later in ("checkpoint-4", "checkpoint-5"):
        shutil.rmtree(sharded / later)
    then = train(2, sharded, **settings, **needed(stage), test=test | {"launch": launch, "resume": True})
    assert then.returncode == 0, then.stderr
    assert_same_run(alone, sharded)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_steps_without_a_row_or_a_finite_loss_change_nothing_under_deepspeed(tmp_path: Path, stage: str) -> None:
    launch = {"name": stage, "ACCELERATE_MIXED_PRECISION": "no"}
    test = {"dtype": "float32", "reward": "nothing_to_learn_at_step_2", "spoilt_step": 4}
    alone, sharded = train_both(tmp_path, launch=launch, test=test, preset="grpo", max_grad_norm=0.1)
    assert_same_run(alone, sharded)
    assert json.loads((sharded / "ledger.json").read_text())["steps_not_finite"] == 1


def test_weights_that_deepspeed_moved_by_what_is_no_number_end_the_run() -> None:
    refuse_moved_weights(SimpleNamespace(optimizer_step_was_skipped=True))
    with pytest.raises(UserError, match="DeepSpeed has moved the weights by a gradient that is not finite"):
        refuse_moved_weights(SimpleNamespace(optimizer_step_was_skipped=False))
