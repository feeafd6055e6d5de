"""A worker without vLLM: the protocol's other side for tests of the client. Weights are summed, rollouts made up.

python stub_worker.py --port PORT       (or --fd NUMBER, as `interpreter` has it)
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from masa.rollout import vllm_worker

SECRET = "a secret of the tests"
NOTES = "STUB_NOTES"
"""Variable that names a folder for what workers were started with and asked for, a file each."""


@contextmanager
def listening(port: int = 0) -> Iterator[int]:
    """Port of a worker in another process, that knows the secret."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--port", str(port)],
        env=os.environ | {vllm_worker.TOKEN: SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().rsplit(":", 1)[1])
        finally:
            process.kill()


def interpreter(folder: Path) -> Path:
    """What passes for an interpreter with vLLM (`vllm_python`): it runs this file in the place of the worker."""
    program = folder / "python-with-vllm"
    sources = Path(vllm_worker.__file__).parents[2]
    words = shlex.join(["env", f"PYTHONPATH={sources}", sys.executable, __file__])
    program.write_text(f'#!/bin/sh\nshift\nexec {words} "$@"\n')
    program.chmod(0o755)
    return program


def notes(folder: Path) -> list[list[Any]]:
    """Of each worker: its environment and then the rows of each question."""
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in sorted(folder.glob("*.jsonl"))]


class StubWorker(vllm_worker.Worker):
    """Rolls out 1, 2, 3 ... for seed 0. It dies of prompt 13, gives up 17, is confused by 19 and lost in 23."""

    def start(self, settings: dict[str, Any]) -> dict[str, Any]:
        self.settings = settings
        self._note(dict(os.environ))
        return {"vllm": "stub", "device": "none"}

    def load(self, weights: Any) -> dict[str, Any]:
        self.loaded = {name: (list(tensor.shape), str(tensor.dtype), float(tensor.sum())) for name, tensor in weights}
        if any(total != total for *_, total in self.loaded.values()):
            raise ValueError("a weight\nis not a number")
        return {"loaded": self.loaded, "architectures": self.settings["config"]["architectures"]}

    def generate(
        self, prompts: list[list[int]], rows: list[list[Any]], stop_token_ids: list[int], logprobs: bool
    ) -> dict[str, Any]:
        self._note(rows)
        if [13] in prompts:
            print("the worker's last words", file=sys.stderr, flush=True)
            os._exit(3)
        while [23] in prompts:
            time.sleep(0.01)
        given_up = [17] in prompts
        lengths = [row[1] - given_up for row in rows]
        found = [[-0.5] * n if logprobs else None for n in lengths]
        if [19] in prompts:
            found = [[float("nan")] * n for n in lengths]
        rollouts = []
        for (_, _, _, _, _, seed), n, logs in zip(rows, lengths, found, strict=True):
            rollouts.append([[1 + ((seed >> i) + i) % 60 for i in range(n)], logs])
        return {"rollouts": rollouts, "cached_tokens": 1}

    def _note(self, what: Any) -> None:
        if NOTES in os.environ:
            with (Path(os.environ[NOTES]) / f"{os.getpid()}.jsonl").open("a") as file:
                file.write(json.dumps(what) + "\n")


if __name__ == "__main__":
    vllm_worker.main(StubWorker())
