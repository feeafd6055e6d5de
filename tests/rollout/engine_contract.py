"""What every engine promises, as tests: a subclass gives `engine` over the float32 model `model`."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from masa.models import resolve
from masa.records import FinishReason, Request

TOLERANCE = 1e-3
"""Nats between an engine's log-probability and the model's own, both in float32."""


def load_model(name: str = "bundled") -> Any:
    return AutoModelForCausalLM.from_pretrained(resolve(name), dtype=torch.float32).eval()


def vocabulary(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def ragged_requests(model: Any, prompts: int = 4, group: int = 2, **settings: Any) -> list[Request]:
    """Groups over prompts of 1 to 30 tokens, every request with its own limit and seed."""
    rng = random.Random(0)
    requests = []
    for _ in range(prompts):
        prompt = tuple(rng.randrange(3, vocabulary(model)) for _ in range(rng.randrange(1, 31)))
        for _ in range(group):
            requests.append(Request(prompt, rng.randrange(1, 24), seed=len(requests), **settings))
    return requests


def greedy(model: Any, request: Request) -> tuple[int, ...]:
    """The continuation by transformers' own generate, to the limit."""
    config = GenerationConfig(max_new_tokens=request.max_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)
    output = model.generate(torch.tensor([request.prompt_ids]), generation_config=config)
    return tuple(output[0, len(request.prompt_ids) :].tolist())


def drawn_from(model: Any, request: Request, ids: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities that each token was drawn from, after temperature, top-k and top-p, [tokens, vocabulary]."""
    with torch.no_grad():
        logits = model(torch.tensor([request.prompt_ids + ids])).logits[0, len(request.prompt_ids) - 1 : -1].double()
    logits = logits / request.temperature
    if request.top_k:
        logits[logits < logits.topk(request.top_k).values[:, -1:]] = -math.inf
    ranked, order = logits.softmax(-1).sort(descending=True)
    ranked[ranked.cumsum(-1) - ranked >= request.top_p] = 0
    kept = torch.zeros_like(ranked).scatter(-1, order, ranked / ranked.sum(-1, keepdim=True))
    return kept.log()


@contextmanager
def ending_at(engine: Any, *tokens: int) -> Iterator[None]:
    """Rollouts end at these tokens meanwhile; none: at their limits only."""
    before, engine.eos_token_ids = engine.eos_token_ids, tokens
    try:
        yield
    finally:
        engine.eos_token_ids = before


class EngineContract:
    """`Engine.generate` and `prompt_states`, against transformers' own forward pass."""

    def test_nothing_asked_nothing_made(self, engine: Any) -> None:
        assert engine.generate([]) == []

    def test_each_request_has_its_own_limit(self, engine: Any, model: Any) -> None:
        requests = ragged_requests(model)
        requests[1::2] = [dataclasses.replace(request, is_cutoff=True) for request in requests[1::2]]
        with ending_at(engine):
            rollouts = engine.generate(requests)
        assert [rollout.length for rollout in rollouts] == [request.max_tokens for request in requests]
        assert {rollout.finish_reason for rollout in rollouts[::2]} == {FinishReason.LENGTH}
        assert {rollout.finish_reason for rollout in rollouts[1::2]} == {FinishReason.CUTOFF}

    def test_greedy_equals_generate(self, engine: Any, model: Any) -> None:
        requests = ragged_requests(model, temperature=0)
        with ending_at(engine):
            rollouts = engine.generate(requests)
        expected = [greedy(model, request) for request in requests]
        assert len({tokens[:3] for tokens in expected}) > 1
        assert [rollout.token_ids for rollout in rollouts] == expected

    @pytest.mark.parametrize("settings", [{}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8, "temperature": 1.3}])
    def test_logprobs_are_those_that_tokens_were_drawn_from(
        self, engine: Any, model: Any, settings: dict[str, Any]
    ) -> None:
        requests = ragged_requests(model, **settings)
        with ending_at(engine):
            rollouts = engine.generate(requests, logprobs=True)
        for request, rollout in zip(requests, rollouts, strict=True):
            expected = drawn_from(model, request, rollout.token_ids)
            expected = expected.gather(-1, torch.tensor(rollout.token_ids)[:, None])[:, 0]
            assert rollout.logprobs == pytest.approx(expected.tolist(), abs=TOLERANCE)

    def test_logprobs_only_when_asked_for_and_zero_when_greedy(self, engine: Any) -> None:
        requests = [Request((3,), 4, temperature=0), Request((3,), 4)]
        with ending_at(engine):
            assert [rollout.logprobs for rollout in engine.generate(requests)] == [None, None]
            certain, sampled = engine.generate(requests, logprobs=True)
        assert certain.logprobs == (0, 0, 0, 0)
        assert min(sampled.logprobs) < 0

    def test_ends_at_an_end_of_sequence_token(self, engine: Any) -> None:
        request = Request((5, 6, 7), 12, temperature=0)
        with ending_at(engine):
            (free,) = engine.generate([request])
        eos = free.token_ids[5]
        stop_at = free.token_ids.index(eos) + 1
        # At the limit an end of the model's own still counts as one.
        for limit, length, reason in (
            (12, stop_at, FinishReason.STOP),
            (stop_at, stop_at, FinishReason.STOP),
            *([(stop_at - 1, stop_at - 1, FinishReason.LENGTH)] if stop_at > 1 else []),
        ):
            with ending_at(engine, eos):
                (rollout,) = engine.generate([dataclasses.replace(request, max_tokens=limit)])
            assert (rollout.length, rollout.finish_reason) == (length, reason)
            assert rollout.token_ids == free.token_ids[:length]

    def test_seeds_name_rollouts_whatever_else_is_in_the_batch(self, engine: Any, model: Any) -> None:
        requests = [*ragged_requests(model), *ragged_requests(model, temperature=0.7, top_k=12)]
        requests = [dataclasses.replace(request, seed=seed, max_tokens=12) for seed, request in enumerate(requests)]
        with ending_at(engine):
            together = engine.generate(requests)
            assert [engine.generate([request])[0] for request in requests[::5]] == together[::5]
            same, other, large = engine.generate(
                [dataclasses.replace(requests[0], seed=seed) for seed in (0, 1, 2**64 - 1)]
            )
        assert same == together[0]
        assert len({same, other, large}) == 3

    def test_samples_follow_the_models_distribution(self, engine: Any, model: Any) -> None:
        # Chi-square of the first token over 2,000 rollouts against the model's own probabilities; cells expecting
        # fewer than 5 are pooled. The limit is passed by chance once in a million runs.
        n = 2000
        request = Request((5, 6, 7), 1, temperature=1.5)
        with ending_at(engine):
            rollouts = engine.generate([dataclasses.replace(request, seed=seed) for seed in range(n)])
        probabilities = drawn_from(model, request, (0,))[0].exp().numpy()
        counts = np.zeros(len(probabilities))
        for token, count in Counter(rollout.token_ids[0] for rollout in rollouts).items():
            counts[token] = count
        is_large = probabilities * n >= 5
        observed = np.append(counts[is_large], counts[~is_large].sum())
        expected = np.append(probabilities[is_large], probabilities[~is_large].sum()) * n
        degrees = len(expected) - 1
        assert degrees >= 5
        c = 2 / (9 * degrees)
        assert ((observed - expected) ** 2 / expected).sum() < degrees * (1 - c + 4.75 * math.sqrt(c)) ** 3

    def test_new_weights_count_from_the_next_call_on(self, engine: Any, model: Any) -> None:
        requests = ragged_requests(model, temperature=0)
        before = {name: parameter.clone() for name, parameter in model.state_dict().items()}
        with ending_at(engine):
            old = engine.generate(requests)
            torch.manual_seed(0)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.3 * parameter.std() * torch.randn_like(parameter))
            try:
                new = engine.generate(requests)
                assert [rollout.token_ids for rollout in new] == [greedy(model, request) for request in requests]
                assert new != old
            finally:
                model.load_state_dict(before)
            assert engine.generate(requests) == old

    def test_what_the_model_cannot_take_is_refused(self, engine: Any, model: Any) -> None:
        fits = Request((3,) * 4, engine.positions - 4)
        with pytest.raises(ValueError, match=r"request 1: a prompt of 5 tokens and a limit of \d+ need"):
            engine.generate([fits, dataclasses.replace(fits, prompt_ids=(3,) * 5)])
        with pytest.raises(ValueError, match=r"request 0: token ids must lie in"):
            engine.generate([Request((3, vocabulary(model)), 5)])

    def test_prompt_states_are_what_the_head_reads(self, engine: Any, model: Any) -> None:
        prompts = [request.prompt_ids for request in ragged_requests(model)]
        states = engine.prompt_states(prompts)
        for prompt, state in zip(prompts, states, strict=True):
            with torch.no_grad():
                expected = model.base_model(torch.tensor([prompt])).last_hidden_state[0, -1]
            assert state == pytest.approx(expected.numpy(), abs=1e-3)
