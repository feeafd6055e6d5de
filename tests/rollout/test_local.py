"""LocalEngine: its tokens against transformers' own, whatever the batch, and the model left as found."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from tiny_models import BUILDERS, EOS, LLAMA_SHAPED, POSITIONS, VOCABULARY, build, ragged_requests
from transformers import GenerationConfig, MambaConfig, MambaForCausalLM

from masa.records import FinishReason, Request
from masa.rollout.llama import is_llama_shaped
from masa.rollout.local import LocalEngine
from masa.rollout.slots import SlotCache


def reference(model: Any, request: Request) -> tuple[int, ...]:
    """The greedy continuation by transformers' own generate."""
    config = GenerationConfig(
        max_new_tokens=request.max_tokens, do_sample=False, eos_token_id=list(EOS), pad_token_id=0
    )
    output = model.generate(torch.tensor([request.prompt_ids]), generation_config=config)
    return tuple(output[0, len(request.prompt_ids) :].tolist())


def through_the_models_own_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masa.rollout.local.is_llama_shaped", lambda model: False)


@pytest.mark.parametrize(
    ("name", "is_own"), [*((name, False) for name in LLAMA_SHAPED), *((b, True) for b in BUILDERS)]
)
def test_greedy_equals_generate(name: str, is_own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name)
    assert is_llama_shaped(model) == (name in LLAMA_SHAPED)
    if is_own:
        through_the_models_own_forward(monkeypatch)
    requests = ragged_requests(temperature=0)
    expected = [reference(model, request) for request in requests]
    # The comparison would be hollow if the model said the same whatever it read.
    assert len({tokens[:3] for tokens in expected}) > 3
    for slots in (1, 3, 100):
        rollouts = LocalEngine(model, eos_token_ids=EOS, max_batch_size=slots).generate(requests)
        assert [rollout.token_ids for rollout in rollouts] == expected


@pytest.mark.parametrize("name", ["qwen3", "mistral-sliding", "gpt2"])
def test_tokens_do_not_depend_on_batch_slots_or_order(name: str) -> None:
    model = build(name)
    requests = [
        *ragged_requests(),
        *ragged_requests(temperature=0.7, top_k=12, top_p=0.9),
        *ragged_requests(temperature=0),
    ]
    requests = [dataclasses.replace(request, seed=index) for index, request in enumerate(requests)]
    together = LocalEngine(model, eos_token_ids=EOS).generate(requests)
    for index in range(0, len(requests), 4):
        alone = LocalEngine(model, eos_token_ids=EOS).generate([requests[index]])
        assert alone == [together[index]]
    shuffled = random.Random(1).sample(range(len(requests)), len(requests))
    reordered = [
        dataclasses.replace(requests[index], expected_tokens=float(rank)) for rank, index in enumerate(shuffled)
    ]
    for slots in (2, 7):
        rollouts = LocalEngine(model, eos_token_ids=EOS, max_batch_size=slots).generate(reordered)
        assert rollouts == [together[index] for index in shuffled]


def test_seeds_name_the_rollouts() -> None:
    engine = LocalEngine(build("llama"), eos_token_ids=())
    rollouts = engine.generate([Request((3, 4), 20, seed=seed) for seed in (1, 2, 1)])
    assert rollouts[0] == rollouts[2]
    assert rollouts[0] != rollouts[1]


def test_samples_follow_the_models_distribution() -> None:
    # Chi-square of pairs (first token, second token) over 4,000 rollouts against the model's own probabilities; cells
    # expecting fewer than 5 are pooled. The limit is passed by chance once in a million runs.
    model = build("qwen3")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.7)
    prompt, n = (5, 6, 7), 4000
    settings: dict[str, Any] = {"temperature": 0.8, "top_k": 6, "top_p": 0.95}

    def probabilities(ids: list[list[int]]) -> torch.Tensor:
        with torch.no_grad():
            logits = model(torch.tensor(ids)).logits[:, -1] / settings["temperature"]
        logits[logits < logits.topk(settings["top_k"]).values[:, -1:]] = -math.inf
        ranked, order = logits.softmax(-1).sort(descending=True)
        ranked[ranked.cumsum(-1) - ranked >= settings["top_p"]] = 0
        return torch.zeros_like(ranked).scatter(-1, order, ranked / ranked.sum(-1, keepdim=True))

    first = probabilities([list(prompt)])[0]
    second = probabilities([[*prompt, token] for token in range(VOCABULARY)])
    joint = (first[:, None] * second).flatten()
    rollouts = LocalEngine(model, eos_token_ids=(), max_batch_size=512).generate(
        [Request(prompt, 2, seed=seed, **settings) for seed in range(n)]
    )
    counts = torch.zeros(VOCABULARY**2, dtype=torch.float64)
    for (a, b), count in Counter(rollout.token_ids for rollout in rollouts).items():
        counts[a * VOCABULARY + b] = count
    assert counts[joint == 0].sum() == 0
    is_large = joint * n >= 5
    observed = torch.cat([counts[is_large], counts[~is_large].sum()[None]])
    expected = torch.cat([joint[is_large], joint[~is_large].sum()[None]]) * n
    observed, expected = observed[expected > 0], expected[expected > 0]
    degrees = len(expected) - 1
    assert degrees >= 10
    statistic = float(((observed - expected) ** 2 / expected).sum())
    c = 2 / (9 * degrees)
    assert statistic < degrees * (1 - c + 4.75 * math.sqrt(c)) ** 3


@pytest.mark.parametrize("name", ["qwen3", "qwen2-mixed", "gpt2", "gemma3-mixed"])
def test_logprobs_equal_a_teacher_forced_pass(name: str) -> None:
    model = build(name, dtype=torch.float32)
    requests = ragged_requests() + ragged_requests(temperature=0.7)
    rollouts = LocalEngine(model, eos_token_ids=EOS, max_batch_size=8).generate(requests, logprobs=True)
    for request, rollout in zip(requests, rollouts, strict=True):
        with torch.no_grad():
            ids = torch.tensor([request.prompt_ids + rollout.token_ids])
            logits = model(ids).logits[0, len(request.prompt_ids) - 1 : -1].double() / request.temperature
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(rollout.token_ids)[:, None])[:, 0]
        assert rollout.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_logprobs_only_when_asked_for_and_zero_when_greedy() -> None:
    engine = LocalEngine(build("qwen3"), eos_token_ids=())
    requests = [Request((3,), 4, temperature=0), Request((3,), 4)]
    assert [rollout.logprobs for rollout in engine.generate(requests)] == [None, None]
    greedy, sampled = engine.generate(requests, logprobs=True)
    assert greedy.logprobs == (0, 0, 0, 0)
    assert sampled.logprobs is not None
    assert max(sampled.logprobs) < 0


def test_limits_and_finish_reasons() -> None:
    model = build("qwen3")
    free = LocalEngine(model, eos_token_ids=()).generate([Request((3, 4), 12, temperature=0)])[0].token_ids
    eos = free[5]
    stop_at = free.index(eos) + 1
    engine = LocalEngine(model, eos_token_ids=[eos])

    def run(limit: int, is_cutoff: bool) -> tuple[int, FinishReason]:
        request = Request((3, 4), limit, temperature=0, is_cutoff=is_cutoff)
        rollout = engine.generate([request])[0]
        assert rollout.token_ids == free[: rollout.length]
        return rollout.length, rollout.finish_reason

    for is_cutoff, reason in ((False, FinishReason.LENGTH), (True, FinishReason.CUTOFF)):
        assert run(stop_at - 1, is_cutoff) == (stop_at - 1, reason)
        # An end-of-sequence token as the last one allowed is an end of the model's own.
        assert run(stop_at, is_cutoff) == (stop_at, FinishReason.STOP)
        assert run(12, is_cutoff) == (stop_at, FinishReason.STOP)
        assert run(1, is_cutoff)[0] == 1


def test_nothing_asked_nothing_computed() -> None:
    assert LocalEngine(build("qwen3")).generate([]) == []


def test_each_prompt_passes_the_model_once() -> None:
    model = build("qwen3")
    seen: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _module, args, _output: seen.append(args[0].numel()))
    prompts = [(3, 4, 5, 6), (7, 8), (9, 10, 11, 12), (2, 3, 4, 5, 6, 7)]
    requests = [Request(prompt, 10, seed=seed) for seed in range(8) for prompt in prompts]
    # 32 requests over 5 slots: prompts are kept while their group is split over several admissions.
    rollouts = LocalEngine(model, eos_token_ids=(), max_batch_size=5).generate(requests)
    generated = sum(rollout.length for rollout in rollouts)
    decoded = generated - len(rollouts)  # a rollout's last token is not fed back
    # Prompts may be padded to at most 1.5 times their length.
    own = sum(map(len, prompts))
    assert decoded + own <= sum(seen) <= decoded + 1.5 * own


def test_finished_rows_leave_and_slots_are_refilled() -> None:
    model = build("qwen3")
    widths: list[int] = []
    model.register_forward_pre_hook(
        lambda _module, _args, kwargs: widths.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    limits = [40, 5, 5, 5, 5, 20]
    requests = [Request((3,), limit, seed=seed) for seed, limit in enumerate(limits)]
    LocalEngine(model, eos_token_ids=(), max_batch_size=2).generate(requests)
    # 80 tokens in two slots, longest first: 40 + (20 + 5 + 5 + 5 + 5); the first pass is the prompt's own.
    assert sum(widths[1:]) == sum(limits) - len(limits)
    assert len(widths) - 1 == 39


def test_longest_expected_requests_start_first() -> None:
    model = build("qwen3")
    started: list[int] = []

    def see(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].shape[1] > 1:
            started.append(int(kwargs["input_ids"][0, 0]))

    model.register_forward_pre_hook(see, with_kwargs=True)
    requests = [
        Request((3, 3), 9, expected_tokens=2.0),
        Request((4, 4), 9, expected_tokens=8.0),
        Request((5, 5), 5),
        Request((6, 6), 7, expected_tokens=500.0),  # cannot use more than its limit
    ]
    LocalEngine(model, eos_token_ids=(), max_batch_size=1).generate(requests)
    assert started == [4, 6, 5, 3]


def test_too_long_for_the_models_positions() -> None:
    engine = LocalEngine(build("gpt2"), eos_token_ids=())
    request = Request((3,) * 6, POSITIONS - 6, temperature=0)
    assert engine.generate([request])[0].length == POSITIONS - 6
    with pytest.raises(ValueError, match=r"request 1: a prompt of 6 tokens and a limit of 251 need 257 .* has 256"):
        engine.generate([request, dataclasses.replace(request, max_tokens=POSITIONS - 5)])


def test_unknown_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match=r"request 0: token ids must lie in 0\.\.63, got 3\.\.64"):
        LocalEngine(build("qwen3")).generate([Request((3, 64), 5)])


def test_models_with_other_state_are_refused() -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=8, hidden_size=8, state_size=4, num_hidden_layers=1))
    with pytest.raises(ValueError, match="full or sliding-window attention only; mamba keeps LinearAttentionLayer"):
        LocalEngine(model)


@pytest.mark.parametrize("arguments", [{"max_batch_size": 0}, {"num_threads": 0}])
def test_settings_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        LocalEngine(build("qwen3"), **arguments)  # type: ignore[arg-type]


def test_end_of_sequence_tokens_come_from_generation_config_and_tokenizer() -> None:
    class Tokenizer:
        eos_token_id = 5

    model = build("qwen3")
    model.generation_config.eos_token_id = [9, 1]
    assert LocalEngine(model, Tokenizer()).eos_token_ids == (1, 5, 9)
    assert LocalEngine(model, Tokenizer(), eos_token_ids=[4]).eos_token_ids == (4,)
    model.generation_config.eos_token_id = None
    assert LocalEngine(model).eos_token_ids == ()


@pytest.mark.parametrize("is_own", [False, True])
def test_memory_is_bounded_by_slots(is_own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_own:
        through_the_models_own_forward(monkeypatch)
    held: list[int] = []
    lay_out = SlotCache._lay_out

    def measured(self: Any, longest: int = 0) -> None:
        lay_out(self, longest)
        held.append(sum(layer.keys.numel() + layer.values.numel() for layer in self.layers))

    monkeypatch.setattr(SlotCache, "_lay_out", measured)
    peaks = []
    for factor in (1, 10):
        held.clear()
        requests = [Request((3 + seed % 40, 4), 30, seed=seed) for seed in range(48 * factor)]
        LocalEngine(build("qwen3"), eos_token_ids=EOS, max_batch_size=8).generate(requests)
        peaks.append(max(held))
    # Two layers' keys and values have 2 heads of dimension 8: 8 slots of 31 tokens and their spare columns.
    assert max(peaks) <= 2 * 2 * 8 * 2 * 8 * (31 + 12)
    assert peaks[1] <= peaks[0] * 1.2
