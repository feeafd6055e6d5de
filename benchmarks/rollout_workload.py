"""What the rollout benchmark asks for: real prompts, and lengths as they really occur.

Lengths come from answers that the model itself sampled. All engines are then given the same lengths, so that work is
compared, not luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from masa.records import Request
from masa.rollout.local import LocalEngine
from masa.tasks.procedural import bundled_mix, reasoning_gym_problems

CASES = ("equal", "ragged", "ragged-cutoff", "heavy-tail", "heavy-tail-cutoff")
_CUTOFF = 2.0
"""Cutoff of a prompt's rollouts, as a multiple of their median length."""


@dataclass(frozen=True)
class Workload:
    """Requests, and the lengths that their rollouts will have."""

    case: str
    requests: list[Request]
    lengths: list[int]
    """Tokens of each rollout, all of them useful; at most its request's limit, which schedulers may know."""

    @property
    def useful(self) -> int:
        """Tokens in all."""
        return sum(self.lengths)


class Workloads:
    """The cases over one set of sampled answers."""

    def __init__(self, model: Any, tokenizer: Any, prompts: int, group: int, max_tokens: int) -> None:
        self._prompts = prompt_ids(model, tokenizer, prompts)
        self._group = group
        self._max_tokens = max_tokens
        asked = self._requests([max_tokens] * prompts * group)
        bfloat16 = torch.bfloat16 if model.config.hidden_size > 256 else None  # sooner done, and lengths are lengths
        sampled = LocalEngine(model, tokenizer, compute_dtype=bfloat16).generate(asked)
        self.sampled = np.array([rollout.length for rollout in sampled])

    def case(self, name: str) -> Workload:
        """One of `CASES`; `equal` gives each rollout the mean of the sampled lengths."""
        lengths = self.sampled
        limits = np.full_like(lengths, self._max_tokens)
        if name == "equal":
            lengths = np.full_like(lengths, round(lengths.mean()))
        if name.startswith("heavy-tail"):
            # One in ten runs to the limit; the others end as sampled, but within a quarter of it.
            is_runaway = np.arange(len(lengths)) % 10 == 0
            lengths = np.where(is_runaway, self._max_tokens, lengths.clip(max=self._max_tokens // 4))
        if name.endswith("cutoff"):
            medians = np.median(lengths.reshape(-1, self._group), axis=1).repeat(self._group)
            limits = np.minimum(np.ceil(_CUTOFF * medians).astype(int), self._max_tokens)
            lengths = np.minimum(lengths, limits)
        return Workload(name, self._requests(limits.tolist()), lengths.tolist())

    def _requests(self, limits: Sequence[int]) -> list[Request]:
        return [Request(self._prompts[index // self._group], limit, seed=index) for index, limit in enumerate(limits)]


def prompt_ids(model: Any, tokenizer: Any, count: int) -> list[tuple[int, ...]]:
    """Problems of the bundled mix for the bundled model, else the short sums, products and divisors of the examples."""
    if model.config.hidden_size <= 256:
        texts = [problem.text for problem in bundled_mix(count, seed=0)]
        system = []
    else:
        one_digit = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
        kinds = [("chain_sum", one_digit), ("products", one_digit), ("gcd", {"min_value": 2, "max_value": 12})]
        made = [reasoning_gym_problems(name, -(-count // 3), 0, config) for name, config in kinds]
        mixed = [problem for problems in zip(*made, strict=True) for problem in problems][:count]
        texts = [f"{problem.text}\nEnd with the words: The answer is" for problem in mixed]
        system = [{"role": "system", "content": "Answer briefly."}]
    return [
        tuple(
            tokenizer.apply_chat_template(
                [*system, {"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
            )
        )
        for text in texts
    ]
