"""One process of two over a sharded model: rollouts, expert updates and what vLLM is sent beside the whole model's.

    torchrun --nproc_per_node 2 sharded_run.py

Raises where they differ. The model is sharded by hand, without a trainer.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from small_run import byte_tokenizer, small_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from masa.processes import Team
from masa.records import Request
from masa.rollout.local import LocalEngine
from masa.rollout.shared import SharedEngine
from masa.rollout.vllm import VLLMEngine
from masa.rollout.vllm_links import OwnProcess
from masa.rollout.vllm_weights import served_config, served_weights
from masa.training.sft import Example, Imitation
from masa.training.sharding import unsharded

sys.path.append(str(Path(__file__).parents[1] / "rollout"))

from stub_worker import interpreter

EXAMPLES = [Example(tuple(range(3, 7 + n)), tuple(range(40, 44 + 2 * n))) for n in range(3)]
"""Three micro-batches of one row: the second process has one to do and one that stands for none."""


def main() -> None:
    """Compares; every process must come to its end."""
    dist.init_process_group("gloo")
    team = Team()
    tokenizer = byte_tokenizer()
    whole, sharded = small_model(tokenizer), small_model(tokenizer)
    mesh = init_device_mesh("cpu", (team.size,))
    for layer in sharded.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    modules = [module for module in sharded.modules() if isinstance(module, FSDPModule)]
    engine = SharedEngine(LocalEngine(sharded, tokenizer), team, partial(unsharded, modules))

    compare_rollouts(LocalEngine(whole, tokenizer), engine)
    assert all(isinstance(parameter, DTensor) for parameter in sharded.parameters())
    settings: dict[str, Any] = {"learning_rate": 1e-2, "pad_token_id": tokenizer.pad_token_id, "micro_batch_rows": 1}
    one = Imitation(whole, team=Team(alone=True), **settings)
    two = Imitation(sharded, team=team, is_sharded=True, **settings)
    compare_updates(one, two, whole, sharded)
    two.load_state_dict(team.gather(two.state_dict())[0])  # the main process's, as a checkpoint's file has it
    compare_updates(one, two, whole, sharded)
    compare_rollouts(LocalEngine(whole, tokenizer), engine)
    compare_sent(whole, sharded, modules, team)
    dist.destroy_process_group()


class Noting(OwnProcess):
    """Keeps what the worker says it was sent: shape, type and sum of each weight."""

    def __init__(self, python: str) -> None:
        super().__init__(python)
        self.loads: list[dict[str, Any]] = []

    def load(self, weights: Iterable[tuple[str, torch.Tensor]]) -> dict[str, Any]:
        """As `OwnProcess.load`."""
        answer = super().load(weights)
        self.loads.append(answer["loaded"])
        return answer


def compare_sent(whole: Any, sharded: Any, modules: list[FSDPModule], team: Team) -> None:
    """Each worker is sent the whole model's weights, when they have changed and only then."""
    assert served_config(sharded) == served_config(whole)
    with tempfile.TemporaryDirectory() as folder:
        link = Noting(str(interpreter(Path(folder))))
        own = VLLMEngine(sharded, link=link, eos_token_ids=())
        engine = SharedEngine(own, team, partial(unsharded, modules))
        changes = [
            lambda model: None,
            lambda model: model.lm_head.weight.mul_(2.0),  # not by an optimizer
            lambda model: Imitation(
                model, learning_rate=1e-2, pad_token_id=0, team=team, is_sharded=model is sharded
            ).update(EXAMPLES, 1),
        ]
        for number, change in enumerate(changes, start=1):
            for model in (whole, sharded):
                with torch.set_grad_enabled(number == len(changes)):
                    change(model)
            # One group: a process without any takes part in the sending, too.
            for asked in ([Request((10, 20), 4, seed=s) for s in range(3)], [Request((10,), 3), Request((20,), 3)]):
                assert [rollout.length for rollout in engine.generate(asked)] == [r.max_tokens for r in asked]
                assert len(engine.generate_own(asked[: team.rank])) == team.rank
            assert len(link.loads) == number
            compare_loaded(link.loads[-1], dict(served_weights(whole, torch.float32)))
        assert all(isinstance(parameter, DTensor) for parameter in sharded.parameters())
        own.close()


def compare_loaded(loaded: dict[str, Any], expected: dict[str, torch.Tensor]) -> None:
    """What arrived is what was to be sent."""
    assert loaded.keys() == expected.keys()
    for name, (shape, dtype, total) in loaded.items():
        weight = expected[name]
        assert (shape, dtype) == (list(weight.shape), str(weight.dtype))
        assert abs(total - float(weight.sum())) < 1e-3, (name, total, float(weight.sum()))


def compare_rollouts(whole: LocalEngine, shared: SharedEngine) -> None:
    """The same tokens from both, a group on one process."""
    # One process decodes ten times as long as the other: neither may wait for the other's steps.
    limits = (40, 4, 4)
    requests = [Request((10 + g, 20, 30), limits[g], seed=100 * g + i, group=g) for g in range(3) for i in range(4)]
    assert whole.generate(requests) == shared.generate(requests)
    prompts = [request.prompt_ids for request in requests]
    assert torch.allclose(*(torch.from_numpy(e.prompt_states(prompts)) for e in (whole, shared)), atol=1e-5)


def compare_updates(one: Imitation, two: Imitation, whole: Any, sharded: Any) -> None:
    """The same losses and weights from both."""
    ours, theirs = one.update(EXAMPLES, 2), two.update(EXAMPLES, 2)
    for name in ours:
        assert abs(ours[name] - theirs[name]) < 1e-5, (name, ours, theirs)
    for a, b in zip(whole.parameters(), sharded.parameters(), strict=True):
        assert torch.allclose(a, b.full_tensor(), atol=1e-6)


if __name__ == "__main__":
    main()
