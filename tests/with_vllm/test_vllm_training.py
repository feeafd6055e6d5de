"""`masa train` with its rollouts from vLLM, end to end on the bundled model, in one process and in two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from masa.rollout import vllm_worker

pytestmark = pytest.mark.vllm
ROOT = Path(__file__).parents[2]
LIMIT = 900.0
"""Seconds."""
SETTINGS = {
    "use_vllm": "true",
    "vllm_gpu_memory_utilization": 0.03,
    "vllm_importance_sampling_mode": "token_truncate",
    "parallel_steps": 2,
    "problems_per_step": 8,
    "max_completion_length": 64,
    "learning_rate": 1e-3,
    "heldout.data.size": 4,
    "heldout.solutions": 2,
    "heldout.predictions": 2,
}


@dataclass
class Run:
    """A run in the folder `run`, while it lasts and after."""

    process: subprocess.Popen[bytes]
    folder: Path

    def metrics(self) -> list[dict[str, Any]]:
        file = self.folder / "run/metrics.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def errors(self) -> str:
        return (self.folder / "errors").read_text()

    def workers(self) -> dict[str, psutil.Process]:
        """vLLM's processes, by the local rank of the training process that each belongs to."""
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # others come and go
                if vllm_worker.__file__ in child.cmdline():
                    found[psutil.Process(child.ppid()).environ().get("LOCAL_RANK", "0")] = child
        return found

    def wait_for(self, steps: int) -> None:
        """Until so many steps are done."""
        deadline = time.monotonic() + LIMIT
        while len(self.metrics()) < steps:
            assert self.process.poll() is None, self.errors()
            assert time.monotonic() < deadline
            time.sleep(0.05)


@contextmanager
def running(folder: Path, processes: int, **settings: Any) -> Iterator[Run]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "masa.cli", "train"]
    command += [str(ROOT / "configs/tiny.yaml"), "--output", "run"]
    command += [part for name, value in (SETTINGS | settings).items() for part in ("--set", f"{name}={value}")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TMPDIR": str(folder)}
    with (
        (folder / "errors").open("wb") as errors,
        subprocess.Popen(command, cwd=folder, stdout=errors, stderr=errors, env=environment) as process,
    ):
        try:
            yield Run(process, folder)
        finally:
            process.terminate()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_with_rollouts_from_vllm(tmp_path: Path, vllm_python: str, processes: int) -> None:
    with running(tmp_path, processes, vllm_python=vllm_python, max_steps=3) as run:
        run.wait_for(1)
        workers = run.workers()
        spent = {rank: worker.cpu_times().user for rank, worker in workers.items()}
        run.wait_for(2)
        assert {rank for rank in workers if workers[rank].cpu_times().user > spent[rank]} == set("01"[:processes])
        assert run.process.wait(LIMIT) == 0, run.errors()
        assert not psutil.wait_procs(list(workers.values()), timeout=20)[1]
    steps = run.metrics()
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert [step["phase"] for step in steps] == ["parallel", "parallel", "predictive"]
    # Were an update not sent, the policies of steps 2 and 3 would be another than the sampler's: the ratio tells.
    for step in steps:
        assert step["importance/ratio"] == pytest.approx(1, abs=1e-3)
        assert step["importance/gap"] < 1e-3
    assert steps[-1]["grad_norm"] > 0
    assert not list(tmp_path.glob("masa-vllm-*")), "the worker left files behind"


def test_a_worker_that_is_killed_ends_all_processes_with_one_line(tmp_path: Path, vllm_python: str) -> None:
    with running(tmp_path, 2, vllm_python=vllm_python, max_steps=500) as run:
        run.wait_for(1)
        workers = run.workers()
        workers["1"].kill()
        assert run.process.wait(LIMIT) != 0
        assert not psutil.wait_procs(list(workers.values()), timeout=20)[1]
    (line,) = [line for line in run.errors().splitlines() if line.startswith(("error: ", "internal error: "))]
    assert line.startswith(f"error: vLLM ({vllm_python}) was ended by signal 9")
    assert "EndedElsewhere" not in run.errors()
