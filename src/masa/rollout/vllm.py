"""Rollouts from vLLM, with the weights of a model in this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from masa.records import FinishReason, Request, Rollout
from masa.rollout.local import LocalEngine
from masa.rollout.vllm_links import InProcess, Link
from masa.rollout.vllm_weights import served_config, served_weights, state_of


class VLLMEngine:
    """An `Engine` over vLLM: in this process, in one of its own, or behind a port (`vllm_links`).

    vLLM holds a copy of the model. Before a call that follows a change of the model's weights they are sent again, in
    the copy's type and with LoRA merged, and what was cached for prompts is forgotten. Writes through `.data` are not
    seen: tell `weights_changed` of them. Prompts that begin alike share whole blocks of their cache.

    Equal seeds give equal tokens here too, up to floating point and whatever else is in the batch, but not those of
    `LocalEngine`: vLLM has generators of its own. Hidden states come from the model in this process.

    In several processes each has a vLLM of its own, behind a `SharedEngine`, which gathers weights that are spread.

    Not served: models that `LocalEngine` refuses, tensor parallelism, several trainers on one server.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any = None,
        *,
        link: Link | None = None,
        max_batch_size: int = 128,
        eos_token_ids: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
        max_model_len: int | None = None,
        memory_share: float = 0.3,
        compiled: bool | None = None,
        seed: int = 0,
    ) -> None:
        """
        Args:
            model: a causal language model of transformers that vLLM knows, also with PEFT's LoRA.
            tokenizer: asked for its end-of-sequence token only.
            link: to the worker that has vLLM; by default in this process.
            max_batch_size: rows decoded at the same time.
            eos_token_ids: tokens that end a rollout; by default those of the model's generation config and the
                tokenizer's.
            dtype: of vLLM's weights and arithmetic; by default the model's own.
            max_model_len: tokens that prompt and rollout have together at most; by default the model's positions.
            memory_share: of the device's memory that vLLM takes: on a GPU for weights and cache, on a CPU for the
                cache alone (the variable VLLM_CPU_KVCACHE_SPACE, in GiB, takes precedence there).
            compiled: whether vLLM compiles the model when it starts; by default unless the model here is on a CPU.
            seed: of vLLM itself; requests have their own.

        Raises:
            UserError: if vLLM is not there or does not take the model.
            ValueError: as `LocalEngine`.
        """
        self.model = model
        self._local = LocalEngine(
            model, tokenizer, max_batch_size=max_batch_size, eos_token_ids=eos_token_ids, compute_dtype=dtype
        )
        self.eos_token_ids = self._local.eos_token_ids
        known = [number for number in (max_model_len, self._local.positions) if number is not None]
        self.positions = min(known, default=None)
        """Tokens of prompt and rollout together; None if only vLLM knows."""
        self.link: Link = InProcess() if link is None else link
        self._dtype = dtype if dtype is not None else next(model.parameters()).dtype
        self._sent: Hashable = None
        self.updates = 0
        """How often weights were sent."""
        self.cached_tokens = 0
        """Prompt tokens that vLLM had in its cache, over all calls."""
        try:
            self.worker = self.link.ask(
                "start",
                settings={
                    "config": served_config(model),
                    "dtype": str(self._dtype).removeprefix("torch."),
                    "max_num_seqs": max_batch_size,
                    "max_model_len": self.positions,
                    "gpu_memory_utilization": memory_share,
                    "enforce_eager": not (next(model.parameters()).is_cuda if compiled is None else compiled),
                    "seed": seed,
                },
            )
        except BaseException:
            self.link.close()
            raise

    def generate(self, requests: Sequence[Request], *, logprobs: bool = False) -> list[Rollout]:
        """One rollout for each request, in order; see `Engine.generate` for the contract.

        Raises:
            ValueError: if a prompt and its limit exceed the positions, or a prompt holds a token that the model does
                not know.
            UserError: if the worker is gone or fails, in one line.
            FloatingPointError: if a log-probability asked for is not a number.
        """
        if not requests:
            return []
        self._local.check("request", [(request.prompt_ids, request.max_tokens) for request in requests], self.positions)
        self.sync()
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(r.prompt_ids for r in requests))}
        answer = self.link.ask(
            "generate",
            prompts=[list(prompt) for prompt in numbers],
            rows=[[numbers[r.prompt_ids], r.max_tokens, r.temperature, r.top_p, r.top_k, r.seed] for r in requests],
            stop_token_ids=list(self.eos_token_ids),
            logprobs=logprobs,
        )
        self.cached_tokens += answer["cached_tokens"]
        return [
            self._rollout(request, tuple(ids), found)
            for request, (ids, found) in zip(requests, answer["rollouts"], strict=True)
        ]

    def prompt_states(self, prompts: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
        """As `Engine.prompt_states`: a prefill of the model in this process, since vLLM does not hand them out."""
        return self._local.prompt_states(prompts)

    @property
    def is_behind(self) -> bool:
        """Whether the weights are not those that vLLM has; asked while spread weights are not gathered."""
        return state_of(self.model) != self._sent

    def sync(self, whole: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """Send the weights if they are not those that vLLM has; `generate` does so by itself.

        Args:
            whole: a fresh context in which all weights are here, where they are spread over processes.
        """
        if self.is_behind:
            self._sent = None  # what arrives half leaves vLLM with neither
            with whole():
                self.link.load(served_weights(self.model, self._dtype))
            self._sent = state_of(self.model)
            self.updates += 1

    def weights_changed(self) -> None:
        """Have the next call send the weights, whatever it sees of them."""
        self._sent = None

    def close(self) -> None:
        """Let the worker go; the engine cannot be used afterwards."""
        self.link.close()

    def _rollout(self, request: Request, ids: tuple[int, ...], logprobs: list[float] | None) -> Rollout:
        if ids and ids[-1] in self.eos_token_ids:
            reason = FinishReason.STOP
        elif len(ids) == request.max_tokens:
            reason = FinishReason.CUTOFF if request.is_cutoff else FinishReason.LENGTH
        else:
            raise RuntimeError(f"vLLM gave up a request after {len(ids)} of {request.max_tokens} tokens")
        if logprobs is None:
            return Rollout(ids, reason)
        if request.temperature == 0:
            return Rollout(ids, reason, (0.0,) * len(ids))
        if any(map(math.isnan, logprobs)):
            raise FloatingPointError("vLLM's log-probabilities are not numbers: the weights may have diverged")
        return Rollout(ids, reason, tuple(logprobs))
