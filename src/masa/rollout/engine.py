"""What a source of rollouts promises, whatever runs underneath. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from masa.records import Request, Rollout

Decode = Callable[[Sequence[Rollout]], list[str]]
"""Rollouts to their texts, special tokens skipped."""


class Engine(Protocol):
    """Turns requests into rollouts with the policy's current weights.

    The weights may change between two calls, never during one.
    """

    def generate(self, requests: Sequence[Request], *, logprobs: bool = False) -> list[Rollout]:
        """One rollout for each request, in the order of the requests.

        Each request has its own token limit and sampling settings. A rollout holds at most `max_tokens` tokens, the
        end-of-sequence token included, and says why it ended: `stop` when the model wrote an end-of-sequence token
        (also as the last token allowed), else `cutoff` or `length` by `Request.is_cutoff`. A request's tokens follow
        from its own prompt, settings and seed; what else is in the batch changes them at most through floating point.

        Args:
            requests: any number, none included; requests with the same prompt share its computation.
            logprobs: whether to fill `Rollout.logprobs`: natural logarithms, one a token, under the distribution that
                the token was drawn from, that is after temperature, top-k and top-p. They equal the policy's own
                log-probabilities only at temperature 1 without top-k and top-p. Greedy tokens have 0.

        Raises:
            ValueError: if a prompt and its limit exceed the model's positions.
        """
        ...

    def prompt_states(self, prompts: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
        """The policy's last hidden state at the end of each prompt, [prompts, width].

        It is what the output head reads at the prompt's last token, after the final norm. No token is generated, so it
        costs no more than the prompts' prefill; equal prompts are computed once.

        Args:
            prompts: token ids, any number of prompts, none included.

        Raises:
            ValueError: if a prompt is empty or exceeds the model's positions.
        """
        ...
