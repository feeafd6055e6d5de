"""Log-probabilities and entropies against autograd through log_softmax."""

from __future__ import annotations

import pytest
import torch

from masa.training import logprobs
from masa.training.logprobs import log_probabilities


@pytest.mark.parametrize("kept_bytes", [2**20, 4 * 11 * 3], ids=["kept", "computed again in parts"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("has_bias", [True, False])
def test_values_and_gradients_equal_autograd(
    monkeypatch: pytest.MonkeyPatch, kept_bytes: int, temperature: float, has_bias: bool
) -> None:
    monkeypatch.setattr(logprobs, "_KEPT_BYTES", kept_bytes)
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(size, generator=generator) for size in ((8, 5), (11, 5), (11,))]
    targets = torch.randint(11, (8,), generator=generator)
    weights = torch.randn(8, generator=generator)

    hidden, weight, bias = (x.clone().requires_grad_() for x in inputs)
    ours, entropy = log_probabilities(hidden, weight, bias if has_bias else None, targets, temperature)
    (ours * weights).sum().backward()

    h, w, b = (x.clone().double().requires_grad_() for x in inputs)
    logits = torch.nn.functional.linear(h, w, b if has_bias else None) / temperature
    theirs = logits.log_softmax(-1)
    (theirs.gather(1, targets[:, None])[:, 0] * weights).sum().backward()

    torch.testing.assert_close(ours.double(), theirs.gather(1, targets[:, None])[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy.double(), -(theirs.exp() * theirs).sum(-1), atol=1e-5, rtol=1e-5)
    assert not entropy.requires_grad
    for own, other in ((hidden, h), (weight, w), *([(bias, b)] if has_bias else [])):
        assert own.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(own.grad.double(), other.grad, atol=1e-6, rtol=1e-5)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight = torch.randn(3, 4, requires_grad=True), torch.randn(6, 4)
    log_probabilities(hidden, weight, None, torch.tensor([0, 5, 2]), 1.0)[0].sum().backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_autocast_multiplies_in_its_own_type_and_answers_in_float32() -> None:
    hidden, weight = torch.randn(3, 64, requires_grad=True), torch.randn(6, 64, requires_grad=True)
    targets = torch.tensor([0, 5, 2])
    exact = log_probabilities(hidden, weight, None, targets, 1.0)[0]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = log_probabilities(hidden, weight, None, targets, 1.0)[0]
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.3, rtol=0.05)
    rounded.sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
