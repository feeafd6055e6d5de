"""Fine-tuning on the policy's own texts: expert trajectories and the warm start.

Beside the policy gradient, with AdamW moments of its own: gradients of the two never meet in one optimizer.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor

from masa.processes import Team

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the response to imitate."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]


class Imitation:
    """Token-mean negative log-likelihood of responses, one full-batch AdamW update at a time.

    Behaviour cloning of the paper (v1, Eq. 5): L = -sum_t log pi(o_t | o_<t), here divided by the tokens of all
    responses. Prompts carry no loss.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        pad_token_id: int,
        max_grad_norm: float = 1.0,
        micro_batch_rows: int = 16,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        team: Team | None = None,
        is_sharded: bool = False,
    ) -> None:
        """
        Args:
            autocast: a fresh context of the run's precision.
            team: processes that learn together, each from its part of the examples.
            is_sharded: whether the model's weights are spread over them (FSDP2), which then averages gradients and
                wants as many passes of each process.
        """
        self._is_sharded = is_sharded
        self._team = team if team is not None else Team()
        self._model = model
        self._pad_token_id = pad_token_id
        self._max_grad_norm = max_grad_norm
        self._micro_batch_rows = micro_batch_rows
        self._autocast = autocast
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=learning_rate, weight_decay=0.0)

    def update(self, examples: Sequence[Example], updates: int) -> dict[str, float]:
        """`updates` steps on all of `examples`; returns loss before and after (nats a token) and tokens seen.

        Gradients found on the parameters are put back afterwards, and so is the model's mode. A step whose
        gradient is not finite changes nothing.
        """
        if not examples or updates < 1:
            return {"loss_first": 0.0, "loss_last": 0.0, "tokens": 0.0, "skipped_updates": 0.0}
        tokens = sum(len(example.response_ids) for example in examples)
        kept_grads = [p.grad for p in self._parameters]
        was_training = self._model.training
        self._model.train()
        losses: list[float] = []
        skipped = 0
        try:
            for _ in range(updates):
                self._optimizer.zero_grad(set_to_none=True)
                # The mean over processes of a gradient times their number is the sum over all parts.
                loss = sum(self._backward(part, tokens / self._team.size) for part in self._own_parts(examples))
                if not self._is_sharded:
                    self._team.average_gradients(self._parameters)
                losses.append(self._team.total(loss) / self._team.size)
                norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm or math.inf)
                if math.isfinite(norm.full_tensor() if isinstance(norm, DTensor) else norm):
                    self._optimizer.step()
                else:
                    skipped += 1
        finally:
            for parameter, grad in zip(self._parameters, kept_grads, strict=True):
                parameter.grad = grad
            self._model.train(was_training)
        return {
            "loss_first": losses[0],
            "loss_last": losses[-1],
            "tokens": float(tokens * updates),
            "skipped_updates": float(skipped),
        }

    def update_in_batches(
        self, examples: Sequence[Example], updates: int, batch: int, order: random.Random
    ) -> dict[str, float]:
        """`updates` steps, each on the next `batch` examples of a shuffled pass; figures as `update` gives them."""
        results: list[dict[str, float]] = []
        waiting: list[Example] = []
        for _ in range(updates if examples else 0):
            if len(waiting) < min(batch, len(examples)):
                waiting += order.sample(list(examples), len(examples))
            results.append(self.update(waiting[:batch], 1))
            waiting = waiting[batch:]
        return {
            "loss_first": results[0]["loss_first"] if results else 0.0,
            "loss_last": results[-1]["loss_last"] if results else 0.0,
            "tokens": sum(result["tokens"] for result in results),
            "skipped_updates": sum(result["skipped_updates"] for result in results),
        }

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state; of sharded weights it is gathered, by all processes together."""
        if self._is_sharded:
            return get_optimizer_state_dict(self._model, self._optimizer, options=_WHOLE)
        return self._optimizer.state_dict()

    @property
    def own_state(self) -> list[dict[str, Any]]:
        """The optimizer's state of each parameter as this process has it, which asks no other."""
        return list(self._optimizer.state.values())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave, under the same sharding or none."""
        if self._is_sharded:
            set_optimizer_state_dict(self._model, self._optimizer, state, options=_WHOLE)
        else:
            self._optimizer.load_state_dict(state)

    def _own_parts(self, examples: Sequence[Example]) -> list[list[Example]]:
        """This process's micro-batches, filled up with empty ones where all must make as many passes."""
        parts = self._parts(examples)
        size = self._team.size
        if self._is_sharded:
            parts += [[]] * (-len(parts) % size)
        return parts[self._team.rank :: size]

    def _parts(self, examples: Sequence[Example]) -> list[list[Example]]:
        ordered = sorted(examples, key=lambda e: len(e.prompt_ids) + len(e.response_ids))
        return [ordered[i : i + self._micro_batch_rows] for i in range(0, len(ordered), self._micro_batch_rows)]

    def _backward(self, part: Sequence[Example], tokens: float) -> float:
        input_ids, attention_mask, labels = self._collate(part)
        with self._autocast():
            logits = self._model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
        loss: Tensor = nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
        )
        torch.autograd.backward(loss / tokens)
        return float(loss.detach()) / tokens

    def _collate(self, part: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
        """Right-padded [rows, width] ids, mask and labels (-100 where there is no loss)."""
        width = max((len(e.prompt_ids) + len(e.response_ids) for e in part), default=2)
        rows = max(len(part), 1)
        input_ids = torch.full((rows, width), self._pad_token_id)
        attention_mask = torch.zeros((rows, width), dtype=torch.long)
        attention_mask[len(part) :] = 1  # a row that stands for none attends, and has no label
        labels = torch.full((rows, width), -100)
        for i, example in enumerate(part):
            ids = torch.tensor(example.prompt_ids + example.response_ids)
            input_ids[i, : len(ids)] = ids
            attention_mask[i, : len(ids)] = 1
            labels[i, len(example.prompt_ids) : len(ids)] = ids[len(example.prompt_ids) :]
        device = next(self._model.parameters()).device
        return input_ids.to(device), attention_mask.to(device), labels.to(device)
