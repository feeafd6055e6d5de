"""The engines that the rollout benchmark compares: each takes a workload and makes exactly its lengths."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from rollout_workload import Workload
from transformers import ContinuousBatchingConfig, GenerationConfig, StaticCache, StoppingCriteria

from masa.rollout.forward import Forward
from masa.rollout.local import LocalEngine
from masa.rollout.slots import SlotCache
from masa.rollout.vllm_links import OwnProcess
from masa.rollout.vllm_weights import served_config, served_weights


class Peer(Protocol):
    """An engine in the benchmark."""

    name: str

    def run(self, workload: Workload) -> None:
        """Make the workload's rollouts; whatever is paid at every call is part of it."""
        ...


class Engine:
    """`LocalEngine`, over the float32 weights that a learner holds."""

    name = "engine"

    def __init__(self, model: Any, dtype: torch.dtype, slots: int) -> None:
        compute = None if dtype == torch.float32 else dtype
        self.local = LocalEngine(model, eos_token_ids=(), max_batch_size=slots, compute_dtype=compute)
        self.watch: Callable[[int], None] | None = None
        """Told the rows of every decoding step."""

    def run(self, workload: Workload) -> None:
        """See `Peer.run`."""
        with self.local.generation(workload.requests) as generation:
            # The scheduler must not know lengths beforehand, so they are not given as the requests' limits.
            generation.limits = np.array(workload.lengths)
            if self.watch is not None:
                generation.forward = _Watched(generation.forward, self.watch)
            assert [rollout.length for rollout in generation.run()] == workload.lengths


class _Watched:
    """A forward pass that tells how many rows decode."""

    def __init__(self, forward: Forward, watch: Callable[[int], None]) -> None:
        self.prefill = forward.prefill
        self._decode = forward.decode
        self._watch = watch

    def decode(self, tokens: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        """See `Forward.decode`."""
        self._watch(len(tokens))
        return self._decode(tokens, cache)


class Generate:
    """transformers' `generate` as TRL's GRPOTrainer calls it: one padded batch, until its last row has ended.

    It gets weights converted beforehand, which TRL does not do: under its autocast they are cast at every token.
    """

    name = "generate"

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.model = without_eos(model, dtype)

    def run(self, workload: Workload) -> None:
        """See `Peer.run`."""
        requests, lengths = workload.requests, workload.lengths
        width = max(len(request.prompt_ids) for request in requests)
        ids = torch.zeros(len(requests), width, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(requests):
            ids[row, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            mask[row, width - len(request.prompt_ids) :] = 1
        config = GenerationConfig(
            max_new_tokens=max(lengths),
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            repetition_penalty=1.0,
            pad_token_id=0,
            disable_compile=True,
        )
        with torch.no_grad():
            output = self.model.generate(
                ids, attention_mask=mask, generation_config=config, stopping_criteria=[_EndAt(lengths)]
            )
        assert output.shape[1] - width == max(lengths)


class _EndAt(StoppingCriteria):
    """Rows end at lengths given beforehand."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = torch.tensor(lengths)
        self.step = 0

    def __call__(self, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        self.step += 1
        return self.lengths <= self.step


class ContinuousBatching:
    """transformers' continuous batching, with a limit of its own for each request."""

    name = "continuous batching"

    def __init__(self, model: Any, dtype: torch.dtype, slots: int) -> None:
        self.model = without_eos(model, dtype)
        self.slots = slots

    def run(self, workload: Workload) -> None:
        """See `Peer.run`."""
        config = GenerationConfig(do_sample=True, temperature=1.0, top_k=0, pad_token_id=0, eos_token_id=-1)
        tokens = workload.useful + sum(len(request.prompt_ids) for request in workload.requests)
        blocks = ContinuousBatchingConfig(block_size=32, num_blocks=tokens // 32 + 2 * len(workload.requests))
        left = len(workload.requests)
        with (
            torch.no_grad(),
            self.model.continuous_batching_context_manager(
                generation_config=config, continuous_batching_config=blocks
            ) as manager,
        ):
            for request, length in zip(workload.requests, workload.lengths, strict=True):
                manager.add_request(list(request.prompt_ids), max_new_tokens=length)
            tokens = 0
            while left:
                result = manager.get_result(timeout=5)
                if result is not None and result.is_finished():
                    left -= 1
                    tokens += len(result.generated_tokens)
                elif result is None and not manager.is_running():
                    raise RuntimeError("continuous batching stopped before its requests were done")
        assert tokens == workload.useful


class Floor:
    """A bare decoding loop: the model's own forward pass over a static cache, the likeliest token, nothing else.

    Prompts all get their mean length, as rollouts do, so that no row needs a mask, a limit or a look. Each row's
    prompt is computed, shared or not.
    """

    name = "floor"

    def __init__(self, model: Any, dtype: torch.dtype, slots: int) -> None:
        self.model = without_eos(model, dtype)
        self.slots = slots

    def run(self, workload: Workload) -> None:
        """See `Peer.run`."""
        length, *others = workload.lengths
        assert set(others) <= {length}
        with torch.no_grad():
            for tokens in equal_prompts(workload).split(self.slots):
                self._decode(tokens, length)

    def _decode(self, tokens: torch.Tensor, length: int) -> None:
        cache = StaticCache(config=self.model.config, max_cache_len=tokens.shape[1] + length)
        for _ in range(length):
            logits = self.model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            tokens = logits[:, -1].argmax(dim=-1, keepdim=True)


class LeanFloor:
    """The same bare loop over the engine's own forward pass and cache: what remains is the engine's bookkeeping."""

    name = "own floor"

    def __init__(self, engine: Engine, slots: int) -> None:
        self.local = engine.local
        self.slots = slots

    def run(self, workload: Workload) -> None:
        """See `Peer.run`."""
        with self.local.generation(workload.requests) as generation:
            forward = generation.forward
            for tokens in equal_prompts(workload).split(self.slots):
                rows, width = tokens.shape
                cache = SlotCache(self.local.num_layers, rows, dtype=self.local.compute_dtype)
                widths = torch.full((rows,), width)
                layers, logits = forward.prefill(tokens, widths)
                cache.join(layers, torch.arange(rows), widths)
                for _ in range(workload.lengths[0] - 1):
                    cache.make_room()
                    logits = forward.decode(logits.argmax(dim=-1), cache)
                    cache.window.column += 1


class VLLM:
    """vLLM in an interpreter of its own, compiled, without the seeds and log-probabilities that training asks for."""

    name = "vLLM"

    def __init__(self, python: str, model: Any, dtype: torch.dtype, slots: int, threads: int, positions: int) -> None:
        # One thread a core, and only so many: vLLM would else take them all.
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
        os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_CPU_KVCACHE_SPACE": "2"}
        self._link = OwnProcess(python, threads=threads)
        settings = {
            "config": served_config(model),
            "dtype": str(dtype).removeprefix("torch."),
            "max_num_seqs": slots,
            "max_model_len": positions,
        }
        self._link.ask("start", settings=settings)
        self._link.load(served_weights(model, dtype))

    def run(self, workload: Workload) -> None:
        """See `Peer.run`."""
        self._link.ask("forget")  # in training, weights have changed since
        answer = self._link.ask(
            "generate",
            prompts=[list(request.prompt_ids) for request in workload.requests],
            rows=[[number, length, 1.0, 1.0, 0, None] for number, length in enumerate(workload.lengths)],
            stop_token_ids=[],
            logprobs=False,
        )
        assert [len(ids) for ids, _ in answer["rollouts"]] == workload.lengths

    def close(self) -> None:
        """End the worker."""
        self._link.close()


def equal_prompts(workload: Workload) -> torch.Tensor:
    """The prompts, repeated or cut to their mean length, [requests, tokens]."""
    prompts = [request.prompt_ids for request in workload.requests]
    width = round(sum(map(len, prompts)) / len(prompts))
    return torch.tensor([(prompt * (width // len(prompt) + 1))[:width] for prompt in prompts])


def without_eos(model: Any, dtype: torch.dtype) -> Any:
    """A copy that ends no rollout by itself, in `dtype`."""
    copied = copy.deepcopy(model).to(dtype)
    copied.generation_config.eos_token_id = None
    return copied
