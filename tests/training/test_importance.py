"""Importance correction: its ratio by hand, and a run whose engine draws from another distribution."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from masa.errors import UserError
from masa.processes import Team
from masa.training.config import MASAConfig
from masa.training.importance import RATIO, SAMPLED, ImportanceCorrection
from masa.training.trainer import MASATrainer

sys.path.append(str(Path(__file__).parents[1] / "rollout"))

from stub_worker import SECRET, listening

LEARNER = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, -2.0, -9.0]])
SAMPLED_AT = torch.tensor([[-1.0, -3.0, -0.5], [-2.0, -1.0, -1.0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])
# Differences: (0, 2, -0.5) in all 1.5; (1, -1, masked) in all 0.
E1, E2, E15 = math.e, math.e**2, math.exp(1.5)


@pytest.mark.parametrize(
    ("mode", "low", "high", "expected"),
    [
        ("token_truncate", None, 3.0, [[1, 3, math.exp(-0.5)], [E1, 1 / E1, 1]]),
        ("token_truncate", 0.5, None, [[1, E2, math.exp(-0.5)], [E1, 0.5, 1]]),
        ("token_mask", 0.5, 3.0, [[1, 0, math.exp(-0.5)], [E1, 0, 1]]),
        ("sequence_truncate", None, 3.0, [[3], [1]]),
        ("sequence_mask", None, 3.0, [[0], [1]]),
        ("sequence_mask", None, None, [[E15], [1]]),
    ],
)
def test_ratio_by_hand(mode: str, low: float | None, high: float | None, expected: list[list[float]]) -> None:
    ratio = ImportanceCorrection(mode, low, high).ratio(LEARNER, SAMPLED_AT, MASK)
    assert torch.allclose(ratio, torch.tensor(expected, dtype=torch.float32))


def test_measures_have_trls_names_and_count_what_counts() -> None:
    correction = ImportanceCorrection("token_truncate", None, 3.0)
    batch: dict[str, Any] = {SAMPLED: SAMPLED_AT, "completion_mask": MASK}
    correction.begin(batch)
    correction.complete(LEARNER)
    assert batch[RATIO].shape == LEARNER.shape
    # A second micro-batch, of which one token counts: means are over tokens, not over micro-batches.
    correction.begin({SAMPLED: SAMPLED_AT - 1, "completion_mask": torch.tensor([[1, 0, 0], [0, 0, 0]])})
    correction.complete(LEARNER)
    ratios = 1 + 3 + math.exp(-0.5) + E1 + 1 / E1
    assert correction.settle(Team(alone=True)) == {
        "sampling/sampling_logp_difference/mean": pytest.approx((4.5 + 1) / 6),
        "sampling/sampling_logp_difference/max": 2.0,
        "sampling/importance_sampling_ratio/min": pytest.approx(1 / E1),
        "sampling/importance_sampling_ratio/mean": pytest.approx((ratios + E1) / 6),
        "sampling/importance_sampling_ratio/max": 3.0,
    }
    # Rows that only fill up are measured nowhere, and a step begins anew.
    correction.begin({SAMPLED: SAMPLED_AT, "completion_mask": torch.zeros(2, 3, dtype=torch.long)})
    correction.complete(LEARNER)
    assert correction.settle(Team(alone=True)) == {}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Settings of a run against a worker that makes up its tokens, each at a log-probability of -0.5."""
    monkeypatch.setenv("MASA_VLLM_TOKEN", SECRET)
    with listening() as port:
        yield {
            "use_vllm": True,
            "vllm_mode": "server",
            "vllm_server_host": "127.0.0.1",
            "vllm_server_port": port,
        }


@pytest.mark.parametrize("mode", ["token_truncate", "sequence_truncate", "token_mask", "sequence_mask"])
@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_loss_is_trls_with_the_ratio_known_beforehand(
    make_trainer: Callable[..., MASATrainer], served: dict[str, Any], mode: str, loss_type: str
) -> None:
    trainer = make_trainer(
        **served, loss_type=loss_type, vllm_importance_sampling_mode=mode, vllm_importance_sampling_clip_max=1e9
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    batches = trainer._micro_batches(trainer.experience.make(1))
    batch = next(batch for batch in batches if len(batch["advantages"]))
    assert torch.equal(batch[SAMPLED], -0.5 * batch["completion_mask"])
    ours = trainer.compute_loss(trainer.model, dict(batch))
    # As TRL does it: log-probabilities in a pass of their own, and the ratio among the inputs.
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        old, _, _ = super(MASATrainer, trainer)._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, batch["completion_ids"].size(1)
        )
    difference = (old + 0.5) * batch["completion_mask"]
    if mode.startswith("sequence"):
        difference = difference.sum(-1, keepdim=True)
    trainer.importance = None
    inputs = {**batch, "old_per_token_logps": old, RATIO: difference.exp()}
    theirs = trainer.compute_loss(trainer.model, inputs)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4)
    # The comparison would be hollow if the ratio did nothing.
    plain = trainer.compute_loss(trainer.model, {**inputs, RATIO: torch.ones_like(difference)})
    assert ours.item() != pytest.approx(plain.item(), rel=1e-2)


@pytest.mark.usefixtures("a_random_model_foretells")
def test_a_run_is_served_and_corrected(make_trainer: Callable[..., MASATrainer], served: dict[str, Any]) -> None:
    seen: list[dict[str, Any]] = []
    trainer = make_trainer(**served, preset="mapr", vllm_importance_sampling_mode="token_truncate")
    trainer.step_listeners.append(seen.append)
    trainer.train()
    assert trainer.serves_own_experience
    assert len(seen) == 3
    # A random model gives each of 259 tokens about 1 / 259: exp(-ln 259 + 0.5) = 0.0064.
    assert all(0.003 < line["importance/ratio"] < 0.013 for line in seen)
    assert all(4 < line["importance/gap"] < 6 for line in seen)
    assert trainer.engine.updates == 3


def test_without_correction_there_is_none(make_trainer: Callable[..., MASATrainer], served: dict[str, Any]) -> None:
    seen: list[dict[str, Any]] = []
    trainer = make_trainer(**served, vllm_importance_sampling_correction=False, max_steps=1)
    trainer.step_listeners.append(seen.append)
    trainer.train()
    assert "importance/ratio" not in seen[0]
    assert seen[0]["loss"] is not None


def test_evaluation_is_rolled_out_by_the_same_engine(
    make_trainer: Callable[..., MASATrainer], served: dict[str, Any]
) -> None:
    trainer = make_trainer(**served, max_steps=1)
    metrics = trainer.evaluate(trainer.train_dataset.select(range(4)))
    assert metrics["eval_completions/mean_length"] == 12
    assert metrics["eval_sampling/importance_sampling_ratio/mean"] < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vllm_mode": "serve"}, "unknown vllm_mode 'serve': did you mean 'server'"),
        ({"vllm_importance_sampling_mode": "token_trunc"}, "did you mean 'token_truncate'"),
        ({"vllm_mode": "server", "vllm_python": "python"}, "vllm_python starts a vLLM of the run's own: leave it out"),
        ({"loss_type": "vespo"}, "needs vllm_importance_sampling_mode 'token_truncate' or 'token_mask'"),
    ],
)
def test_contradictions(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MASAConfig("out", use_vllm=True, use_cpu=True, **settings)


def test_vllm_that_is_not_there_is_one_line(make_trainer: Callable[..., MASATrainer]) -> None:
    with pytest.raises(UserError, match=r"vLLM cannot be imported by .*an environment of its own \(vllm_python\)"):
        make_trainer(use_vllm=True)
    with pytest.raises(UserError, match="does not serve vllm_enable_sleep_mode yet"):
        make_trainer(use_vllm=True, preset="mapr", vllm_enable_sleep_mode=True)
