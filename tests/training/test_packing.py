"""Packed rows: what the layout holds, and that a model computes the same over it as over each row alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import GraniteConfig, GraniteForCausalLM

from masa.training.microbatches import Denominators, Row, build_micro_batches
from masa.training.packed_forward import PackedForward
from masa.training.packing import lay_out
from masa.training.trainer import MASATrainer

FIRST, SECOND = (11, 12, 13, 14, 15), (21, 22)
ROWS = [
    (FIRST, (31, 32, 33)),
    (FIRST, (41,)),
    (SECOND, tuple(range(50, 90))),
    (FIRST, (31, 32, 34, 35)),
    (SECOND, (61, 62)),
]

REENTRANT = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
_ONE = Denominators(tokens=1.0, rows=1.0, path_scale={"solution": 1.0})


def padded(rows: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> tuple[Tensor, Tensor, int]:
    """Ids and mask as TRL pads them, and the width of completions."""
    (batch,) = build_micro_batches(
        [Row(prompt, completion, 1.0, "solution", True) for prompt, completion in rows],
        count=1,
        max_rows=len(rows),
        loss_type="dapo",
        denominator=_ONE,
        pad_token_id=0,
        device=torch.device("cpu"),
        drop_dead=False,
    )
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return ids, mask, batch["completion_ids"].size(1)


def test_a_prompt_is_laid_down_once_and_nothing_is_padded() -> None:
    layout = lay_out(*padded([(FIRST, (31, 32)), (FIRST, (41, 42, 43)), (SECOND, (51,))]))
    # Longest row first; of each completion all but the last token, which predicts nothing.
    assert layout.input_ids.tolist() == [[*FIRST, 41, 42, 31, *SECOND]]
    assert layout.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 6, 5, 0, 1]]
    assert layout.targets.tolist() == [41, 42, 43, 31, 32, 51]
    assert layout.sources.tolist() == [4, 5, 6, 4, 7, 9]


def test_every_token_has_a_place_and_shared_ones_have_several() -> None:
    layout = lay_out(*padded(ROWS))
    assert torch.equal(layout.token_of_place[layout.place_of_token], torch.arange(layout.input_ids.size(1)))
    tokens, places = layout.shared
    assert torch.equal(layout.token_of_place[places], tokens)
    assert len(tokens) == 2 * len(FIRST) + len(SECOND)
    assert sum(rows for rows, _ in layout.parts) == len(ROWS)
    assert len(layout.parts) > 1  # the long row attends by itself


def row_by_row(model: Any, temperature: float) -> list[Tensor]:
    results = []
    for prompt, completion in ROWS:
        logits = model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1] / temperature
        results.append(logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None])[:, 0])
    return results


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_log_probabilities_and_gradients_equal_those_of_each_row_alone(
    make_model: Callable[..., Any], attention: str
) -> None:
    model = make_model(seed=5, dtype=torch.float64)
    model.set_attn_implementation(attention)
    forward = PackedForward(model, temperature=0.8, autocast=lambda: torch.autocast("cpu", enabled=False))
    ids, mask, width = padded(ROWS)
    order = [ROWS.index(row) for row in sorted(ROWS, key=lambda row: -len(row[0] + row[1]))]
    weights = torch.randn(len(ROWS), width, generator=torch.Generator().manual_seed(0))

    def gradient(log_probs: list[Tensor]) -> Tensor:
        model.zero_grad()
        torch.stack([(x * w[: len(x)]).sum() for x, w in zip(log_probs, weights, strict=True)]).sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    expected = [row_by_row(model, 0.8)[i] for i in order]
    log_probs, entropies, _ = forward(ids, mask, width, lambda: (torch.cat([_pad(expected, width)]), None, None))
    assert forward.is_on
    assert entropies is not None
    assert model.config._attn_implementation == attention
    ours = [row[: len(other)] for row, other in zip(log_probs, expected, strict=True)]
    for own, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(own.double(), other, atol=1e-5, rtol=1e-5)
    assert not log_probs[mask[:, -width:] == 0].any()
    ours_gradient, expected_gradient = gradient(ours), gradient(expected)
    assert expected_gradient.norm() > 0
    assert (ours_gradient - expected_gradient).norm() / expected_gradient.norm() < 1e-5


def _pad(rows: list[Tensor], width: int) -> Tensor:
    return torch.stack([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows])


def test_a_model_with_ways_of_its_own_keeps_trls_forward(
    make_trainer: Callable[..., MASATrainer], tokenizer: Any
) -> None:
    """Granite divides its logits by a number from its config, which packing knows nothing of."""
    torch.manual_seed(0)
    config = GraniteConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        logits_scaling=0.05,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    trainer = make_trainer(model=GraniteForCausalLM(config))
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    batches = [b for b in trainer._micro_batches(trainer.experience.make(1)) if len(b["advantages"])]
    with pytest.warns(UserWarning, match="packed_update is off.*differ by"):
        checked = trainer.compute_loss(trainer.model, batches[0])
    assert trainer.packed is not None
    assert not trainer.packed.is_on
    trainer.packed = None
    torch.testing.assert_close(checked, trainer.compute_loss(trainer.model, batches[0]))


def test_adapters_get_the_gradient_that_trls_forward_gives_them(
    make_trainer: Callable[..., MASATrainer], make_model: Callable[..., Any]
) -> None:
    settings = {"r": 4, "target_modules": "all-linear", "lora_dropout": 0.0, "init_lora_weights": False}
    trainer = make_trainer(model=get_peft_model(make_model(), LoraConfig(**settings)))
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    batches = [b for b in trainer._micro_batches(trainer.experience.make(1)) if len(b["advantages"])]

    def gradient() -> Tensor:
        trainer.model.zero_grad()
        for batch in batches:
            trainer.compute_loss(trainer.model, batch).backward()
        return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])

    packed = gradient()
    assert trainer.packed is not None
    assert trainer.packed.is_on
    trainer.packed = None
    own = gradient()
    assert len(packed) == len(own) == sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    assert own.norm() > 0
    assert (packed - own).norm() / own.norm() < 1e-5


def test_checkpointed_layers_attend_within_rows_again(
    make_trainer: Callable[..., MASATrainer], make_model: Callable[..., Any], tmp_path: Path
) -> None:
    def gradient(name: str, **settings: Any) -> Tensor:
        output = str(tmp_path / name)
        trainer = make_trainer(model=make_model(seed=2), max_steps=1, learning_rate=0.0, output_dir=output, **settings)
        found: list[Tensor] = []
        clip = trainer._clip_grad_norm

        def keep(model: Any) -> Any:
            found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
            return clip(model)

        trainer._clip_grad_norm = keep  # type: ignore[method-assign]
        trainer.train()
        assert trainer.packed is None or trainer.packed.is_on
        assert trainer.model.config._attn_implementation == "sdpa"
        return found[0]

    plain = gradient("plain", packed_update=False)
    assert plain.norm() > 0
    for settings in ({}, {"gradient_checkpointing": True}):
        packed = gradient(f"packed{len(settings)}", **settings)
        assert (packed - plain).norm() / plain.norm() < 1e-5


def test_dropout_keeps_trls_forward(make_trainer: Callable[..., MASATrainer], make_model: Callable[..., Any]) -> None:
    """Tokens that rows share would be dropped together."""
    model = get_peft_model(make_model(), LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.1))
    assert make_trainer(model=model).packed is None


@pytest.mark.parametrize("settings", [{"packed_update": False}, REENTRANT, {"entropy_coef": 0.1}], ids=str)
def test_settings_that_need_trls_forward_get_it(make_trainer: Callable[..., MASATrainer], settings: dict) -> None:
    assert make_trainer().packed is not None
    assert make_trainer(**settings).packed is None
