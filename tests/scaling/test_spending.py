"""Tokens and seconds: by hand, and against the ledgers of three real runs of the bundled model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from masa.errors import UserError
from masa.runs import Ledger
from masa.scaling import Expectations, Workload, run_tokens, step_tokens, steps_within
from masa.scaling.spending import META_OVER_SOLUTION, cut_share, gated_share, live_loss, skipped_share
from masa.training.config import MASAConfig

WORK = Workload(problems=10, solutions=4, predictions=2, solution_limit=200, meta_limit=50, audit_rate=0.1)
GATED = replace(WORK, is_gated=True, parallel_steps=3, steps=10)
EXPECT = Expectations(solution_tokens=100, meta_tokens=20, zero_variance=0.5, gate_recall=0.8, gate_precision=0.8)

# Ledgers of 150,000 generated tokens, 8 problems x 8 (+ 8) rollouts a step, seed 10 of each arm; predictive after step
# 20 and a tenth of problems exempt in the last. Its gate never skipped.
GRPO = Ledger(
    solution_tokens=153_522,
    live_tokens=64_760,
    trained_tokens=64_760,
    solution_rollouts=2816,
    steps=44,
    seconds={"rollout": 26.377, "update": 6.478},
)
MASA = Ledger(
    solution_tokens=115_030,
    meta_tokens=38_763,
    live_tokens=58_628,
    trained_tokens=97_391,
    solution_rollouts=2176,
    meta_rollouts=2176,
    steps=34,
    seconds={"rollout": 39.370, "update": 15.517},
)
EFFICIENT = Ledger(
    solution_tokens=114_018,
    meta_tokens=38_891,
    live_tokens=60_560,
    trained_tokens=99_451,
    saved_cutoff_tokens=1431,
    solution_rollouts=2176,
    meta_rollouts=2176,
    steps=34,
    seconds={"rollout": 23.848, "predict": 2.128, "update": 12.258},
)


def test_a_parallel_step_by_hand() -> None:
    step = step_tokens(WORK, EXPECT, is_predictive=False)
    assert (step.solutions, step.predictions, step.generated) == (4000, 400, 4400)
    assert step.meta_share == pytest.approx(400 / 4400)
    assert step.trained == 0.5 * 4000 + 400
    assert (step.saved_gate, step.saved_cutoff, step.baseline) == (0, 0, 4000)
    assert step.net_share == pytest.approx(-0.1)
    assert step_tokens(WORK, EXPECT, is_predictive=True) == step  # neither gate nor cutoff


def test_a_predictive_step_by_hand() -> None:
    # Skipped 0.8 x 0.5 / 0.8 = 0.5, a tenth of it audited; of the 0.45 gated a fifth were live, of 0.5 live in all.
    assert skipped_share(GATED, EXPECT) == pytest.approx(0.5)
    assert gated_share(GATED, EXPECT) == pytest.approx(0.45)
    assert live_loss(GATED, EXPECT) == pytest.approx(0.45 * 0.2 / 0.5)
    step = step_tokens(GATED, EXPECT, is_predictive=True)
    assert (step.solutions, step.saved_gate) == (pytest.approx(2200), pytest.approx(1800))
    assert step.trained == pytest.approx(2000 * (1 - 0.18) + 0.55 * 400)
    assert step.net_share == pytest.approx((1800 - 400) / 4000)


def test_a_run_is_its_parallel_and_its_predictive_steps() -> None:
    run = run_tokens(GATED, EXPECT)
    assert run.steps == 10
    assert run.solutions == pytest.approx(3 * 4000 + 7 * 2200)
    assert run.saved_gate == pytest.approx(7 * 1800)
    assert run.net_share == pytest.approx((7 * 1800 - 4000) / 40_000)
    assert run_tokens(replace(WORK, steps=10), EXPECT).generated == 44_000
    with pytest.raises(ValueError, match="number of steps"):
        run_tokens(WORK, EXPECT)


def test_a_budget_ends_with_the_step_that_reaches_it() -> None:
    assert steps_within(WORK, EXPECT, 4400) == 1
    assert steps_within(WORK, EXPECT, 4401) == 2
    assert steps_within(GATED, EXPECT, 3 * 4400 + 2600) == 4
    assert steps_within(GATED, EXPECT, 3 * 4400 + 2601) == 5


def test_a_step_is_never_gated_beyond_its_limit_and_a_useless_gate_loses_what_it_skips() -> None:
    everything = replace(EXPECT, zero_variance=1.0, gate_recall=1.0, gate_precision=1.0)
    assert skipped_share(GATED, everything) == 0.75
    assert live_loss(GATED, everything) == 0
    blind = replace(EXPECT, gate_recall=0.6, gate_precision=0.5)  # the base rate
    assert live_loss(GATED, blind) == pytest.approx(gated_share(GATED, blind))


def test_where_everything_is_gated_and_nothing_foretold_nothing_is_generated() -> None:
    work = replace(GATED, predictions=0, audit_rate=0.0, max_gated_share=1.0)
    everything = replace(EXPECT, zero_variance=1.0, gate_recall=1.0, gate_precision=1.0)
    step = step_tokens(work, everything, is_predictive=True)
    assert (step.generated, step.meta_share, step.net_share) == (0, 0, 1)
    assert steps_within(work, everything, 12_000) == 3
    assert steps_within(work, everything, 12_001) is None


def test_seconds_need_a_throughput() -> None:
    step = step_tokens(WORK, EXPECT, is_predictive=False)
    assert step.seconds(EXPECT) is None
    assert step.seconds(replace(EXPECT, rollout_tokens_per_second=100)) == 44
    both = replace(EXPECT, rollout_tokens_per_second=100, update_tokens_per_second=240)
    assert step.seconds(both) == 54


@pytest.mark.parametrize(("factor", "spread"), [(1.0, 0.5), (1.5, 0.7), (2.0, 0.7), (2.0, 1.5)])
def test_the_share_beyond_a_limit_is_that_of_log_normal_lengths(factor: float, spread: float) -> None:
    s = np.sqrt(np.log1p(spread**2))
    lengths = np.random.default_rng(0).lognormal(-s * s / 2, s, 1_000_000)  # of mean 1
    assert lengths.std() == pytest.approx(spread, rel=0.02)
    assert cut_share(factor, spread) == pytest.approx(np.maximum(lengths - factor, 0).mean(), abs=2e-3)


def test_lengths_that_hardly_differ_are_cut_below_their_mean_alone() -> None:
    assert cut_share(2.0, 1e-200) == 0
    assert cut_share(0.5, 1e-200) == 0.5
    assert cut_share(0.5, 0.01) == pytest.approx(0.5)


def test_a_quantile_as_limit_cuts_the_share_that_its_factor_does() -> None:
    # With spread 0.7, s = 0.6315: the 0.9 quantile is exp(0.6315 x 1.2816 - 0.1994) = 1.840 times the mean.
    by_quantile = replace(WORK, parallel_steps=0, cutoff_quantile=0.9)
    by_factor = replace(WORK, parallel_steps=0, cutoff_factor=1.840)
    saved = [step_tokens(w, EXPECT, is_predictive=True).saved_cutoff for w in (by_quantile, by_factor)]
    assert saved[0] == pytest.approx(saved[1], rel=1e-3)
    assert saved[1] == pytest.approx(4000 * 0.9 * cut_share(1.840, 0.7))


def test_what_is_not_known_of_lengths_is_bounded() -> None:
    open_ = Expectations()
    assert open_.mean_solution(WORK) == 200
    assert open_.mean_meta(WORK) == 50  # not 73, which is above the limit
    assert Expectations(solution_tokens=100).mean_meta(WORK) == pytest.approx(36.7)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"gpus": 0}, "gpus is 0"),
        ({"zero_variance": 1.5}, "zero_variance is 1.5: expect at most 1"),
        ({"gate_precision": 0}, "gate_precision is 0"),
        ({"length_spread": 11}, "length_spread is 11: expect at most 10"),
        ({"solution_tokens": float("nan")}, "solution_tokens is nan"),
        ({"rollout_tokens_per_second": float("inf")}, "is inf"),
    ],
)
def test_expectations_that_mean_nothing_are_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Expectations(**values)  # type: ignore[arg-type]


def test_a_workload_follows_from_the_settings() -> None:
    work = MASAConfig(preset="masa-efficient", problems_per_step=128, num_generations=16, max_steps=314).workload()
    assert (work.problems, work.solutions, work.predictions, work.steps) == (128, 16, 16, 314)
    assert (work.parallel_steps, work.is_gated, work.cutoff_factor) == (120, True, 2.0)
    assert work.has_savings
    plain = MASAConfig(preset="grpo", problems_per_step=8, num_generations=8).workload()
    assert (plain.predictions, plain.parallel_steps, plain.steps, plain.has_savings) == (0, None, None, False)
    limits = {"cutoff": True, "cutoff_rule": "quantile"}
    ours = MASAConfig(preset="masa-plus", problems_per_step=8, num_generations=8, **limits).workload()
    assert (ours.is_gated, ours.cutoff_factor, ours.cutoff_quantile) == (False, None, 0.98)  # refill spends the gate's
    trl = MASAConfig(preset="grpo", num_generations=4, per_device_train_batch_size=8).workload()
    assert (trl.problems, trl.micro_batch_rows) == (2, 8)


def _of(ledger: Ledger, predictions: int) -> tuple[Workload, Expectations]:
    """The settings of a run, and expectations with its own means."""
    made = ledger.solution_tokens + ledger.saved_cutoff_tokens
    work = Workload(
        problems=8, solutions=8, predictions=predictions, solution_limit=192, meta_limit=64, steps=ledger.steps
    )
    expect = Expectations(
        solution_tokens=made / ledger.solution_rollouts,
        meta_tokens=ledger.meta_tokens / ledger.meta_rollouts if predictions else None,
        zero_variance=1 - ledger.live_tokens / ledger.solution_tokens,
    )
    return work, expect


@pytest.mark.parametrize(("ledger", "predictions"), [(GRPO, 0), (MASA, 8)], ids=["grpo", "masa"])
def test_tokens_are_those_of_real_ledgers(ledger: Ledger, predictions: int) -> None:
    work, expect = _of(ledger, predictions)
    run = run_tokens(work, expect)
    assert run.generated == pytest.approx(ledger.generated_tokens)
    assert run.trained == pytest.approx(ledger.trained_tokens)
    # Answers grow shorter or longer as a run goes on, so a budget may end a step earlier or later.
    assert abs(steps_within(work, expect, 150_000) - ledger.steps) <= 1


def test_the_papers_ratio_of_lengths_foretells_the_share_of_predictions() -> None:
    work, expect = _of(MASA, 8)
    foretold = step_tokens(work, replace(expect, meta_tokens=None), is_predictive=False).meta_share
    assert foretold == pytest.approx(META_OVER_SOLUTION / (1 + META_OVER_SOLUTION))  # 26.8 %, where M = G
    assert foretold == pytest.approx(MASA.meta_tokens / MASA.generated_tokens, abs=0.02)


def test_the_baselines_run_foretells_what_predictions_will_cost() -> None:
    """Nothing of MASA's own run goes in: lengths and zero variance are the baseline's, the ratio is the paper's."""
    _, expect = _of(GRPO, 0)
    work, _ = _of(MASA, 8)
    step = step_tokens(work, expect, is_predictive=False)
    assert step.generated == pytest.approx(MASA.generated_tokens / MASA.steps, rel=0.06)
    assert step.trained == pytest.approx(MASA.trained_tokens / MASA.steps, rel=0.06)


def test_the_efficient_arms_ledger_is_met_with_its_cutoff_reckoned() -> None:
    work, expect = _of(EFFICIENT, 8)
    run = run_tokens(replace(work, parallel_steps=20, cutoff_factor=2.0, audit_rate=0.1), expect)
    assert run.generated == pytest.approx(EFFICIENT.generated_tokens, rel=0.02)
    assert run.trained == pytest.approx(EFFICIENT.trained_tokens, rel=0.03)


@pytest.mark.parametrize(
    ("steps", "parallel_steps", "factor", "rolled_out", "saved_gate", "saved_cutoff"),
    [
        (34, 20, 2.0, 114_018, 0, 1431),  # masa-efficient
        (41, 15, 1.5, 127_821, 0, 12_537),  # mapr-efficient, seed 10 as well
        (130, 50, 2.0, 361_640 + 11_333, 101_997, 16_407),  # the default run of docs/results.md
    ],
)
def test_a_cutoffs_saving_has_the_size_of_real_ones(
    steps: int, parallel_steps: int, factor: float, rolled_out: float, saved_gate: float, saved_cutoff: float
) -> None:
    baseline = (rolled_out + saved_gate + saved_cutoff) / steps
    gated = saved_gate / (baseline * (steps - parallel_steps))
    work = replace(
        _of(EFFICIENT, 8)[0],
        steps=steps,
        parallel_steps=parallel_steps,
        is_gated=True,
        cutoff_factor=factor,
        audit_rate=0.1,
    )
    expect = Expectations(solution_tokens=baseline / 64, zero_variance=gated / 0.9, gate_recall=1.0, gate_precision=1.0)
    run = run_tokens(work, expect)
    assert run.saved_gate == pytest.approx(saved_gate)
    assert 1 / 2 < run.saved_cutoff / saved_cutoff < 2


def test_two_thirds_gated_give_the_hours_that_the_paper_prints() -> None:
    """34.93 h for 52.50 h (v1 Table 3a): tokens as a stand-in, a gate that is always right, no audits."""
    full = Workload(
        problems=128, solutions=16, predictions=16, solution_limit=8192, meta_limit=8192, steps=314, audit_rate=0.0
    )
    efficient = replace(full, is_gated=True, cutoff_factor=2.0, parallel_steps=120)

    def change(gated: float) -> float:
        expect = Expectations(solution_tokens=2500, zero_variance=gated, gate_recall=1.0, gate_precision=1.0)
        return run_tokens(efficient, expect).generated / run_tokens(full, expect).generated - 1

    assert change(0.68) == pytest.approx(34.93 / 52.50 - 1, abs=0.03)
    assert change(0.32) == pytest.approx(-0.16, abs=0.005)


def test_seconds_follow_from_another_arms_throughput() -> None:
    rates = Expectations(
        rollout_tokens_per_second=GRPO.generated_tokens / GRPO.seconds["rollout"],
        update_tokens_per_second=GRPO.trained_tokens / GRPO.seconds["update"],
    )
    for ledger, tolerance in ((EFFICIENT, 0.1), (MASA, 0.5)):  # the machine had other work in the second
        work, expect = _of(ledger, 8)
        seconds = run_tokens(work, expect).seconds(rates)
        assert seconds == pytest.approx(sum(ledger.seconds.values()), rel=tolerance)
