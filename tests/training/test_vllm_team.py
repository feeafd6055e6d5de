"""Two processes, each with a vLLM of its own, for which a stub stands: equal seeds give equal rollouts."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from team import EFFICIENT, assert_same_run, train
from test_sharding import NO_SFT, needed

from masa.errors import UserError
from masa.rollout import vllm_worker
from masa.runs import RunFolder
from masa.training.config import MASAConfig
from masa.training.support import refuse, unsupported

sys.path.append(str(Path(__file__).parents[1] / "rollout"))

from stub_worker import NOTES, SECRET, interpreter, listening, notes

EVALUATED = {"test": {"evaluate": True}, "per_device_eval_batch_size": 4}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings by which each process starts a stub, which keeps notes in the folder `notes`."""
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv(NOTES, str(tmp_path / "notes"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    # The stub's probabilities are far from the learner's: without a lower bound the ratio would leave no gradient.
    bounded = {"vllm_importance_sampling_mode": "token_truncate", "vllm_importance_sampling_clip_min": 0.5}
    return {"use_vllm": True, "vllm_python": str(interpreter(tmp_path)), **bounded, **EFFICIENT}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings for the first of two free ports one after the other, where nobody listens yet."""
    monkeypatch.setenv(vllm_worker.TOKEN, SECRET)
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
        try:
            socket.create_server(("127.0.0.1", port + 1)).close()
            break
        except OSError:
            continue
    server = {"vllm_mode": "server", "vllm_server_host": "127.0.0.1", "vllm_server_port": port}
    return {"use_vllm": True, "vllm_server_timeout": 1.0, **server, **EFFICIENT}


def test_two_processes_train_the_policy_that_one_trains(tmp_path: Path, own: dict[str, Any]) -> None:
    for processes, name in ((1, "alone"), (2, "pair")):
        done = train(processes, tmp_path / name, **own, **EVALUATED)
        assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "alone", tmp_path / "pair")
    steps = RunFolder.open(tmp_path / "pair").read_metrics()
    assert all(step["importance/gap"] > 1 for step in steps)  # the stub says -0.5 of every token
    assert all(step["grad_norm"] > 0.01 for step in steps)
    evaluation = json.loads((tmp_path / "pair" / "evaluation.json").read_text())
    assert 0 < evaluation["eval_reward"] < 1

    _, *workers = sorted(notes(tmp_path / "notes"), key=lambda worker: -sum(map(len, worker[1:])))
    assert len(workers) == 2
    for environment, *asked in workers:
        assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} & environment.keys()
        assert not [name for name in environment if name.startswith("TORCHELASTIC")]
        assert len(asked) > 5  # something in every step
    assert not list(tmp_path.glob("masa-vllm-*"))


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["fsdp2", "zero2", "zero3"])
def test_sharded_weights_and_vllm_train_what_one_process_trains(
    tmp_path: Path, own: dict[str, Any], launch: str
) -> None:
    gathered = {"ds3_gather_for_generation": True} if launch == "zero3" else {}
    settings = own | NO_SFT | gathered
    spread = {"launch": {"name": launch, "ACCELERATE_MIXED_PRECISION": "no"}}
    for processes, name, more in ((1, "alone", {}), (2, "spread", spread)):
        needs = needed(launch) if more else {}
        done = train(processes, tmp_path / name, **settings, **needs, test={"dtype": "float32"} | more)
        assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "alone", tmp_path / "spread")
    assert all(step["grad_norm"] > 0.01 for step in RunFolder.open(tmp_path / "spread").read_metrics())


def test_a_worker_that_is_killed_ends_all_processes(tmp_path: Path, own: dict[str, Any]) -> None:
    done = train(2, tmp_path / "run", **own | {"test": {"reward": "killing_the_second_processes_worker"}})
    assert done.returncode != 0
    assert done.stderr.count("was ended by signal 9") == 1
    assert "EndedElsewhere" not in done.stderr
    everybody = psutil.process_iter(["environ"])
    left = [process for process in everybody if (process.info["environ"] or {}).get("TMPDIR") == str(tmp_path)]
    assert not psutil.wait_procs([process for process in left if process.pid != os.getpid()], timeout=20)[1]


def test_each_process_asks_the_server_on_a_port_of_its_own(tmp_path: Path, served: dict[str, Any]) -> None:
    port = served["vllm_server_port"]
    with listening(port):
        done = train(2, tmp_path / "run", **served, max_steps=1)
        assert done.returncode != 0
        assert f"the vLLM worker at 127.0.0.1:{port + 1} is not there after 1 s" in done.stderr
        assert f"127.0.0.1:{port} " not in done.stderr
        assert "EndedElsewhere" not in done.stderr
    with listening(port), listening(port + 1):
        done = train(2, tmp_path / "run", **served, max_steps=1)
        assert done.returncode == 0, done.stderr


def test_vllm_inside_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MASAConfig, "world_size", 8)
    for settings, is_served in (({}, False), ({"vllm_python": "python"}, True), ({"vllm_mode": "server"}, True)):
        config = MASAConfig(use_vllm=True, use_cpu=True, **settings)
        reasons = [reason for reason in unsupported(config, train_dataset=None) if "vllm" in reason]
        assert not reasons if is_served else len(reasons) == 1
    with pytest.raises(
        UserError, match=r"use_vllm inside several processes \(give each a vLLM of its own: vllm_python\)"
    ):
        refuse(MASAConfig(use_vllm=True, use_cpu=True), unsupported(MASAConfig(use_vllm=True), train_dataset=None))
