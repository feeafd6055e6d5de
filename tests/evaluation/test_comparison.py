"""Comparison of arms on curves drawn by hand: every number is worked out beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest

from masa.evaluation.comparison import ORACLE, compare
from masa.evaluation.curves import Curve, estimate, mean_curve, ratio_estimate, threshold_of
from masa.report.comparison_table import intervals, rows


def result(
    arm: str, seed: int, tokens: Sequence[float], accuracy: Sequence[float], *, slowness: float = 0.01, **more: Any
) -> dict[str, Any]:
    live = more.pop("live", [None] * len(tokens))
    return {
        "arm": arm,
        "seed": seed,
        "settings": {"preset": arm, "seed": seed, "loss_denominator": "live", "num_meta_generations": 0, "lr": 0.1},
        "curve": [
            {"step": i, "tokens": t, "seconds": t * slowness, "pass_at_1": y, "live_tokens": n, "awareness": {}}
            for i, (t, y, n) in enumerate(zip(tokens, accuracy, live, strict=True))
        ],
        "pass_rates": None,
        "ledger": {"solution_tokens": tokens[-1], "meta_tokens": 0, "audit_tokens": 0, "seconds": {"rollout": 1.0}},
        "gate": {},
        "cutoff": {},
        "steps": len(tokens) - 1,
        "policy_updates": len(tokens) - 1,
    } | more


def by_name(comparison: dict[str, Any]) -> dict[str, Any]:
    return {arm["arm"]: arm for arm in comparison["arms"]}


def test_a_curve_between_its_points_and_beyond() -> None:
    curve = Curve((0, 100, 300), (0.2, 0.4, 0.6))
    assert curve.at(50) == pytest.approx(0.3)
    assert curve.at(300) == 0.6
    assert curve.at(301) is None
    assert curve.first_reach(0.5) == pytest.approx(200)  # halfway between 100 and 300
    assert curve.first_reach(0.1) == 0
    assert curve.first_reach(0.61) is None
    # means of 0.2, 0.4; of all three; of 0.4, 0.6
    assert curve.smoothed(3).y == pytest.approx((0.3, 0.4, 0.5))
    assert curve.smoothed(1) == curve
    assert curve.mean_of_last(2) == pytest.approx(0.5)


def test_the_first_crossing_counts_even_if_the_curve_falls_again() -> None:
    assert Curve((0, 10, 20, 30), (0.0, 0.6, 0.2, 0.9)).first_reach(0.3) == pytest.approx(5)


@pytest.mark.parametrize(("x", "y"), [((), ()), ((0, 1), (0.1,)), ((1, 0), (0.1, 0.2))])
def test_what_is_no_curve_is_refused(x: tuple[float, ...], y: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"curve|spent"):
        Curve(x, y)


def test_an_estimate_over_seeds() -> None:
    found = estimate([1.0, 2.0, 3.0, None])
    assert found is not None
    # s = 1, n = 3, t(0.975, 2) = 4.302653
    assert (found.mean, found.n) == (2.0, 3)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-5)
    alone = estimate([1.0])
    assert alone is not None
    assert (alone.low, alone.high) == (None, None)
    assert estimate([None]) is None


def test_a_ratio_is_a_geometric_mean_with_the_interval_of_its_logarithm() -> None:
    found = ratio_estimate([(200, 100), (800, 100), (None, 100), (100, None), (100, 0)])
    assert found is not None
    assert found.n == 2
    assert found.mean == pytest.approx(4)  # sqrt(2 * 8)
    # logs ln 2 and ln 8 lie ln 2 from ln 4, so the error is ln 2; t(0.975, 1) = 12.7062
    assert found.low == pytest.approx(4 * 2**-12.7062, rel=1e-3)
    assert found.high == pytest.approx(4 * 2**12.7062, rel=1e-3)


def test_the_mean_curve_ends_where_the_first_run_does() -> None:
    mean = mean_curve([Curve((0, 100), (0.0, 0.4)), Curve((0, 50, 200), (0.2, 0.2, 0.2))])
    assert mean is not None
    assert mean["x"] == [0, 50, 100]
    assert mean["mean"] == pytest.approx([0.1, 0.2, 0.3])
    assert mean["high"][1] == pytest.approx(0.2)  # both runs have 0.2 at 50
    assert mean_curve([]) is None


@pytest.mark.parametrize(("evaluations", "counted"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (20, 3)])
def test_the_threshold_never_looks_at_more_than_half_of_a_run(evaluations: int, counted: int) -> None:
    curve = Curve(tuple(range(evaluations)), tuple(float(i) for i in range(evaluations)))
    value, count = threshold_of([curve])
    assert count == counted
    assert value == pytest.approx(evaluations - 1 - (counted - 1) / 2)


def test_arms_are_timed_to_a_target_that_is_asked_for() -> None:
    runs = [result("grpo", 0, [0, 400], [0.0, 0.4]), result("new", 0, [0, 200], [0.0, 0.4])]
    found = compare(runs, baseline="grpo", target=0.2)
    assert found["threshold"] == {"pass_at_1": 0.2, "evaluations": None, "smoothing_window": 1}
    reached = by_name(found)["new"]["to_threshold"]["tokens"]
    assert reached["spent"]["mean"] == pytest.approx(100)
    assert reached["speed_up"]["mean"] == pytest.approx(2.0)
    titles = [row.title for row in rows(found)]
    assert "tokens to 20.0 %" in titles
    assert any("The threshold is 20.0 %; curves are not smoothed" in line for line in intervals(found))


def test_accuracy_at_equal_tokens_is_paired_by_seed() -> None:
    found = compare(
        [
            result("grpo", 0, [0, 400], [0.0, 0.4]),
            result("grpo", 1, [0, 400], [0.2, 0.6]),
            result("new", 0, [0, 200], [0.0, 0.4]),
            result("new", 1, [0, 300], [0.2, 0.5]),
        ],
        baseline="grpo",
    )
    assert found["budgets"]["tokens"] == [50, 100, 200]  # the least end is 200
    arms = by_name(found)
    last = arms["grpo"]["at_equal"]["tokens"][-1]
    assert last["pass_at_1"]["mean"] == pytest.approx(0.3)  # 0.2 and 0.4
    assert last["difference"] is None
    new = arms["new"]["at_equal"]["tokens"][-1]
    assert new["pass_at_1"]["mean"] == pytest.approx(0.4)  # 0.4 and 0.2 + 0.3 * 200/300
    # differences 0.2 and 0.0: mean 0.1, error 0.1, t(0.975, 1) = 12.7062
    assert new["difference"]["mean"] == pytest.approx(0.1)
    assert new["difference"]["low"] == pytest.approx(0.1 - 1.27062, abs=1e-4)
    assert found["budgets"]["seconds"] == [0.5, 1, 2]
    assert arms["new"]["at_equal"]["seconds"][-1]["pass_at_1"]["mean"] == pytest.approx(0.4)


def test_a_difference_needs_the_same_seeds() -> None:
    found = compare(
        [
            result("grpo", 0, [0, 100], [0.0, 0.1]),
            result("new", 0, [0, 100], [0.0, 0.3]),
            result("new", 5, [0, 100], [0.0, 0.9]),
        ],
        baseline="grpo",
    )
    difference = by_name(found)["new"]["final"]["difference"]
    assert (difference["mean"], difference["n"], difference["low"]) == (pytest.approx(0.2), 1, None)


def test_tokens_to_the_baselines_accuracy_and_censoring() -> None:
    found = compare(
        [
            result("grpo", 0, [0, 400], [0.0, 0.4]),
            result("grpo", 1, [0, 400], [0.0, 0.6]),
            result("new", 0, [0, 100, 200], [0.0, 0.5, 0.5]),
            result("new", 1, [0, 300], [0.0, 0.4]),
            result("worse", 0, [0, 300], [0.0, 0.1]),
            result("worse", 1, [0, 500], [0.0, 0.1]),
        ],
        baseline="grpo",
    )
    assert found["threshold"] == {"pass_at_1": pytest.approx(0.5), "evaluations": 1, "smoothing_window": 1}
    arms = by_name(found)
    base = arms["grpo"]["to_threshold"]["tokens"]
    assert [row["spent"] for row in base["by_seed"]] == [None, pytest.approx(400 * 5 / 6)]
    assert (base["reached"], base["runs"], base["beyond"], base["speed_up"]) == (1, 2, None, None)
    assert base["mean_curve"] == pytest.approx(400)
    new = arms["new"]["to_threshold"]["tokens"]
    assert (new["spent"]["mean"], new["reached"], new["runs"]) == (pytest.approx(100), 1, 2)
    assert (new["speed_up"], new["pairs"], new["pairs_left_out"]) == (None, 0, 2)  # no seed where both reached it
    worse = arms["worse"]["to_threshold"]["tokens"]
    assert (worse["spent"], worse["reached"], worse["beyond"]) == (None, 0, 400)
    assert worse["mean_curve_speed_up"] is None


def test_the_speed_up_in_tokens_and_in_seconds() -> None:
    found = compare(
        [
            result("grpo", 0, [0, 400], [0.0, 0.4]),
            result("grpo", 1, [0, 400], [0.0, 0.4]),
            result("new", 0, [0, 400], [0.0, 0.8], slowness=0.02),
            result("new", 1, [0, 400], [0.0, 1.6 / 2], slowness=0.02),
        ],
        baseline="grpo",
    )
    reached = by_name(found)["new"]["to_threshold"]
    assert reached["tokens"]["speed_up"]["mean"] == pytest.approx(2)
    assert reached["tokens"]["speed_up"]["low"] == pytest.approx(2)  # both seeds alike
    assert reached["tokens"]["mean_curve_speed_up"] == pytest.approx(2)
    assert reached["seconds"]["speed_up"]["mean"] == pytest.approx(1)


def test_long_curves_are_smoothed_before_the_crossing() -> None:
    spiky = [0.0, 0.0, 0.9, 0.0, 0.0, 0.0, 0.6, 0.6]
    steady = [0.0, 0.1, 0.2, 0.3, 0.5, 0.5, 0.5, 0.5]
    x = [100.0 * i for i in range(8)]
    found = compare([result("grpo", 0, x, steady), result("new", 0, x, spiky)], baseline="grpo")
    assert found["threshold"]["smoothing_window"] == 3
    # Running means of `spiky`: 0, .3, .3, .3, 0, .2, .4, .6: the threshold .5 is crossed halfway between 600 and 700.
    assert by_name(found)["new"]["to_threshold"]["tokens"]["spent"]["mean"] == pytest.approx(650)


def test_the_oracle_is_the_baseline_at_the_cost_of_its_live_groups() -> None:
    runs = [result("grpo", seed, [0, 200, 400], [0.0, 0.2, 0.4], live=[0, 100, 160]) for seed in (0, 1)]
    found = compare([*runs, result("new", 0, [0, 400], [0.0, 0.4])], baseline="grpo")
    oracle = found["arms"][-1]
    assert (oracle["arm"], oracle["simulated"]) == (ORACLE, True)
    assert list(oracle["at_equal"]) == ["tokens"]  # it says nothing of time
    at_100 = oracle["at_equal"]["tokens"][0]
    assert at_100["budget"] == 100
    assert at_100["pass_at_1"]["mean"] == pytest.approx(0.2)
    assert at_100["difference"]["mean"] == pytest.approx(0.1)
    ended = oracle["at_equal"]["tokens"][-1]
    assert (ended["pass_at_1"], ended["ended_at"], ended["difference"]) == (None, 160, None)
    assert oracle["to_threshold"]["tokens"]["speed_up"]["mean"] == pytest.approx(400 / 160)
    assert oracle["runs"][0]["tokens"] == [0, 100, 160]


@pytest.mark.parametrize(
    "settings",
    [
        {"loss_denominator": "all"},
        {"loss_denominator": "live", "num_meta_generations": 8},
        {"loss_denominator": "live", "entropy_coef": 0.01},
        {"loss_denominator": "live", "top_entropy_quantile": 0.2},
    ],
)
def test_no_oracle_where_dead_groups_change_the_gradient(settings: dict[str, Any]) -> None:
    run = result("grpo", 0, [0, 400], [0.0, 0.4], live=[0, 100], settings=settings)
    assert [arm["arm"] for arm in compare([run], baseline="grpo")["arms"]] == ["grpo"]


def test_intervals_over_problems_are_paired_by_problem() -> None:
    found = compare(
        [
            result("grpo", 0, [0, 100], [0.0, 0.5], pass_rates=[0.0, 1.0] * 20),
            result("new", 0, [0, 100], [0.0, 0.6], pass_rates=[0.1, 1.1] * 20),
        ],
        baseline="grpo",
    )
    (row,) = by_name(found)["new"]["final"]["by_seed"]
    assert row["low"] < 0.6 < row["high"]
    # Every problem differs by 0.1, so there is nothing to resample.
    assert row["difference"] == pytest.approx(0.1)
    assert (row["difference_low"], row["difference_high"]) == (pytest.approx(0.1), pytest.approx(0.1))


def test_gate_cutoff_awareness_and_savings() -> None:
    gate = {"precision": 0.8, "precision_low": 0.7, "recall": 0.5, "f1": 0.6, "base_rate": 0.4, "audits_window": 30.0}
    ledger = {
        "solution_tokens": 600,
        "audit_tokens": 100,
        "meta_tokens": 150,
        "saved_gate_tokens": 250.0,
        "net_saved_tokens": 150.0,
        "saved_cutoff_tokens": 50.0,
        "seconds": {"rollout": 2.0, "evaluation": 9.0},
    }
    new = result("new", 0, [0, 850], [0.0, 0.5], gate=gate, ledger=ledger)
    new["curve"][-1]["awareness"] = {"brier": 0.2, "pass_rate_spearman": 0.7}
    arms = by_name(compare([result("grpo", 0, [0, 900], [0.0, 0.5]), new], baseline="grpo"))
    assert arms["grpo"]["gate"] is None
    assert arms["new"]["gate"]["precision"]["mean"] == 0.8
    assert arms["new"]["gate"]["by_seed"][0]["audits_window"] == 30
    assert arms["new"]["cutoff"] is None
    assert arms["new"]["awareness"]["brier"]["mean"] == 0.2
    assert arms["new"]["awareness"]["ece"] is None
    spent = arms["new"]["ledger"]
    assert spent["generated"]["mean"] == 850
    assert spent["net_saved"]["mean"] == 150  # 250 + 50 - 150
    assert spent["net_saved_share"]["mean"] == pytest.approx(0.15)  # of 600 + 100 + 250 + 50
    assert list(spent["seconds"]) == ["rollout"]
    new["settings"]["refill"] = "before"  # what the gate saved went into further problems
    arms = by_name(compare([result("grpo", 0, [0, 900], [0.0, 0.5]), new], baseline="grpo"))
    assert arms["new"]["ledger"]["net_saved"] is None
    assert arms["new"]["ledger"]["net_saved_share"] is None


def test_settings_that_differ_and_a_result_that_is_json() -> None:
    found = compare([result("grpo", 0, [0, 100], [0.0, 0.1]), result("new", 0, [0, 100], [0.0, 0.2])], baseline="grpo")
    assert found["settings"]["differing"] == {"preset": {"grpo": "grpo", "new": "new"}}
    assert found["settings"]["common"]["lr"] == 0.1
    json.dumps(found, allow_nan=False)


def test_without_the_baseline_only_what_needs_none() -> None:
    found = compare([result("new", 0, [0, 100], [0.0, 0.1])], baseline="grpo")
    assert found["threshold"] is None
    assert found["arms"][0]["to_threshold"] == {}
    assert found["arms"][0]["at_equal"]["tokens"][-1]["difference"] is None
    with pytest.raises(ValueError, match="no results"):
        compare([], baseline="grpo")
    with pytest.raises(ValueError, match="two results"):
        compare([result("new", 0, [0, 1], [0, 0])] * 2, baseline="grpo")


def test_tasks_that_were_not_trained_on_are_compared_beside() -> None:
    runs = [result(arm, seed, [0, 900], [0.0, 0.5]) for arm in ("grpo", "new") for seed in (0, 1)]
    assert by_name(compare(runs, baseline="grpo"))["new"]["final"]["transfer"] is None
    for run, value in zip(runs, (0.1, 0.2, 0.3, 0.5), strict=True):
        run["curve"][-1]["transfer"] = value
    final = by_name(compare(runs, baseline="grpo"))["new"]["final"]
    assert final["transfer"]["mean"] == pytest.approx(0.4)
    assert final["transfer_difference"]["mean"] == pytest.approx(0.25)
    assert final["pass_at_1"]["mean"] == 0.5
