"""Memory of one GPU, part by part, under four ways to spread a model over several of them.

Bytes a parameter follow ZeRO (arXiv 1910.02054): float32 weights, gradients and two moments of Adam are 4 + 4 + 8;
with bfloat16 weights and gradients beside float32 masters 2 + 2 + 12. Activations are counted from what autograd
keeps of transformers' own layers with memory-saving attention. Not counted: the allocator's gaps, CUDA's context,
buckets of collectives, the engine's sampling and prefill; leave a tenth of the GPU for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from masa.scaling.shapes import ALL_LINEAR, ModelShape
from masa.scaling.spending import Expectations, Workload

DATA_PARALLEL, ZERO_2, ZERO_3, LORA = "data parallel", "ZeRO-2", "ZeRO-3 / FSDP2", "LoRA"
STRATEGIES = (DATA_PARALLEL, ZERO_2, ZERO_3, LORA)
GIB = 2**30
_PROBABILITIES = 256 * 2**20
"""Bytes of float32 probabilities that the packed update holds at a time."""
_USABLE = 0.9
_PROMPT = 512
"""Longest prompt where nothing is known."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one GPU. Rollouts and update take turns, so the larger of them counts on top of what stays."""

    strategy: str
    weights: float
    """As kept: float32 (bfloat16 in ZeRO-2); sharded in ZeRO-3 / FSDP2."""
    optimizer: float
    """Moments, and float32 masters where weights are bfloat16."""
    gradients: float
    activations: float
    """Of a full micro-batch of rows at their longest, the head's part and copies of weights for its matrix products
    included."""
    rollout_copies: float
    """Weights in the type of the rollouts' matrix products, where they are not kept in it."""
    kv_cache: float
    """Of all slots at their longest."""

    @property
    def update(self) -> float:
        """In the update."""
        return self.weights + self.optimizer + self.gradients + self.activations

    @property
    def rollouts(self) -> float:
        """While rolling out."""
        return self.weights + self.optimizer + self.rollout_copies + self.kv_cache

    @property
    def peak(self) -> float:
        """The larger of both."""
        return max(self.update, self.rollouts)

    def fits(self, gpu_gib: float) -> bool:
        """Whether the peak leaves a tenth of a GPU of `gpu_gib` GiB free."""
        return self.peak <= _USABLE * gpu_gib * GIB


def layer_activation_bytes(shape: ModelShape, *, is_autocast: bool) -> float:
    """Bytes a token that autograd keeps of one layer, weights not counted.

    h hidden, a queries, c keys, f feed-forward width: two norms keep 8h; the five inputs of matrix products are 2h
    each under autocast, which casts for each product anew, and nothing more with bfloat16 weights, where they are part
    of the norms' outputs; attention keeps 2 (a + 2c) and its result 2a, norms of queries and keys 6 (a + c), the
    gated feed-forward 8f, and statistics 4 each.
    """
    h, a, c, f = shape.hidden, shape.queries, shape.keys, shape.feed_forward
    heads = shape.heads + (shape.heads + shape.kv_heads if shape.has_qk_norm else 0)
    qk_norm = 6 * (a + c) if shape.has_qk_norm else 0
    return (26 if is_autocast else 16) * h + 4 * a + 4 * c + qk_norm + 8 * f + 4 * (2 + heads)


def activation_bytes(shape: ModelShape, tokens: float, *, is_autocast: bool, is_checkpointed: bool) -> float:
    """Bytes that the backward pass of all layers needs for a micro-batch of `tokens` tokens.

    Checkpointed, each layer keeps its input (float32 under autocast) and one layer at a time keeps all.
    """
    layer = layer_activation_bytes(shape, is_autocast=is_autocast)
    if not is_checkpointed:
        return tokens * shape.layers * layer
    return tokens * (shape.layers * shape.hidden * (4 if is_autocast else 2) + layer)


def head_bytes(shape: ModelShape, tokens: float, *, is_packed: bool, is_trained: bool) -> float:
    """Bytes of logits, of probabilities, and of the head's gradient of one micro-batch before it is added up.

    The packed update holds at most 256 MiB of float32 probabilities, with logits in both types beside them (2.5 times
    that); TRL's own forward pass holds all of them.
    """
    probabilities = 4.0 * tokens * shape.vocabulary
    if is_packed:
        probabilities = min(probabilities, _PROBABILITIES)
    return 2.5 * probabilities + (4.0 * shape.vocabulary * shape.hidden if is_trained else 0.0)


def longest_row(work: Workload, expect: Expectations) -> float:
    """Tokens of the longest row: prompt and rollout, each at its limit."""
    prompt = expect.prompt_tokens or work.prompt_limit or _PROMPT
    return prompt + max(work.solution_limit, work.meta_limit if work.predictions else 0)


def kv_cache_bytes(shape: ModelShape, work: Workload, expect: Expectations) -> float:
    """Bytes of keys and values in bfloat16: every slot as long as the longest row, as the engine's buffers are."""
    rollouts = work.problems * (work.solutions + work.predictions)
    slots = min(work.engine_rows, math.ceil(rollouts / expect.gpus))
    return slots * longest_row(work, expect) * shape.kv_bytes_per_token()


def memory_per_gpu(
    shape: ModelShape,
    work: Workload,
    expect: Expectations,
    *,
    lora_rank: int = 16,
    lora_targets: str | Sequence[str] = ALL_LINEAR,
) -> list[Memory]:
    """Bytes on each of `expect.gpus` GPUs for every one of `STRATEGIES`, bfloat16 arithmetic throughout.

    Data parallel and LoRA keep float32 weights and multiply in bfloat16 under autocast, as the trainer does today; the
    other two are as DeepSpeed and FSDP2 have it. Whoever rolls out holds all weights in bfloat16.

    Args:
        lora_rank: r of the LoRA row.
        lora_targets: which matrices have adapters.
    """
    N, n, layer = expect.gpus, shape.parameters, shape.layer_parameters
    adapters = shape.lora_parameters(lora_rank, lora_targets)
    tokens = work.micro_batch_rows * longest_row(work, expect)
    cache = kv_cache_bytes(shape, work, expect)

    def activations(copies: float, *, is_autocast: bool, is_trained: bool = True) -> float:
        kept = activation_bytes(shape, tokens, is_autocast=is_autocast, is_checkpointed=work.is_checkpointed)
        return copies + kept + head_bytes(shape, tokens, is_packed=work.is_packed, is_trained=is_trained)

    # Gathered at a time: two layers (the next is fetched ahead), and embedding and head all along.
    gathered = 2 * (2 * layer + shape.outer_parameters)
    frozen = 2 * (layer if work.is_checkpointed else n)
    return [
        Memory(DATA_PARALLEL, 4 * n, 8 * n, 4 * n, activations(2 * n, is_autocast=True), 2 * n, cache),
        Memory(ZERO_2, 2 * n, 12 * n / N, 2 * n / N, activations(0, is_autocast=False), 0, cache),
        Memory(ZERO_3, 4 * n / N, 8 * n / N, 4 * n / N, activations(gathered, is_autocast=False), 2 * n, cache),
        Memory(
            LORA,
            4 * (n + adapters),
            8 * adapters,
            4 * adapters,
            activations(frozen, is_autocast=True, is_trained=False),
            2 * n,
            cache,
        ),
    ]
