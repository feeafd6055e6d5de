"""Imitation: the loss by hand, batches, and a model left as it was found."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from masa.training.sft import Example, Imitation

EXAMPLES = [Example((5, 6, 7), (8, 9)), Example((5,), (10, 11, 12)), Example((6, 6), (8,))]


def imitation(model: Any, **changed: Any) -> Imitation:
    return Imitation(model, **{"learning_rate": 1e-2, "pad_token_id": 0, "micro_batch_rows": 2} | changed)


def test_the_loss_is_the_mean_over_response_tokens_alone(make_model: Any) -> None:
    model = make_model()
    expected = 0.0
    for example in EXAMPLES:
        ids = torch.tensor([example.prompt_ids + example.response_ids])
        with torch.no_grad():
            logprobs = model(input_ids=ids).logits.log_softmax(-1)[0]
        start = len(example.prompt_ids)
        expected -= sum(logprobs[i - 1, ids[0, i]].item() for i in range(start, ids.shape[1]))
    result = imitation(model).update(EXAMPLES, 1)
    assert result["loss_first"] == pytest.approx(expected / 6, rel=1e-5)
    assert result["tokens"] == 6


def test_updates_lower_the_loss_and_leave_gradients_and_mode_alone(make_model: Any) -> None:
    model = make_model().eval()
    parameter = next(model.parameters())
    parameter.grad = torch.ones_like(parameter)
    result = imitation(model).update(EXAMPLES, 8)
    assert result["loss_last"] < result["loss_first"]
    assert not model.training
    assert torch.equal(parameter.grad, torch.ones_like(parameter))


def test_moments_continue_from_a_saved_state(make_model: Any) -> None:
    whole, first = make_model(), make_model()
    imitation(whole).update(EXAMPLES, 4)
    half = imitation(first)
    half.update(EXAMPLES, 2)
    rest = imitation(first)
    rest.load_state_dict(half.state_dict())
    rest.update(EXAMPLES, 2)
    pairs = zip(whole.parameters(), first.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_batches_pass_over_all_examples_before_any_comes_again(make_model: Any, monkeypatch: Any) -> None:
    seen: list[Example] = []
    imitate = imitation(make_model())
    update = imitate.update
    monkeypatch.setattr(imitate, "update", lambda part, n: (seen.extend(part), update(part, n))[1])
    imitate.update_in_batches(EXAMPLES, 6, 1, random.Random(0))
    assert sorted(map(hash, seen[:3])) == sorted(map(hash, EXAMPLES)) == sorted(map(hash, seen[3:]))


def test_a_gradient_that_is_not_finite_changes_nothing(make_model: Any) -> None:
    model = make_model()
    with torch.no_grad():
        model.lm_head.weight[8] = float("nan")
    before = model.model.layers[0].mlp.up_proj.weight.clone()
    assert imitation(model).update(EXAMPLES, 2)["skipped_updates"] == 2
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, before)


def test_nothing_to_imitate_is_no_update(make_model: Any) -> None:
    assert imitation(make_model()).update([], 3)["tokens"] == 0
