"""LocalEngine keeps the contract that vLLM's engine is held to as well (tests/with_vllm)."""

from __future__ import annotations

from typing import Any

import pytest
from engine_contract import EngineContract, load_model

from masa.rollout.local import LocalEngine


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model()


@pytest.fixture(scope="module")
def engine(model: Any) -> LocalEngine:
    return LocalEngine(model)


class TestLocalEngine(EngineContract):
    """Nothing of its own."""
