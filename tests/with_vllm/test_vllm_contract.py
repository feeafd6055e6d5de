"""vLLM keeps the contract of LocalEngine (tests/rollout/test_contract.py): on the bundled model, in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from engine_contract import EngineContract, ending_at, load_model

from masa.records import Request
from masa.rollout.vllm import VLLMEngine

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model()


@pytest.fixture(scope="module")
def engine(model: Any, make_engine: Callable[..., VLLMEngine]) -> VLLMEngine:
    return make_engine(model)


class TestVLLMEngine(EngineContract):
    """Beside the contract: weights go over once, and cached prompts with them."""

    def test_weights_are_sent_only_when_they_changed(self, engine: VLLMEngine, model: Any) -> None:
        engine.generate([Request((3, 4), 2)])
        before = engine.updates
        engine.generate([Request((3, 4), 2)])
        assert engine.updates == before
        weight = next(model.parameters())
        weight.data.mul_(1)  # not seen, hence to be told
        engine.generate([Request((3, 4), 2)])
        assert engine.updates == before
        engine.weights_changed()
        engine.generate([Request((3, 4), 2)])
        assert engine.updates == before + 1

    def test_prompts_are_cached_until_weights_change(self, engine: VLLMEngine, model: Any) -> None:
        positions = engine.positions
        assert positions is not None
        prompt = tuple(3 + i % 40 for i in range(positions - 8))
        requests = [Request(prompt, 4, seed=seed) for seed in range(4)]
        with ending_at(engine):
            engine.weights_changed()
            engine.generate(requests[:1])
            cold = engine.cached_tokens
            first = engine.generate(requests)
            # Whole blocks of all four prompts but the last token's.
            assert engine.cached_tokens - cold > 4 * len(prompt) / 3
            engine.weights_changed()
            warm = engine.cached_tokens
            engine.generate(requests[:1])
            assert engine.cached_tokens == warm
            assert engine.generate(requests) == first
