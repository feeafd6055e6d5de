"""Log-probabilities of given tokens, and the entropy they were drawn at, without keeping logits for backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_KEPT_BYTES = 256 * 2**20
"""Probabilities up to this size are kept for the backward pass; beyond it they are computed again, part by part."""


def log_probabilities(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """(log-probability of each target, entropy without gradient), each [tokens] and float32, in nats.

    Args:
        hidden: [tokens, hidden size], what the head reads.
        weight: [vocabulary, hidden size] of the head, multiplied in autocast's type where autocast is on.
        targets: [tokens].
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _LogProbabilities.apply  # without annotations of its own
    return apply(hidden, weight, bias, targets, temperature)


class _LogProbabilities(torch.autograd.Function):
    """d log p(target) / d logit_v = [v = target] - p_v, so probabilities are all that backward needs."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        low_weight, low_hidden = weight.to(dtype), hidden.to(dtype)
        log_probs = hidden.new_empty(len(hidden), dtype=torch.float32)
        entropy, log_sum = torch.empty_like(log_probs), torch.empty_like(log_probs)
        kept: list[Tensor] = []
        ctx.parts = _parts(len(hidden), weight.size(0))
        for part in ctx.parts:
            logits = _logits(low_hidden[part], low_weight, bias, temperature)
            at_target = logits.gather(1, targets[part, None]).squeeze(1)
            top = logits.amax(1, keepdim=True)
            logits -= top
            probabilities = logits.exp()
            total = probabilities.sum(1)
            probabilities /= total[:, None]
            log_sum[part] = top.squeeze(1) + total.log()
            log_probs[part] = at_target - log_sum[part]
            entropy[part] = total.log() - torch.linalg.vecdot(probabilities, logits)
            if len(ctx.parts) == 1 and any(ctx.needs_input_grad):
                kept.append(probabilities)
        ctx.dtype, ctx.temperature, ctx.kept = dtype, temperature, kept
        ctx.save_for_backward(hidden, weight, bias, targets, log_sum)
        ctx.mark_non_differentiable(entropy)
        return log_probs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, log_sum = ctx.saved_tensors
        low_weight, low_hidden = weight.to(ctx.dtype), hidden.to(ctx.dtype)
        scale = grads[0] / ctx.temperature
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if needs_bias else None
        for part in ctx.parts:
            if ctx.kept:
                grad = ctx.kept.pop()
            else:
                grad = _logits(low_hidden[part], low_weight, bias, ctx.temperature)
                grad -= log_sum[part, None]
                grad.exp_()
            grad *= -scale[part, None]
            grad.scatter_add_(1, targets[part, None], scale[part, None])
            low_grad = grad.to(ctx.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = low_grad @ low_weight
            if grad_weight is not None:
                grad_weight += low_grad.T @ low_hidden[part]
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            None,
            None,
        )


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """[tokens, vocabulary] in float32, divided by the temperature."""
    logits = torch.nn.functional.linear(hidden, weight, None if bias is None else bias.to(weight.dtype)).float()
    return logits if temperature == 1.0 else logits.div_(temperature)


def _parts(tokens: int, vocabulary: int) -> list[slice]:
    """Slices of tokens whose probabilities are at most `_KEPT_BYTES`; one if all fit."""
    size = max(1, _KEPT_BYTES // (4 * vocabulary))
    return [slice(start, min(start + size, tokens)) for start in range(0, max(tokens, 1), size)]
