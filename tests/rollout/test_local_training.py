"""LocalEngine beside a trainer: the model is lent, and handed back as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from tiny_models import EOS, build, ragged_requests

from masa.records import Request
from masa.rollout.local import LocalEngine
from masa.rollout.sampling import sample


def snapshot(model: Any) -> dict[str, Any]:
    """All that a caller could miss."""
    return {
        "modes": [module.training for module in model.modules()],
        "checkpointing": [getattr(module, "gradient_checkpointing", None) for module in model.modules()],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "dtypes": [parameter.dtype for parameter in model.parameters()],
        "weights": [parameter.detach().clone() for parameter in model.parameters()],
        "gradients": [parameter.grad for parameter in model.parameters()],
        "config": copy.deepcopy(model.config.to_dict()),
        "generation_config": copy.deepcopy(model.generation_config.to_dict()),
        "grad_enabled": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
    }


def assert_unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name, value in before.items():
        if name == "weights":
            assert all(torch.equal(a, b) for a, b in zip(value, after[name], strict=True))
        else:
            assert after[name] == value, name


def training_model(name: str = "gpt2") -> Any:
    """In training mode with dropout, one part frozen in evaluation mode, checkpointing on and the cache off."""
    model = build(name, dtype=torch.float32)
    model.train()
    model.activation_checkpointing_enable()
    model.config.use_cache = False
    next(iter(model.parameters())).requires_grad_(False)
    next(model.base_model.children()).eval()
    return model


@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
def test_the_model_is_handed_back_as_found(name: str) -> None:
    model = training_model(name)
    before = snapshot(model)
    requests = ragged_requests()
    rollouts = LocalEngine(model, eos_token_ids=EOS).generate(requests)
    assert_unchanged(before, snapshot(model))
    # Dropout was off: the same as in evaluation mode.
    assert rollouts == LocalEngine(build(name, dtype=torch.float32), eos_token_ids=EOS).generate(requests)
    # And training goes on.
    model(torch.tensor([[3, 4, 5]]), labels=torch.tensor([[3, 4, 5]])).loss.backward()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_model_is_handed_back_after_an_exception(error: type[BaseException]) -> None:
    model = training_model()
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error

    handle = model.register_forward_pre_hook(fail)
    before = snapshot(model)
    engine = LocalEngine(model, eos_token_ids=EOS)
    with pytest.raises(error):
        engine.generate(ragged_requests())
    assert_unchanged(before, snapshot(model))
    handle.remove()
    assert len(engine.generate(ragged_requests())) == len(ragged_requests())


@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_ctrl_c_between_steps_leaves_all_as_found(
    name: str, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = training_model(name)
    before = snapshot(model)
    engine = LocalEngine(model, eos_token_ids=EOS, compute_dtype=dtype)
    expected = engine.generate(ragged_requests())
    steps = 0

    def interrupted(*_: Any, **__: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 5:
            raise KeyboardInterrupt
        return sample(*_, **__)

    with monkeypatch.context() as patch:
        patch.setattr("masa.rollout.local.sample", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.generate(ragged_requests())
    assert not torch.is_autocast_enabled("cpu")
    assert_unchanged(before, snapshot(model))
    assert engine.generate(ragged_requests()) == expected


def test_threads_are_set_for_the_call_only() -> None:
    model, before, seen = build("qwen3"), torch.get_num_threads(), []
    model.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    LocalEngine(model, num_threads=before + 1).generate([Request((3,), 1)])
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_weights_may_change_between_calls() -> None:
    model = build("qwen3")
    engine = LocalEngine(model, eos_token_ids=())
    request = Request((3, 4), 30, temperature=0)
    before = engine.generate([request])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    after = engine.generate([request])
    assert after != before
    assert after == LocalEngine(model, eos_token_ids=()).generate([request])


def test_peft_wrapped_models_sample_with_their_adapter() -> None:
    model = build("qwen3")
    plain = LocalEngine(model, eos_token_ids=EOS).generate(ragged_requests(temperature=0))
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.5, init_lora_weights=False)
    wrapped = get_peft_model(model, lora)
    wrapped.to(torch.float64).train()
    adapted = LocalEngine(wrapped, eos_token_ids=EOS).generate(ragged_requests(temperature=0))
    assert adapted != plain
    merged = wrapped.merge_and_unload()
    assert adapted == LocalEngine(merged, eos_token_ids=EOS).generate(ragged_requests(temperature=0))


def test_prefix_tuning_is_refused() -> None:
    wrapped = get_peft_model(build("llama"), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ValueError, match="prompt-learning adapters"):
        LocalEngine(wrapped)


def test_bfloat16_models_stay_bfloat16() -> None:
    model = build("qwen3", dtype=torch.bfloat16)
    rollouts = LocalEngine(model, eos_token_ids=EOS).generate(ragged_requests(), logprobs=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert all(rollout.logprobs is not None for rollout in rollouts)
