"""A vLLM worker in its own environment: the interpreter is named by MASA_VLLM_PYTHON, as `make test-vllm` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from masa.rollout.vllm import VLLMEngine
from masa.rollout.vllm_links import OwnProcess

sys.path.append(str(Path(__file__).parents[1] / "rollout"))  # the contract that all engines are held to


@pytest.fixture(scope="session")
def vllm_python() -> str:
    python = os.environ.get("MASA_VLLM_PYTHON")
    if not python:
        pytest.skip("needs vLLM in an environment of its own: make test-vllm")
    return python


@pytest.fixture(scope="module")
def make_engine(vllm_python: str) -> Iterator[Callable[..., VLLMEngine]]:
    """An engine in a process of its own, on one thread and little memory; keyword arguments as for `VLLMEngine`."""
    made: list[VLLMEngine] = []

    def make(model: Any, **settings: Any) -> VLLMEngine:
        link = OwnProcess(vllm_python, threads=1)
        made.append(VLLMEngine(model, **{"link": link, "memory_share": 0.05, **settings}))
        return made[-1]

    yield make
    for engine in made:
        engine.close()
