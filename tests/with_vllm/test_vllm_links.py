"""vLLM behind a port, and in the process that asks: the same rollouts as in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_contract import ending_at, load_model, ragged_requests

from masa.errors import UserError
from masa.rollout import vllm_worker
from masa.rollout.vllm import VLLMEngine
from masa.rollout.vllm_links import Server

pytestmark = pytest.mark.vllm
SOURCES = Path(vllm_worker.__file__).parents[2]
SECRET = "a secret of the tests"
QUIET = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "ERROR"}

# Without pytest, which vLLM's environment need not have.
IN_PROCESS = """
import json, sys, torch
from transformers import AutoModelForCausalLM
from masa.models import resolve
from masa.records import Request
from masa.rollout.vllm import VLLMEngine

model = AutoModelForCausalLM.from_pretrained(resolve("bundled"), dtype=torch.float32).eval()
engine = VLLMEngine(model, memory_share=0.05, eos_token_ids=())
requests = [Request(tuple(ids), limit, seed=seed) for ids, limit, seed in json.loads(sys.argv[1])]
rollouts = engine.generate(requests, logprobs=True)
print("\\n" + json.dumps([[r.token_ids, r.logprobs] for r in rollouts]))
"""


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model()


@pytest.fixture(scope="module")
def server(vllm_python: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Port and process."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(
        [vllm_python, vllm_worker.__file__, "--port", "0"],
        env=environment | QUIET | {vllm_worker.TOKEN: SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().rsplit(":", 1)[1]), process
        process.kill()


def test_all_links_give_the_same_rollouts(
    server: tuple[int, subprocess.Popen[str]], vllm_python: str, model: Any
) -> None:
    port, process = server
    link = Server("127.0.0.1", port, SECRET)
    engine = VLLMEngine(model, link=link, memory_share=0.05)
    assert engine.worker["device"] == "cpu"
    requests = ragged_requests(model)
    with ending_at(engine):
        rollouts = engine.generate(requests, logprobs=True)

    done = subprocess.run(
        [vllm_python, "-c", IN_PROCESS, json.dumps([[r.prompt_ids, r.max_tokens, r.seed] for r in requests])],
        env=os.environ | QUIET | {"PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("[["))
    for rollout, (ids, logprobs) in zip(rollouts, json.loads(line), strict=True):
        assert list(rollout.token_ids) == ids
        assert rollout.logprobs == pytest.approx(logprobs, abs=1e-4)

    # A run that goes on finds the server as it was; one with another model does not.
    engine.close()
    again = None
    for _ in range(100):  # until it has noticed that the first one is gone
        try:
            again = VLLMEngine(model, link=Server("127.0.0.1", port, SECRET), memory_share=0.05)
            break
        except UserError:
            continue
    assert again is not None
    with ending_at(again):
        assert again.generate(requests, logprobs=True) == rollouts
    with pytest.raises(UserError, match="it serves a model with another dtype: restart it"):
        again.link.ask("start", settings={**_settings(again), "dtype": "bfloat16"})
    process.kill()
    with pytest.raises(UserError, match=r"^the vLLM worker at 127.0.0.1:\d+ hung up"):
        again.generate(requests)


def _settings(engine: VLLMEngine) -> dict[str, Any]:
    """What it was started with, heard by asking for it once more."""
    heard: dict[str, Any] = {}

    class Ear:
        def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
            heard.update(arguments["settings"])
            return {}

    VLLMEngine(engine.model, link=Ear(), memory_share=0.05)  # type: ignore[arg-type]
    return heard
