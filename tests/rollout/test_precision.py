"""Rollouts in bfloat16 from float32 weights."""

from __future__ import annotations

import pytest
import torch
from tiny_models import build

from masa.records import Request
from masa.rollout.local import LocalEngine
from masa.rollout.precision import computing_in


def test_weights_and_ties_are_back_afterwards() -> None:
    model = build("qwen3", dtype=torch.float32)
    before = dict(model.named_parameters(remove_duplicate=False))

    def stopped() -> None:
        with computing_in(model, torch.bfloat16):
            assert model.lm_head.weight.dtype == torch.bfloat16
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    after = dict(model.named_parameters(remove_duplicate=False))
    assert all(after[name] is parameter for name, parameter in before.items())


def test_logits_are_those_of_autocast() -> None:
    model = build("qwen3", dtype=torch.float32).eval()
    ids = torch.arange(12)[None]
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            expected = model(ids).logits
        with computing_in(model, torch.bfloat16):
            found = model(ids).logits
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_logprobs_stay_close_to_those_of_float32() -> None:
    model = build("qwen3", dtype=torch.float32).eval()
    requests = [Request((1, 2, 3, 4 + row), max_tokens=12, seed=row) for row in range(8)]
    rollouts = LocalEngine(model, eos_token_ids=(), compute_dtype=torch.bfloat16).generate(requests, logprobs=True)
    for request, rollout in zip(requests, rollouts, strict=True):
        ids = torch.tensor([[*request.prompt_ids, *rollout.token_ids]])
        with torch.no_grad():
            logs = model(ids).logits[0, len(request.prompt_ids) - 1 : -1].log_softmax(-1)
        exact = logs.gather(-1, torch.tensor(rollout.token_ids)[:, None])[:, 0]
        assert rollout.logprobs is not None
        # bfloat16 keeps 8 bits: about 0.004 of a logit of size 1
        assert (exact - torch.tensor(rollout.logprobs)).abs().max() < 0.05
