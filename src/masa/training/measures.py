"""What is measured in every step: metrics and ledger entries. Formulas are in docs/metrics.md."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from masa.awareness import awareness_summary
from masa.records import FinishReason, Outcome, Prediction
from masa.runs import Ledger
from masa.training.experience import Experience, ExperienceMaker

WINDOW = 256
"""Problems over which awareness is measured: correlations over one step's few groups would be noise."""


Pair = tuple[tuple[Prediction, ...], Outcome]
"""A meta group beside the outcome of the solution group it foretold."""


class Measures:
    """Turns experience into numbers; its window of recent predictions is part of the checkpoint."""

    def __init__(self) -> None:
        self._pairs: deque[Pair] = deque(maxlen=WINDOW)
        self.warm_start: dict[str, float] = {}
        """What the warm start did; written with the first step."""

    def state_dict(self) -> dict[str, Any]:
        return {"pairs": [_pack(pair) for pair in self._pairs]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._pairs.clear()
        self._pairs.extend(_unpack(packed) for packed in state["pairs"])

    def account(
        self,
        ledger: Ledger,
        experience: Experience,
        batches: Sequence[Mapping[str, Tensor]],
        learned: Mapping[str, float],
        seconds: Mapping[str, float],
        *,
        is_skipped: bool = False,
    ) -> None:
        """Enter one step into the ledger.

        Args:
            batches: the micro-batches that the learner was given.
            learned: what expert SFT did.
            is_skipped: whether the update was skipped because it was not finite.
        """
        groups = experience.groups
        tokens = {True: 0, False: 0}
        for group in groups:
            tokens[group.is_audited] += group.solution.tokens
        is_updated = any(len(batch["advantages"]) for batch in batches)
        ledger.add(
            steps=1,
            solution_tokens=tokens[False],
            audit_tokens=tokens[True],
            meta_tokens=sum(r.length for g in groups for r in g.meta.rollouts),
            live_tokens=sum(g.solution.tokens for g in groups if g.solution.is_live),
            trained_tokens=sum(int(batch["completion_mask"].sum()) for batch in batches),
            solution_rollouts=sum(len(g.solution.rollouts) for g in groups),
            meta_rollouts=sum(len(g.meta.rollouts) for g in groups),
            cut_rollouts=sum(r.finish_reason is FinishReason.CUTOFF for g in groups for r in g.solution.rollouts),
            gated_problems=sum(g.is_gated for g in groups),
            policy_updates=int(is_updated and not is_skipped),
            steps_without_live_group=int(not is_updated),
            steps_not_finite=int(is_skipped),
            expert_tokens=int(learned.get("expert/tokens", 0)),
            expert_updates=int(learned.get("expert/updates", 0)),
        )
        ledger.add_seconds(**seconds)

    def step_metrics(
        self,
        experience: Experience,
        maker: ExperienceMaker,
        ledger: Ledger,
    ) -> dict[str, Any]:
        """The step's metrics, except what the learner knows."""
        groups = experience.groups
        rolled_out = [group for group in groups if group.solution.rollouts]
        rollouts = [rollout for group in rolled_out for rollout in group.solution.rollouts]
        outcomes = [group.outcome for group in groups if group.outcome is not None]
        self._pairs.extend(
            (tuple(group.meta.predictions), _without_texts(group.outcome))
            for group in groups
            if group.outcome is not None and group.meta.predictions
        )
        # The ledger keeps the newest estimate from the audits, not a sum of estimates.
        advisers = maker.advisers
        for part, name in ((advisers.gate, "saved_gate_tokens"), (advisers.cutoff, "saved_cutoff_tokens")):
            if part is not None:
                setattr(ledger, name, part.tokens_saved)
        metrics: dict[str, Any] = {
            "phase": "predictive" if experience.is_predictive else "parallel",
            "reward/solution": _mean(r for g in rolled_out for r in g.solution.rewards),
            "reward/ungraded_share": _mean(not math.isfinite(r) for g in rolled_out for r in g.solution.rewards),
            "pass_rate": _mean(outcome.pass_rate for outcome in outcomes),
            "groups/live_share": _mean(g.solution.is_live for g in groups),
            "groups/drawn": len(groups),
            "groups/mean_size": _mean(len(g.solution.rollouts) for g in rolled_out),
            "groups/largest_size": max((len(g.solution.rollouts) for g in rolled_out), default=None),
            "groups/zero_variance_share": _mean(not g.solution.is_live for g in rolled_out),
            "length/mean": _mean(r.length for r in rollouts),
            "length/mean_correct": _mean(n for o in outcomes for n, ok in zip(o.lengths, o.correct, strict=True) if ok),
            "length/mean_incorrect": _mean(
                n for o in outcomes for n, ok in zip(o.lengths, o.correct, strict=True) if not ok
            ),
            **{
                f"finish/{reason.value}": _mean(r.finish_reason is reason for r in rollouts)
                for reason in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.CUTOFF)
            },
            "steps_not_finite": ledger.steps_not_finite,
            "tokens/solution": ledger.solution_tokens,
            "tokens/meta": ledger.meta_tokens,
            "tokens/audit": ledger.audit_tokens,
            "tokens/saved_gate": ledger.saved_gate_tokens,
            "tokens/saved_cutoff": ledger.saved_cutoff_tokens,
            "tokens/live": ledger.live_tokens,
            "tokens/generated": ledger.generated_tokens,
            "tokens/trained": ledger.trained_tokens,
        }
        metrics |= {f"reward_function/{name}": _mean(values) for name, values in experience.reward_functions.items()}
        rewards = [reward for group in groups for reward in group.meta.rewards]
        if any(group.meta.rollouts for group in groups):
            metrics |= {
                "reward/meta": _mean(r.total for r in rewards),
                "reward/difficulty": _mean(r.difficulty for r in rewards),
                "reward/length": _mean(r.length for r in rewards),
                "reward/notion": _mean(r.notion for r in rewards),
                "length/mean_meta": _mean(r.length for g in groups for r in g.meta.rollouts),
                "awareness/valid_share": _mean(p.is_valid for g in groups for p in g.meta.predictions),
                "awareness/predicted_pass_rate": _mean(
                    p.pass_rate for g in groups for p in g.meta.predictions if p.pass_rate is not None
                ),
                "awareness/predicted_length": _mean(
                    p.length for g in groups for p in g.meta.predictions if p.length is not None
                ),
            }
            metrics |= awareness_summary(list(self._pairs)).metrics()
        if advisers.gate is not None or any(group.meta.rollouts for group in groups):
            metrics["predictor/abstained"] = _mean(g.estimate.abstains for g in groups if g.estimate is not None)
        for adviser in advisers.parts().values():
            metrics |= adviser.metrics()
        return metrics


def _without_texts(outcome: Outcome) -> Outcome:
    return Outcome(("",) * len(outcome.texts), outcome.lengths, outcome.correct, outcome.finish_reasons)


def _pack(pair: Pair) -> list[Any]:
    predictions, outcome = pair
    said = [[p.pass_rate, p.length, None if p.notions is None else list(p.notions)] for p in predictions]
    reasons = [reason.value for reason in outcome.finish_reasons]
    return [said, list(outcome.lengths), list(outcome.correct), reasons]


def _unpack(packed: Sequence[Any]) -> Pair:
    said, lengths, correct, reasons = packed
    predictions = tuple(Prediction(rate, length, None if n is None else tuple(n)) for rate, length, n in said)
    outcome = Outcome(
        ("",) * len(lengths), tuple(lengths), tuple(correct), tuple(FinishReason(reason) for reason in reasons)
    )
    return predictions, outcome


_LEARNER_METRICS = {
    "entropy/live": "entropy",
    "clip_share": "clip_ratio/region_mean",
    "importance/ratio": "sampling/importance_sampling_ratio/mean",
    "importance/gap": "sampling/sampling_logp_difference/mean",
}
"""Our names of what is noted of each micro-batch; dropped rows take no part."""


def learner_metrics(noted: Mapping[str, list[float]], batches: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """What the loss noted of a step under TRL's names: one value for each micro-batch that was not empty, their mean.

    Args:
        noted: of all steps since TRL logged, in order.
        batches: the step's micro-batches.
    """
    count = sum(len(batch["advantages"]) > 0 for batch in batches)
    found = {ours: noted.get(theirs, [])[-count:] for ours, theirs in _LEARNER_METRICS.items() if count}
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def trl_metrics(experience: Experience) -> dict[str, float]:
    """The step under the names that TRL gives its metrics."""
    groups = [group for group in experience.groups if group.solution.rollouts]
    rollouts = [rollout for group in groups for rollout in group.solution.rollouts]
    lengths = [float(rollout.length) for rollout in rollouts]
    ended = [float(rollout.length) for rollout in rollouts if rollout.finish_reason is FinishReason.STOP] or [0.0]
    rewards = [r for group in groups for r in group.solution.rewards if math.isfinite(r)]
    if not lengths or not rewards:
        return {}
    named: dict[str, float] = {
        "reward": _required_mean(rewards),
        "reward_std": _deviation(rewards),
        "frac_reward_zero_std": _required_mean([float(not group.solution.is_live) for group in groups]),
        "completions/clipped_ratio": 1 - _required_mean([r.finish_reason is FinishReason.STOP for r in rollouts]),
    }
    for prefix, values in (("completions/", lengths), ("completions/terminated_", ended)):
        kind = prefix.removeprefix("completions/")
        named[f"completions/mean_{kind}length"] = _required_mean(values)
        named[f"completions/min_{kind}length"] = min(values)
        named[f"completions/max_{kind}length"] = max(values)
    for name, scores in experience.reward_functions.items():
        finite = [score for score in scores if math.isfinite(score)]
        if finite:
            named[f"rewards/{name}/mean"] = _required_mean(finite)
            named[f"rewards/{name}/std"] = _deviation(finite)
    return named


def _mean(values: Iterable[float]) -> float | None:
    """Mean over finite values; None without any."""
    finite = [float(value) for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def _required_mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _deviation(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 for one value."""
    mean = _required_mean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))
