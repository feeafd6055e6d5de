"""Rollouts in this process, from any Hugging Face causal language model with full or sliding-window attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from masa.records import FinishReason, Request, Rollout
from masa.rollout.forward import Forward, TransformersForward
from masa.rollout.llama import LlamaForward, is_llama_shaped
from masa.rollout.precision import computing_in
from masa.rollout.prefill import Prefill, Prefix
from masa.rollout.sampling import SamplingSettings, sample, seed_array, uniforms
from masa.rollout.schedule import Waiting
from masa.rollout.slots import SlotCache, attention_layers


class LocalEngine:
    """An `Engine` over a model in this process, sharing its weights with whoever trains it.

    Each distinct prompt is computed once and its keys and values are shared by its requests; what many prompts begin
    with is computed once for all. A fixed number of slots holds the live rows: a finished row leaves at once and the
    next waiting request takes its place, so that memory is bounded by the slots and their longest live row, whatever
    the number of requests.

    Llama, Mistral, Qwen2 and Qwen3, plain or with LoRA, pass through the engine's own forward pass, on a CPU with
    copies of the linear layers' weights that last for the call; other models pass through theirs.

    During a call the model is in evaluation mode and without gradients; afterwards, also after an exception or Ctrl-C,
    every module is in the mode it was found in. Weights, data type and configuration are never touched.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any = None,
        *,
        max_batch_size: int = 128,
        eos_token_ids: Sequence[int] | None = None,
        num_threads: int | None = None,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        """
        Args:
            model: a causal language model of transformers, also wrapped by PEFT; its current weights and device are
                looked up at every call.
            tokenizer: asked for its end-of-sequence token only.
            max_batch_size: slots, rows decoded at the same time.
            eos_token_ids: tokens that end a rollout. By default those of the model's generation config and the
                tokenizer's; an empty sequence ends rollouts at their limits only.
            num_threads: torch's threads during a call; by default as they are.
            compute_dtype: type of matrix products, keys and values during a call, as under autocast; by default the
                model's own, or autocast's where the call is made under it. Weights stay as they are; linear layers
                work on copies, made anew at every call.

        Raises:
            ValueError: on a max_batch_size or num_threads below 1, or a model that keeps other state than keys and
                values (for example Mamba), or prepends learned states to the prompt (prefix tuning).
        """
        if max_batch_size < 1:
            raise ValueError(f"max_batch_size must be at least 1, got {max_batch_size}")
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, got {num_threads}")
        if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
            raise ValueError("LocalEngine does not serve prompt-learning adapters (prefix or prompt tuning): use LoRA")
        self.model = model
        self.max_batch_size = max_batch_size
        self.num_threads = num_threads
        self.compute_dtype = compute_dtype
        self.eos_token_ids = _eos_token_ids(model, tokenizer) if eos_token_ids is None else tuple(eos_token_ids)
        self.num_layers = attention_layers(model.config)

    def generate(self, requests: Sequence[Request], *, logprobs: bool = False) -> list[Rollout]:
        """One rollout for each request, in order; see `Engine.generate` for the contract.

        Raises:
            ValueError: if a prompt and its limit exceed the model's positions, or a prompt holds a token that the
                model does not know.
            FloatingPointError: if the model's logits are not finite.
        """
        if not requests:
            return []
        with self.generation(requests, logprobs=logprobs) as generation:
            return generation.run()

    @contextmanager
    def generation(self, requests: Sequence[Request], *, logprobs: bool = False) -> Iterator[Generation]:
        """What `generate` runs, ready to run once while the context lasts."""
        self.check("request", [(request.prompt_ids, request.max_tokens) for request in requests], self.positions)
        positions = max(len(request.prompt_ids) + request.max_tokens for request in requests)
        with _evaluation(self.model), _threads(self.num_threads), self._forward(positions) as forward:
            yield Generation(self, forward, requests, logprobs)

    def prompt_states(self, prompts: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
        """The last hidden state at the end of each prompt, [prompts, width]; see `Engine.prompt_states`.

        The model's decoder runs over the prompts in the batches of a prefill, its output head not at all.

        Raises:
            ValueError: if a prompt is empty, exceeds the model's positions, or holds a token that the model does not
                know.
            FloatingPointError: if a state is not finite.
        """
        config: Any = self.model.config
        width = int(config.get_text_config(decoder=True).hidden_size)
        if not prompts:
            return np.empty((0, width), dtype=np.float32)
        self.check("prompt", [(prompt, 0) for prompt in prompts], self.positions)
        distinct = list(dict.fromkeys(prompts))
        blocks: list[NDArray[np.float32]] = []
        numbers: list[int] = []
        with _evaluation(self.model), _threads(self.num_threads), self._forward(max(map(len, distinct))) as forward:
            prefill = Prefill(forward, distinct, _device(self.model), width)
            for batch, states in prefill.states(range(len(distinct))):
                numbers += batch
                blocks.append(states.float().cpu().numpy())
        found = np.concatenate(blocks)
        if not np.isfinite(found).all():
            raise FloatingPointError("the model's hidden states are not finite")
        rows = {distinct[number]: row for row, number in enumerate(numbers)}
        return found[[rows[prompt] for prompt in prompts]]

    @contextmanager
    def _forward(self, positions: int) -> Iterator[Forward]:
        device = _device(self.model).type
        dtype = self.compute_dtype
        if dtype is None and torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        if is_llama_shaped(self.model):
            with torch.autocast(device, enabled=False):
                yield LlamaForward(self.model, positions, dtype)
        else:
            with computing_in(self.model, dtype):
                yield TransformersForward(self.model)

    @property
    def positions(self) -> int | None:
        """Tokens of prompt and rollout that the model has positions for; None without a bound."""
        config: Any = self.model.config
        found = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
        return None if found is None else int(found)

    def check(self, kind: str, prompts: Sequence[tuple[tuple[int, ...], int]], positions: int | None) -> None:
        """Refuse prompts, each with the tokens that may follow it, that the model cannot take.

        Raises:
            ValueError: naming the first of them as one of this `kind`.
        """
        vocabulary = _vocabulary(self.model)
        for index, (prompt, limit) in enumerate(prompts):
            length = len(prompt)
            if not length:
                raise ValueError(f"{kind} {index}: the prompt is empty")
            if positions is not None and length + limit > positions:
                if not limit:
                    raise ValueError(
                        f"{kind} {index}: {length} tokens, the model has {positions} positions: shorten it"
                    )
                raise ValueError(
                    f"{kind} {index}: a prompt of {length} tokens and a limit of {limit} need "
                    f"{length + limit} positions, the model has {positions}: shorten one of them"
                )
            if not 0 <= min(prompt) <= max(prompt) < vocabulary:
                raise ValueError(
                    f"{kind} {index}: token ids must lie in 0..{vocabulary - 1}, got {min(prompt)}..{max(prompt)}"
                )


class Generation:
    """The state of one call: which request sits in which slot, and what has been sampled."""

    def __init__(self, engine: LocalEngine, forward: Forward, requests: Sequence[Request], logprobs: bool) -> None:
        self.forward = forward
        self.requests = requests
        self.logprobs = logprobs
        self.device = _device(engine.model)
        self.waiting = Waiting(requests)
        self.before_step: Callable[[], None] | None = None
        """Called before each token step; what it raises ends the call, as Ctrl-C does."""
        self.slots = min(engine.max_batch_size, len(requests))
        self.cache = SlotCache(engine.num_layers, self.slots, dtype=engine.compute_dtype)
        vocabulary = _vocabulary(engine.model)
        self.prefill = Prefill(forward, self.waiting.prompts, self.device, vocabulary)
        self.pinned: tuple[int, Prefix] | None = None
        """The prompt that the last requests to start and the next one waiting have in common."""
        # One entry a request.
        self.settings = SamplingSettings.of(requests, self.device)
        self.seeds = seed_array([request.seed for request in requests])
        self.limits = np.array([request.max_tokens for request in requests])
        """Tokens after which each request ends at the latest; may be lowered at any step, to 0 to give a request up."""
        self.counts = np.zeros(len(requests), dtype=np.int64)
        self.is_stopped = np.zeros(len(requests), dtype=bool)
        # One entry a live row.
        self.live = np.empty(0, dtype=np.int64)
        self.live_settings = self.settings
        self.logits: torch.Tensor | None = None
        # What was sampled, one entry a step: (requests, tokens, log-probabilities).
        self.log: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64] | None]] = []
        self.is_eos = np.zeros(max(vocabulary, *engine.eos_token_ids, 0) + 1, dtype=bool)
        self.is_eos[list(engine.eos_token_ids)] = True

    def run(self) -> list[Rollout]:
        """One rollout for each request, in order."""
        while True:
            if self.before_step is not None:
                self.before_step()
            self._admit()
            if not len(self.live):
                return self._rollouts()
            tokens = self._sample()
            tokens = self._retire(tokens)
            if len(self.live):
                if not len(self.waiting):
                    self.cache.slots = len(self.live)
                self.cache.make_room()
                self.logits = self.forward.decode(tokens, self.cache)
                self.cache.window.column += 1

    def _admit(self) -> None:
        free = self.slots - len(self.live)
        if not free or not len(self.waiting):
            return
        arrivals: dict[int, list[int]] = {}
        for arrival in self.waiting.take(free):
            arrivals.setdefault(arrival.prompt, []).append(arrival.request)
        joined = [self.logits] if self.logits is not None else []
        if self.pinned is not None and self.pinned[0] in arrivals:
            number, prefix = self.pinned
            joined.append(self._join([arrivals.pop(number)], prefix))
        if self.pinned is not None and self.waiting.next_prompt != self.pinned[0]:
            self.pinned = None
        for numbers, prefix in self.prefill(list(arrivals)):
            joined.append(self._join([arrivals[number] for number in numbers], prefix))
            if self.waiting.next_prompt in numbers:
                self.pinned = (self.waiting.next_prompt, prefix.only(numbers.index(self.waiting.next_prompt)))
        self.logits = torch.cat(joined)
        self.live_settings = self.settings.rows(torch.from_numpy(self.live).to(self.device))

    def _join(self, groups: list[list[int]], prefix: Prefix) -> torch.Tensor:
        """Give slots to the requests of each of the prefix's prompts; returns their logits, [new rows, vocabulary]."""
        sizes = torch.tensor([len(group) for group in groups])
        index = torch.repeat_interleave(torch.arange(len(groups)), sizes)
        device_index = index.to(self.device)
        self.cache.join(prefix.layers, device_index, prefix.lengths[index])
        self.live = np.concatenate([self.live, *(np.array(group, dtype=np.int64) for group in groups)])
        return prefix.logits[device_index]

    def _sample(self) -> torch.Tensor:
        assert self.logits is not None
        uniform = torch.from_numpy(uniforms(self.seeds[self.live], self.counts[self.live])).to(self.device)
        tokens, logprobs = sample(self.logits, self.live_settings, uniform, logprobs=self.logprobs)
        kept = None if logprobs is None else logprobs.double().cpu().numpy()
        self.log.append((self.live, tokens.cpu().numpy(), kept))
        return tokens

    def _retire(self, tokens: torch.Tensor) -> torch.Tensor:
        """Drop rows that ended with these tokens; returns the other rows' tokens."""
        live = self.live
        self.counts[live] += 1
        is_stopped = self.is_eos[self.log[-1][1]]
        is_done = is_stopped | (self.counts[live] >= self.limits[live])
        if not is_done.any():
            return tokens
        self.is_stopped[live] = is_stopped
        order = self.cache.keep(torch.from_numpy(~is_done))
        self.live = live[order.numpy()]
        device_order = order.to(self.device)
        self.live_settings = self.live_settings.rows(device_order)
        self.logits = None
        return tokens[device_order]

    def _rollouts(self) -> list[Rollout]:
        # Steps were logged in order, so a stable sort by request leaves each request's tokens in order.
        requests = np.concatenate([entry[0] for entry in self.log])
        order = np.argsort(requests, kind="stable")
        ends = np.cumsum(self.counts)
        tokens = np.concatenate([entry[1] for entry in self.log])[order].tolist()
        logprobs: list[float] | None = None
        if self.logprobs:
            logprobs = np.concatenate([entry[2] for entry in self.log if entry[2] is not None])[order].tolist()
        return [
            Rollout(
                tuple(tokens[end - count : end]),
                FinishReason.STOP if is_stopped else FinishReason.CUTOFF if request.is_cutoff else FinishReason.LENGTH,
                None if logprobs is None else tuple(logprobs[end - count : end]),
            )
            for request, count, end, is_stopped in zip(
                self.requests, self.counts.tolist(), ends.tolist(), self.is_stopped.tolist(), strict=True
            )
        ]


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device


def _vocabulary(model: torch.nn.Module) -> int:
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
    # DeepSpeed (ZeRO-3) empties weights that are not gathered, and keeps their shape beside them.
    return int(getattr(embeddings.weight, "ds_shape", embeddings.weight.shape)[0])


def _eos_token_ids(model: torch.nn.Module, tokenizer: Any) -> tuple[int, ...]:
    found: set[int] = set()
    for source in (getattr(model, "generation_config", None), tokenizer):
        ids = getattr(source, "eos_token_id", None)
        if ids is not None:
            found.update([ids] if isinstance(ids, int) else ids)
    return tuple(sorted(found))


@contextmanager
def _evaluation(model: torch.nn.Module) -> Iterator[None]:
    # The flags are set one by one: `train()` and `eval()` may be overridden to do more, and modes may be mixed.
    in_training = [module for module in model.modules() if module.training]
    try:
        for module in in_training:
            module.training = False
        # Not inference_mode: what a model caches in its buffers then could not take part in training afterwards.
        with torch.no_grad():
            yield
    finally:
        for module in in_training:
            module.training = True


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
