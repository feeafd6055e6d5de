"""An engine on every process, and each rolls out its part."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from masa.processes import Team
from masa.records import Request, Rollout
from masa.rollout.vllm import VLLMEngine


class OwnEngine(Protocol):
    """An `Engine` over this process's copy of the policy."""

    @property
    def positions(self) -> int | None: ...

    def generate(self, requests: Sequence[Request], *, logprobs: bool = False) -> list[Rollout]: ...

    def prompt_states(self, prompts: Sequence[tuple[int, ...]]) -> NDArray[np.float32]: ...


class SharedEngine:
    """An `Engine` whose requests are dealt out among processes and whose rollouts all of them get.

    Requests of one group stay on one process, which computes their prompt once. Groups are dealt out so that foretold
    tokens are balanced: by `Request.expected_tokens` where it is known, else by the request's limit.

    Weights that are spread over processes are gathered for as long as a `LocalEngine` rolls out, and for a
    `VLLMEngine`, which has a copy, only while they are sent.

    Args:
        engine: this process's own.
        whole: a fresh context in which the policy's weights are all here, entered by all processes together.
    """

    def __init__(
        self, engine: OwnEngine, team: Team, whole: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self.engine = engine
        self.team = team
        self._whole = whole

    @property
    def positions(self) -> int | None:
        """Tokens of prompt and rollout at most, as the model has it."""
        return self.engine.positions

    def generate(self, requests: Sequence[Request], *, logprobs: bool = False) -> list[Rollout]:
        """One rollout for each request, in order; see `Engine.generate` for the contract."""
        groups: dict[Hashable, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(request.prompt_ids if request.group is None else request.group, []).append(place)

        def work(mine: list[list[int]]) -> list[list[Rollout]]:
            rollouts = iter(self.engine.generate([requests[i] for group in mine for i in group], logprobs=logprobs))
            return [[next(rollouts) for _ in group] for group in mine]

        costs = [foretold_tokens([requests[i] for i in group]) for group in groups.values()]
        with self._weights():
            found = self.team.share(list(groups.values()), costs, work, what="rollouts")
        by_place = {
            i: r for group, part in zip(groups.values(), found, strict=True) for i, r in zip(group, part, strict=True)
        }
        return [by_place[i] for i in range(len(requests))]

    def generate_own(self, requests: Sequence[Request], *, logprobs: bool = False) -> list[Rollout]:
        """One rollout for each of this process's own requests; called by all processes together."""
        with self._weights(), self.team.together():
            return self.engine.generate(requests, logprobs=logprobs)

    def prompt_states(self, prompts: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
        """The last hidden state at the end of each prompt, [prompts, width]; see `Engine.prompt_states`."""
        if not prompts:
            return self.engine.prompt_states(prompts)
        costs = [float(len(prompt)) for prompt in prompts]
        with self._whole():
            return np.stack(self.team.share(prompts, costs, self._states, what="hidden states"))

    @contextmanager
    def _weights(self) -> Iterator[None]:
        """Rollouts made meanwhile are those of the policy as it is; entered by all processes together."""
        if not isinstance(self.engine, VLLMEngine):
            with self._whole():
                yield
            return
        # Who has nothing to roll out helps to gather all the same.
        if any(self.team.gather(self.engine.is_behind)):
            with self.team.together():
                self.engine.weights_changed()
                self.engine.sync(self._whole)
        yield

    def _states(self, prompts: list[tuple[int, ...]]) -> list[NDArray[np.float32]]:
        return list(self.engine.prompt_states(prompts))


def foretold_tokens(requests: Sequence[Request]) -> float:
    """Tokens that a group's rollouts are expected to take, each prompt's prefill apart."""
    return sum(
        request.max_tokens if request.expected_tokens is None else min(request.expected_tokens, request.max_tokens)
        for request in requests
    )
