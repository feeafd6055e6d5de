"""One update on the same rollouts, the way TRL computes it and the way MASATrainer does: losses, gradients, seconds."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from masa.training.microbatches import build_micro_batches, denominators

LIMIT = 1e-5
"""Largest difference of losses, and of gradients relative to their norm, in float32."""
BY_LENGTH_ROWS = 8
"""Rows of a micro-batch where TRL's forward pass gets our micro-batches."""
TRL, BY_LENGTH, PACKED, OURS = (
    "TRL",
    "like lengths in a micro-batch",
    "packed rows, shared prompts once, logits of completions only",
    "rows without an advantage left out",
)
"""Ways to compute the update; each has what the ones before it have. The last is what MASATrainer does."""


@dataclass(frozen=True, slots=True)
class Update:
    """All micro-batches of a step, forward and backward; no optimizer."""

    seconds: float
    loss: float
    gradient: torch.Tensor
    """Of all trained parameters in a row."""


def update_on_same_rollouts(trainers: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Our trainer samples, and TRL's is made to take its rollouts for its own generation."""
    ours = trainers.ours()
    reference = trainers.trl(trainers.rows)
    reference.model.load_state_dict(ours.model.state_dict())
    for trainer in (ours, reference):
        trainer.model.train()
    rows, whole = _rollouts(ours, reference)

    def trl(size: int) -> Update:
        starts = range(0, trainers.rows, size)
        return _update(reference, [{k: v[s : s + size] if v.ndim else v for k, v in whole.items()} for s in starts])

    def masa(*, packed: bool, drop: bool) -> Update:
        forward = ours.packed
        count = 1 if packed else max(1, trainers.rows // BY_LENGTH_ROWS)
        batches = build_micro_batches(
            rows,
            count=count,
            max_rows=trainers.rows,
            loss_type=ours.args.loss_type,
            denominator=denominators(rows, loss_type=ours.args.loss_type, mode="all"),
            pad_token_id=ours.processing_class.pad_token_id,
            device=torch.device("cpu"),
            drop_dead=drop,
            share_prompts=packed,
        )
        if not packed:
            ours.packed = None
        try:
            return _update(ours, batches)
        finally:
            ours.packed = forward

    sizes = [size for size in options.micro_batches if size <= trainers.rows and trainers.rows % size == 0]
    trl(sizes[-1])  # warm-up
    tried = {size: trl(size).seconds for size in sizes}
    best = min(tried, key=tried.__getitem__)
    ways: dict[str, Callable[[], Update]] = {
        TRL: lambda: trl(best),
        BY_LENGTH: lambda: masa(packed=False, drop=False),
        PACKED: lambda: masa(packed=True, drop=False),
        OURS: lambda: masa(packed=True, drop=True),
    }
    ways[OURS]()  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    updates: dict[str, Update] = {}
    for _ in range(options.repeats):
        for name, way in ways.items():
            updates[name] = way()
            seconds[name].append(updates[name].seconds)
    gap = max(_distance(updates[name], updates[TRL]) for name in ways)
    rounding = None
    if options.bf16:
        reference.accelerator.autocast = contextlib.nullcontext
        exact = trl(best)
        rounding = {name: _distance(update, exact) for name, update in updates.items()}
    else:
        assert abs(updates[OURS].loss - updates[TRL].loss) < LIMIT, (updates[OURS].loss, updates[TRL].loss)
        assert gap < LIMIT, gap
    return {
        "loss": {name: update.loss for name, update in updates.items()},
        "gradient_gap": gap,
        "distance_from_float32": rounding,
        "rows": len(rows),
        "live_rows": sum(row.advantage != 0 for row in rows),
        "micro_batch": best,
        "micro_batch_seconds": tried,
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratio": {name: ratio(seconds[TRL], seconds[name])["median"] for name in ways},
    }


def _rollouts(ours: Any, reference: Any) -> tuple[list[Any], dict[str, torch.Tensor]]:
    """Rows for our micro-batches, and TRL's generation batch of the same rollouts."""
    experience = ours.experience.make(1)
    ids = [list(rollout.token_ids) for group in experience.groups for rollout in group.solution.rollouts]
    reference._generate_single_turn = lambda *_, **__: (ids, None)
    inputs = [dict(group.row) for group in experience.groups for _ in group.solution.rollouts]
    return experience.rows, reference._generate_and_score_completions(inputs)


def _update(trainer: Any, batches: Sequence[dict[str, torch.Tensor]]) -> Update:
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = len(batches)
    trainer.model.zero_grad()
    total = 0.0
    start = time.perf_counter()
    for batch in batches:
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        total += loss.item()
    seconds = time.perf_counter() - start
    gradients = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
    return Update(seconds, total, torch.cat(gradients) if gradients else torch.zeros(1))


def _distance(a: Update, b: Update) -> float:
    """Norm of the gradients' difference, as a share of the norm of `b`'s."""
    return float((a.gradient - b.gradient).norm() / b.gradient.norm().clamp(min=1e-12))


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """TRL's seconds over ours, pair by pair."""
    pairs = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {"median": statistics.median(pairs), "lowest": min(pairs), "highest": max(pairs)}
