"""A worker without vLLM: the protocol's other side for tests of the client. Weights are summed, rollouts made up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from masa.rollout import vllm_worker

SECRET = "a secret of the tests"


@contextmanager
def listening() -> Iterator[int]:
    """Port of a worker in another process, that knows the secret."""
    process = subprocess.Popen(
        [sys.executable, __file__],
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


class StubWorker(vllm_worker.Worker):
    """Rolls out 1, 2, 3 ... for seed 0. It dies of prompt 13, gives up prompt 17 and is confused by 19."""

    def start(self, settings: dict[str, Any]) -> dict[str, Any]:
        self.settings = settings
        return {"vllm": "stub", "device": "none"}

    def load(self, weights: Any) -> dict[str, Any]:
        self.loaded = {name: (list(tensor.shape), str(tensor.dtype), float(tensor.sum())) for name, tensor in weights}
        if any(total != total for *_, total in self.loaded.values()):
            raise ValueError("a weight\nis not a number")
        return {"loaded": self.loaded, "architectures": self.settings["config"]["architectures"]}

    def generate(
        self, prompts: list[list[int]], rows: list[list[Any]], stop_token_ids: list[int], logprobs: bool
    ) -> dict[str, Any]:
        if [13] in prompts:
            print("the worker's last words", file=sys.stderr, flush=True)
            os._exit(3)
        given_up = [17] in prompts
        lengths = [row[1] - given_up for row in rows]
        found = [[-0.5] * n if logprobs else None for n in lengths]
        if [19] in prompts:
            found = [[float("nan")] * n for n in lengths]
        rollouts = []
        for (_, _, _, _, _, seed), n, logs in zip(rows, lengths, found, strict=True):
            rollouts.append([[1 + ((seed >> i) + i) % 60 for i in range(n)], logs])
        return {"rollouts": rollouts, "cached_tokens": 1}


if __name__ == "__main__":
    vllm_worker.listen("127.0.0.1", 0, os.environ[vllm_worker.TOKEN].encode(), StubWorker())
