"""From rows with advantages to the micro-batches that TRL's loss is computed on.

Rows that cannot teach (advantage 0) never reach the model. Rows of like length share a micro-batch, trimmed to its own
longest row; or, where the learner computes a shared prompt once, rows of one prompt do. What TRL divides by depends on
the loss, so every row carries a factor on its advantage that makes the sum over micro-batches the loss wanted, whatever
was dropped. All losses of `ROW_DROPPING_LOSSES` are linear in a positive factor on the advantage, clipping included.

Rows have weights (of unequal groups, of audits): a row of weight w counts as w rows like it would, in the sum and in
what that is divided by.

Several processes each learn from whole groups, balanced by tokens, and average their gradients. TRL compares the rows
of all processes inside its loss, so a micro-batch has as many rows on each, filled up with rows that count nothing.

Notation: R rows of the whole step (the sum of their weights), K rows kept, A micro-batches (TRL's gradient
accumulation), N processes, R_m rows in micro-batch m on each of them, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from masa.processes import Team, deal
from masa.training.importance import SAMPLED, sampled_column

TOKEN_MEAN_LOSSES = frozenset({"dapo", "cispo", "vespo"})
"""TRL divides the sum over tokens by `num_items_in_batch`, given to it: dropping rows needs no factor."""
ROW_MEAN_LOSSES = frozenset({"grpo", "dr_grpo", "sapo", "luspo"})
"""TRL takes the mean over a micro-batch's rows, then over micro-batches: the factor is N x R_m x A / R."""
ROW_DROPPING_LOSSES = TOKEN_MEAN_LOSSES | ROW_MEAN_LOSSES
"""`bnpo` is missing: it divides by each micro-batch's own tokens, which dropping rows changes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One completion on its way to the learner."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    advantage: float
    path: str
    """`solution` or `meta`."""
    is_live: bool
    """Whether its group can teach, that is, has variance."""
    is_masked: bool = False
    """Left out of the loss and of token counts (TRL's `mask_truncated_completions`)."""
    weight: float = 1.0
    """How many rows it counts for, a positive number."""
    group: int = 0
    """Names the rows that one process learns from."""
    logprobs: tuple[float, ...] | None = None
    """The completion's, under the distribution it was drawn from, where importance correction needs them."""

    @property
    def width(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.prompt_ids) + len(self.completion_ids)

    @property
    def tokens(self) -> int:
        """Completion tokens that count in the loss."""
        return 0 if self.is_masked else len(self.completion_ids)

    @property
    def weighted_tokens(self) -> float:
        """Those tokens times the row's weight."""
        return self.tokens * self.weight


@dataclass(frozen=True, slots=True)
class Denominators:
    """What each path's sum is divided by."""

    tokens: float
    """`num_items_in_batch` as TRL gets it."""
    rows: float
    """R for the losses that average over rows."""
    path_scale: dict[str, float]
    """Factor on the advantages of each path."""


def denominators(rows: Sequence[Row], *, loss_type: str, mode: str, meta_weight: float = 1.0) -> Denominators:
    """Denominators under `loss_denominator` = `mode`.

    `all`: every row counts, as in TRL. `live`: each path is divided by its own live rows (or their tokens), so the
    loss is the solution path's mean plus `meta_weight` times the meta path's, whatever share of groups is dead. In
    both, rows and tokens are counted by the rows' weights.
    """
    if mode == "all":
        return Denominators(
            tokens=math.fsum(row.weighted_tokens for row in rows),
            rows=math.fsum(row.weight for row in rows),
            path_scale=dict.fromkeys({row.path for row in rows}, 1.0),
        )
    live = [row for row in rows if row.is_live]
    size = {
        path: math.fsum(
            row.weighted_tokens if loss_type in TOKEN_MEAN_LOSSES else row.weight for row in live if row.path == path
        )
        for path in ("solution", "meta")
    }
    total = math.fsum(size.values())
    weight = {"solution": 1.0, "meta": meta_weight}
    return Denominators(
        tokens=total,
        rows=total,
        path_scale={path: weight[path] * total / count for path, count in size.items() if count},
    )


def build_micro_batches(
    rows: Sequence[Row],
    *,
    count: int,
    max_rows: int,
    loss_type: str,
    denominator: Denominators,
    pad_token_id: int,
    device: torch.device,
    drop_dead: bool,
    share_prompts: bool = False,
    team: Team | None = None,
) -> list[dict[str, Tensor]]:
    """This process's micro-batches in TRL's format, exactly `count`; those beyond the kept rows are empty.

    Args:
        rows: every row of the step, on all processes together.
        count: TRL's gradient accumulation steps, A.
        max_rows: bound on a micro-batch's rows, where `count` of them can hold all rows.
        drop_dead: leave out rows with advantage 0; only exact for `ROW_DROPPING_LOSSES` without a KL term, entropy
            bonus or auxiliary loss.
        share_prompts: a prompt costs once a micro-batch and padding nothing, so rows of one prompt stay together.
        team: the processes that learn together; None for this one alone.
    """
    kept = [row for row in rows if row.tokens and (row.advantage != 0.0 or not drop_dead)]
    team = Team(alone=True) if team is None else team
    kept = _deal_groups(kept, team.size)[team.rank]
    scaled = [replace(row, advantage=row.advantage * denominator.path_scale[row.path] * row.weight) for row in kept]
    split = _split_by_prompt if share_prompts else _split_by_length
    parts = split(scaled, count, max(max_rows, math.ceil(len(scaled) / count)))
    sizes = [max(found) for found in zip(*team.gather([len(part) for part in parts]), strict=True)]
    batches = []
    for part, size in zip(parts, sizes, strict=True):
        factor = 1.0
        if loss_type in ROW_MEAN_LOSSES and denominator.rows:
            factor = team.size * size * count / denominator.rows
        batches.append(_collate(part, size, factor, denominator.tokens, pad_token_id, device))
    return batches


def _deal_groups(rows: Sequence[Row], processes: int) -> list[list[Row]]:
    """The rows of each process: whole groups, so that tokens are balanced."""
    tokens: dict[int, float] = {}
    for row in rows:
        tokens[row.group] = tokens.get(row.group, 0.0) + row.width
    owners = dict(zip(tokens, deal(list(tokens.values()), processes), strict=True))
    return [[row for row in rows if owners[row.group] == process] for process in range(processes)]


def _split_by_length(rows: Sequence[Row], count: int, max_rows: int) -> list[list[Row]]:
    """`count` parts of at most `max_rows` rows with the least padding in all; those not needed are empty.

    Rows are sorted by width, longest first, so a part's padded area is its size times the width of its first row.
    """
    ordered = sorted(rows, key=lambda row: -row.width)
    widths = np.array([row.width for row in ordered], dtype=float)
    sizes = np.arange(1, len(ordered) + 1)[None, :] - np.arange(len(ordered))[:, None]
    return _cut(ordered, sizes * widths[:, None], count, max_rows)


def _split_by_prompt(rows: Sequence[Row], count: int, max_rows: int) -> list[list[Row]]:
    """`count` parts of at most `max_rows` rows with the fewest tokens in all, a prompt counting once a part.

    Rows are ordered by their prompts, so a part's tokens are those of its rows, each prompt with its first row, and
    once more the prompt that the cut before the part has gone through.
    """
    place: dict[tuple[int, ...], int] = {}
    for row in rows:
        place.setdefault(row.prompt_ids, len(place))
    ordered = sorted(rows, key=lambda row: place[row.prompt_ids])
    prompts = np.array([len(row.prompt_ids) for row in ordered], dtype=float)
    is_first = np.array([i == 0 or ordered[i - 1].prompt_ids != row.prompt_ids for i, row in enumerate(ordered)])
    tokens = np.array([len(row.completion_ids) for row in ordered]) + np.where(is_first, prompts, 0.0)
    through = np.concatenate(([0.0], np.cumsum(tokens)))
    repeated = np.where(is_first, 0.0, prompts)
    return _cut(ordered, through[None, 1:] - through[:-1, None] + repeated[:, None], count, max_rows)


def _cut(ordered: Sequence[Row], costs: NDArray[np.float64], count: int, max_rows: int) -> list[list[Row]]:
    """`count` runs of `ordered`, of at most `max_rows` rows, that cost the least in all; those not needed are empty.

    Args:
        costs: [start, end - 1] of a part; entries that end before they start are not looked at.
    """
    n = len(ordered)
    sizes = np.arange(1, n + 1)[None, :] - np.arange(n)[:, None]
    costs = np.where((sizes > 0) & (sizes <= max_rows), costs, np.inf)
    # Dynamic programming over prefixes: the best cuts of a prefix do not depend on what follows it.
    best = np.full(n + 1, np.inf)
    best[0] = 0.0
    choices = []
    for _ in range(count if n else 0):
        through = best[:n, None] + costs
        choices.append(through.argmin(axis=0))
        candidate = np.concatenate(([0.0], through.min(axis=0)))
        # A prefix may also do with fewer parts.
        choices[-1] = np.where(best[1:] <= candidate[1:], -1, choices[-1])
        best = np.minimum(best, candidate)
    parts: list[list[Row]] = []
    end = n
    for choice in reversed(choices):
        start = int(choice[end - 1]) if end else -1
        if start >= 0:
            parts.append(list(ordered[start:end]))
            end = start
    # Empty ones first: where weights are sharded, gradients are gathered by the last backward pass alone.
    return [[] for _ in range(count - len(parts))] + parts[::-1]


def _collate(
    rows: Sequence[Row], size: int, factor: float, num_items: float, pad_token_id: int, device: torch.device
) -> dict[str, Tensor]:
    """`size` rows, those beyond `rows` masked: prompts padded on the left, completions on the right, as TRL has it."""
    # Width 2 at least: TRL takes a column of width 1 for a per-sequence value.
    prompt_width = max((len(row.prompt_ids) for row in rows), default=1)
    completion_width = max(2, max((len(row.completion_ids) for row in rows), default=2))
    shape = (size, prompt_width), (size, completion_width)
    prompt_ids, completion_ids = (torch.full(s, pad_token_id, dtype=torch.long) for s in shape)
    prompt_mask, completion_mask = (torch.zeros(s, dtype=torch.long) for s in shape)
    for i, row in enumerate(rows):
        prompt_ids[i, prompt_width - len(row.prompt_ids) :] = torch.tensor(row.prompt_ids)
        prompt_mask[i, prompt_width - len(row.prompt_ids) :] = 1
        completion_ids[i, : len(row.completion_ids)] = torch.tensor(row.completion_ids)
        completion_mask[i, : row.tokens] = 1
    fill = size - len(rows)
    prompt_mask[len(rows) :, -1:] = 1  # attention needs something to look at
    batch = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "advantages": torch.tensor([row.advantage * factor for row in rows] + [0.0] * fill, dtype=torch.float32),
        "num_items_in_batch": torch.tensor(float(num_items)),
    }
    sampled = sampled_column([*(row.logprobs for row in rows), *[()] * fill], completion_width)
    if sampled is not None:
        batch[SAMPLED] = sampled
    return {name: tensor.to(device) for name, tensor in batch.items()}
