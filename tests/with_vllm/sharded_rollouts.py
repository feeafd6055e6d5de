"""One process of two over a sharded model, with vLLM: greedy rollouts are the whole model's, before and after steps.

torchrun --nproc_per_node 2 sharded_rollouts.py PYTHON-WITH-VLLM
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from masa.processes import Team
from masa.records import Request
from masa.rollout.shared import SharedEngine
from masa.rollout.vllm import VLLMEngine
from masa.rollout.vllm_links import OwnProcess
from masa.training.sharding import unsharded

sys.path.append(str(Path(__file__).parents[1] / "rollout"))

from engine_contract import greedy, load_model, ragged_requests


def main() -> None:
    """Compares; every process must come to its end."""
    dist.init_process_group("gloo")
    whole, sharded = load_model(), load_model()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in sharded.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    modules = [module for module in sharded.modules() if isinstance(module, FSDPModule)]
    own = VLLMEngine(sharded, link=OwnProcess(sys.argv[1], threads=1), memory_share=0.03, eos_token_ids=())
    engine = SharedEngine(own, Team(), partial(unsharded, modules))
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-2) for model in (whole, sharded)]
    seen = set()
    for step in range(3):
        compare(engine, whole, seen)
        assert own.updates == step + 1
        for model, optimizer in zip((whole, sharded), optimizers, strict=True):
            optimizer.zero_grad()
            model(torch.tensor([[3, 4, 5, 6]])).logits.square().mean().backward()
            optimizer.step()
    assert len(seen) == 3
    own.close()
    dist.destroy_process_group()


def compare(engine: SharedEngine, whole: Any, seen: set[Any]) -> None:
    """The same greedy tokens from both, and log-probabilities with those of every process."""
    requests = ragged_requests(whole, temperature=0)
    tokens = [rollout.token_ids for rollout in engine.generate(requests)]
    assert tokens == [greedy(whole, request) for request in requests]
    drawn = engine.generate(
        [Request(request.prompt_ids, 4, seed=i) for i, request in enumerate(requests)], logprobs=True
    )
    assert all(rollout.logprobs is not None and len(rollout.logprobs) == 4 for rollout in drawn)
    seen.add(tuple(tokens))


if __name__ == "__main__":
    main()
