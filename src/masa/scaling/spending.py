"""Tokens and seconds of a run: what a step generates and trains on, and what gate and cutoff save of it.

Notation: P problems a step, G solution and M meta rollouts a problem, L and L_m their mean tokens, z the share of
groups with zero variance. What is saved is held against plain GRPO on the same problems, P G L tokens a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from statistics import NormalDist

from masa.errors import UserError

META_OVER_SOLUTION = 0.367
"""L_m / L where nothing is known: 2,293 and 6,251 tokens, Table 3b of arXiv 2510.03259v1."""
_MOST = {"zero_variance": 1, "gate_recall": 1, "gate_precision": 1, "length_spread": 10}


@dataclass(frozen=True, slots=True)
class Workload:
    """What the settings of a run make of a step; `MASAConfig.workload` gives it."""

    problems: int
    """P, over all processes."""
    solutions: int
    """G, rollouts a problem."""
    predictions: int
    """M, meta rollouts a problem."""
    solution_limit: int
    """Tokens of a solution rollout at most."""
    meta_limit: int
    """Tokens of a meta rollout at most."""
    prompt_limit: int | None = None
    """Tokens of a prompt at most, if there is a limit."""
    micro_batch_rows: int = 64
    engine_rows: int = 256
    """Rollouts generated at the same time by each process."""
    is_checkpointed: bool = True
    """Whether a layer's activations are computed again for the backward pass."""
    is_packed: bool = True
    """Whether log-probabilities are computed part by part (`packed_update`)."""
    steps: int | None = None
    """Of the whole run, if known."""
    parallel_steps: int | None = None
    """Steps before gate and cutoff act; None: they never do."""
    is_gated: bool = False
    """Whether a gate skips problems and nothing takes their place (`refill: none`)."""
    cutoff_factor: float | None = None
    """The limit of a rollout over its foretold length; None: no such limit."""
    cutoff_quantile: float | None = None
    """Instead: the share of rollouts that should end within their limit."""
    audit_rate: float = 0.05
    max_gated_share: float = 0.75

    @property
    def has_savings(self) -> bool:
        """Whether a gate or a cutoff acts at any step."""
        is_limited = self.cutoff_factor is not None or self.cutoff_quantile is not None
        return self.parallel_steps is not None and (self.is_gated or is_limited)


@dataclass(frozen=True, slots=True)
class Expectations:
    """What settings do not tell and the user may know better.

    Raises:
        UserError: for a number out of range.
    """

    gpus: int = 1
    gpu_gib: float | None = None
    """Memory of one GPU in GiB, to say what fits."""
    prompt_tokens: float | None = None
    """Longest prompt; default `max_prompt_length`, else 512."""
    solution_tokens: float | None = None
    """L; default: the limit, which is the most it can be."""
    meta_tokens: float | None = None
    """L_m; default: 0.367 L, or the limit if that is less."""
    zero_variance: float = 0.5
    """z."""
    gate_recall: float = 0.87
    """Share of zero-variance groups that the gate skips; default: Fig. 5a of arXiv 2510.03259v2."""
    gate_precision: float = 0.94
    """Share of skipped groups that have zero variance; default: as above."""
    length_spread: float = 0.7
    """Standard deviation of a problem's solution lengths over their mean."""
    rollout_tokens_per_second: float | None = None
    """Generated tokens a second, all GPUs together."""
    update_tokens_per_second: float | None = None
    """Tokens trained on a second, all GPUs together."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is None:
                continue
            if not 0 <= value < math.inf or (value == 0 and entry.name not in ("zero_variance", "gate_recall")):
                raise UserError(f"{entry.name} is {value}: expect a number above 0")
            if value > _MOST.get(entry.name, math.inf):
                raise UserError(f"{entry.name} is {value}: expect at most {_MOST[entry.name]}")

    def mean_solution(self, work: Workload) -> float:
        """L in tokens."""
        return work.solution_limit if self.solution_tokens is None else self.solution_tokens

    def mean_meta(self, work: Workload) -> float:
        """L_m in tokens."""
        if self.meta_tokens is not None:
            return self.meta_tokens
        return min(META_OVER_SOLUTION * self.mean_solution(work), work.meta_limit)


@dataclass(frozen=True, slots=True)
class StepTokens:
    """One step's tokens; sums of steps are of this kind too."""

    solutions: float
    """Generated for solution rollouts, audits included."""
    predictions: float
    """Generated for meta rollouts."""
    saved_gate: float
    """Not generated for gated problems."""
    saved_cutoff: float
    """Not generated beyond a foretold limit."""
    trained: float
    """Run through the policy-gradient update: live groups and their predictions."""

    @property
    def generated(self) -> float:
        """Everything generated."""
        return self.solutions + self.predictions

    @property
    def meta_share(self) -> float:
        """Predictions over everything generated."""
        return self.predictions / self.generated if self.generated else 0.0

    @property
    def baseline(self) -> float:
        """What plain GRPO generates on the same problems."""
        return self.solutions + self.saved_gate + self.saved_cutoff

    @property
    def net_share(self) -> float:
        """Saved less the predictions' cost, over the baseline; below 0 the run costs more than it saves."""
        saved = self.saved_gate + self.saved_cutoff - self.predictions
        return saved / self.baseline if self.baseline else 0.0

    def seconds(self, expect: Expectations) -> float | None:
        """Generating at the one throughput, then training at the other; None without the first.

        Without the second the update is left out.
        """
        if expect.rollout_tokens_per_second is None:
            return None
        update = expect.update_tokens_per_second
        return self.generated / expect.rollout_tokens_per_second + (self.trained / update if update else 0.0)


def skipped_share(work: Workload, expect: Expectations) -> float:
    """Share of a step's problems that the gate's rule skips: recall x z / precision, at most `max_gated_share`."""
    if not work.is_gated:
        return 0.0
    skipped = expect.gate_recall * expect.zero_variance / expect.gate_precision
    return min(skipped, work.max_gated_share, 1.0)


def gated_share(work: Workload, expect: Expectations) -> float:
    """Share of problems that get no solution rollouts: the skipped ones less those audited."""
    return skipped_share(work, expect) * (1 - work.audit_rate)


def live_loss(work: Workload, expect: Expectations) -> float:
    """Share of the live groups (those that could teach) that the gate keeps from being rolled out."""
    if expect.zero_variance == 1:
        return 0.0
    return min(1.0, gated_share(work, expect) * (1 - expect.gate_precision) / (1 - expect.zero_variance))


def cut_share(factor: float, spread: float) -> float:
    """Share of tokens beyond `factor` times the mean length, E[max(0, X - factor E X)] / E X.

    X is log-normal with standard deviation `spread` x mean; the foretold length is taken to be the mean. With
    s^2 = ln(1 + spread^2) and d = s / 2 - ln(factor) / s it is Phi(d) - factor Phi(d - s).
    """
    s = math.sqrt(math.log1p(spread * spread))
    if s == 0:  # all of one length, as far as numbers tell
        return max(0.0, 1 - factor)
    d = s / 2 - math.log(factor) / s
    phi = NormalDist().cdf
    return phi(d) - factor * phi(d - s)


def _cut(work: Workload, expect: Expectations) -> float:
    """Share of tokens beyond the limits, problems exempt from them included."""
    factor = work.cutoff_factor
    if work.cutoff_quantile is not None:
        s = math.sqrt(math.log1p(expect.length_spread**2))
        factor = math.exp(s * NormalDist().inv_cdf(work.cutoff_quantile) - s * s / 2)
    return 0.0 if factor is None else (1 - work.audit_rate) * cut_share(factor, expect.length_spread)


def step_tokens(work: Workload, expect: Expectations, *, is_predictive: bool) -> StepTokens:
    """Tokens of one step, of the parallel or of the predictive phase.

    Zero-variance groups are taken to be as long as others, and a step to draw its P problems only (no refill).
    """
    baseline = work.problems * work.solutions * expect.mean_solution(work)
    predictions = work.problems * work.predictions * expect.mean_meta(work)
    gated, lost, cut = 0.0, 0.0, 0.0
    if is_predictive:
        gated, lost, cut = gated_share(work, expect), live_loss(work, expect), _cut(work, expect)
    rolled_out = (1 - gated) * baseline
    return StepTokens(
        solutions=rolled_out * (1 - cut),
        predictions=predictions,
        saved_gate=gated * baseline,
        saved_cutoff=rolled_out * cut,
        # Predictions about gated problems have no truth to be held against.
        trained=(1 - expect.zero_variance) * (1 - lost) * baseline * (1 - cut) + (1 - gated) * predictions,
    )


@dataclass(frozen=True, slots=True)
class RunTokens(StepTokens):
    """All steps of a run together."""

    steps: int


def run_tokens(work: Workload, expect: Expectations) -> RunTokens:
    """Tokens of the whole run: parallel steps, then predictive ones.

    Raises:
        ValueError: if the number of steps is not known.
    """
    if work.steps is None:
        raise ValueError("the workload has no number of steps")
    before = work.steps if work.parallel_steps is None else min(work.parallel_steps, work.steps)
    parallel = step_tokens(work, expect, is_predictive=False)
    predictive = step_tokens(work, expect, is_predictive=True)
    sums = {
        entry.name: before * getattr(parallel, entry.name) + (work.steps - before) * getattr(predictive, entry.name)
        for entry in fields(StepTokens)
    }
    return RunTokens(**sums, steps=work.steps)


def steps_within(work: Workload, expect: Expectations, max_tokens: float) -> int | None:
    """Steps until `max_tokens` are generated, the one that reaches it included, as `max_tokens` ends a run.

    None if they never are, since every problem is gated and nothing foretold.
    """
    before = math.inf if work.parallel_steps is None else work.parallel_steps
    parallel = step_tokens(work, expect, is_predictive=False).generated
    if max_tokens <= before * parallel:
        return max(0, math.ceil(max_tokens / parallel))
    rest = max_tokens - before * parallel
    predictive = step_tokens(work, expect, is_predictive=True).generated
    return int(before) + math.ceil(rest / predictive) if predictive else None
