"""Arms against a baseline over seeds, from their runs' small JSONs alone.

Accuracy is pass@1 on held-out problems. Intervals over seeds are Student's t, 95 %; differences are paired by seed;
intervals over problems, within a seed, are bootstrap ones. A run that never comes to the threshold is censored: it is
counted, and left out of means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.awareness.intervals import bootstrap_mean_interval
from masa.evaluation.curves import Curve, Estimate, estimate, mean_curve, ratio_estimate, threshold_of
from masa.evaluation.known_rates import knowing_gate
from masa.evaluation.run_result import HELDOUT_GATE
from masa.training.presets import SPENT_ON_OTHERS

FORMAT = 1
AXES = ("tokens", "seconds")
SHARES_OF_BUDGET = (0.25, 0.5, 1.0)
ORACLE = "oracle gate"
_ON_DEAD_GROUPS = ("num_meta_generations", "entropy_coef", "use_adaptive_entropy", "router_aux_loss_coef")
"""Settings under which groups without variance take part in the gradient."""

_LEAST_FOR_SMOOTHING = 6
_WINDOW = 3
AWARENESS = ("pass_rate_spearman", "length_spearman", "brier", "ece", *HELDOUT_GATE)
_KINDS = ("solution", "audit", "meta", "warm_start")
_JUDGED = ("precision", "recall", "f1", "base_rate", "share")


@dataclass(frozen=True)
class _Arm:
    name: str
    results: Mapping[int, Mapping[str, Any]]
    """By seed."""
    is_simulated: bool = False

    def curves(self, axis: str) -> dict[int, Curve]:
        """Accuracy by what was spent, by seed; a simulated arm has no time of its own."""
        if self.is_simulated and axis == "seconds":
            return {}
        key = "live_tokens" if self.is_simulated else axis
        return {
            seed: Curve(
                tuple(float(row[key]) for row in result["curve"]),
                tuple(float(row["pass_at_1"]) for row in result["curve"]),
            )
            for seed, result in self.results.items()
        }


def compare(
    results: Sequence[Mapping[str, Any]], *, baseline: str, arms: Sequence[str] = (), target: float | None = None
) -> dict[str, Any]:
    """The comparison as one plain value, in JSON's types. An estimate is `{mean, low, high, n}` over seeds, or None.

    `budgets`, by axis (`tokens`: generated ones, `seconds`: of training): shares of the most that every run has spent.
    `threshold`: the target, or the baseline's final accuracy (0 to 1) and how it was made. `settings`: `common` and
    `differing`.
    `arms`, each with `arm`, `simulated`, `seeds` and

    - `at_equal`, by axis, one a budget: `pass_at_1` and its `difference` to the baseline (estimates);
    - `to_threshold`, by axis: `spent` (estimate over the runs that `reached` it, of `runs`), `by_seed`, `speed_up`
      (ratio, paired by seed, `pairs_left_out` where a side has none) and the same of the mean over seeds of the curves;
    - `final`: at the last evaluation, over seeds and, within each seed, over problems;
    - `curves` (mean and band) by axis, `runs` (each seed's points);
    - unless simulated: `steps`, `policy_updates`, `awareness`, `gate`, `cutoff` and `ledger` (tokens and seconds).

    Args:
        results: one a run, as `run_result` gives them; runs may be missing.
        baseline: the arm that the others are held against.
        arms: their order; default: as they come.
        target: the accuracy (0 to 1) whose cost is asked for; default: the baseline's final one. On a plateau, where
            that is reached late or by chance, a lower one says more.

    Raises:
        ValueError: without results, or with two of the same arm and seed.
    """
    if not results:
        raise ValueError("no results to compare")
    names = list(arms) or list(dict.fromkeys(str(result["arm"]) for result in results))
    found = [_Arm(name, _by_seed(results, name)) for name in names]
    found = [arm for arm in found if arm.results]
    base = next((arm for arm in found if arm.name == baseline), None)
    budgets = {axis: _budgets([c for arm in found for c in arm.curves(axis).values()]) for axis in AXES}
    window = _window([curve for arm in found for curve in arm.curves("tokens").values()])
    threshold: tuple[float, int | None] | None = None
    if base:
        threshold = threshold_of(list(base.curves("tokens").values())) if target is None else (target, None)
    shown = [*found, *_oracle(base)]
    return {
        "format": FORMAT,
        "baseline": baseline,
        "seeds": sorted({int(result["seed"]) for result in results}),
        "heldout_problems": sorted({len(r["pass_rates"]) for r in results if r.get("pass_rates")}),
        "budgets": budgets,
        "threshold": None
        if threshold is None
        else {"pass_at_1": threshold[0], "evaluations": threshold[1], "smoothing_window": window},
        "arms": [_arm(arm, base, budgets, None if threshold is None else threshold[0], window) for arm in shown],
        "settings": _settings(found),
    }


def _by_seed(results: Sequence[Mapping[str, Any]], name: str) -> dict[int, Mapping[str, Any]]:
    found: dict[int, Mapping[str, Any]] = {}
    for result in results:
        if result["arm"] == name:
            if int(result["seed"]) in found:
                raise ValueError(f"two results of arm {name}, seed {result['seed']}")
            found[int(result["seed"])] = result
    return dict(sorted(found.items()))


def _budgets(curves: Sequence[Curve]) -> list[float]:
    """Shares of the most that every run has spent."""
    reached = min(curve.end for curve in curves)
    return [share * reached for share in SHARES_OF_BUDGET]


def _window(curves: Sequence[Curve]) -> int:
    """One window for all curves; none where a run has too few evaluations to smooth."""
    return _WINDOW if min(len(curve.y) for curve in curves) >= _LEAST_FOR_SMOOTHING else 1


def _oracle(base: _Arm | None) -> list[_Arm]:
    """The baseline as if a gate had known every group's variance beforehand; only where that changes no gradient.

    Under `loss_denominator: live` groups without variance add nothing to the gradient and nothing to its denominator,
    so the baseline's accuracies stay what they are and only the tokens of its live groups are spent. Terms that act on
    every token (an entropy bonus) would miss those of dead groups.
    """
    if base is None:
        return []
    for result in base.results.values():
        settings = result.get("settings", {})
        if settings.get("loss_denominator") != "live" or any(settings.get(name) for name in _ON_DEAD_GROUPS):
            return []
        if settings.get("top_entropy_quantile", 1.0) < 1.0:
            return []
        if any(row.get("live_tokens") is None for row in result["curve"]):
            return []
    return [_Arm(ORACLE, base.results, is_simulated=True)]


def _arm(
    arm: _Arm, base: _Arm | None, budgets: Mapping[str, Sequence[float]], threshold: float | None, window: int
) -> dict[str, Any]:
    other = None if base is None or arm is base else base
    axes = [axis for axis in AXES if arm.curves(axis)]
    summary: dict[str, Any] = {
        "arm": arm.name,
        "simulated": arm.is_simulated,
        "seeds": list(arm.results),
        "at_equal": {axis: [_at(arm, other, axis, budget) for budget in budgets[axis]] for axis in axes},
        "to_threshold": {}
        if threshold is None
        else {axis: _to_threshold(arm, other, axis, threshold, window) for axis in axes},
        "final": _final(arm, other),
        "curves": {axis: mean_curve(list(arm.curves(axis).values())) for axis in axes},
        "runs": [
            {
                "seed": seed,
                "pass_at_1": [row["pass_at_1"] for row in result["curve"]],
                **{axis: list(arm.curves(axis)[seed].x) for axis in axes},
            }
            for seed, result in arm.results.items()
        ],
    }
    if arm.is_simulated:  # all else is the baseline's
        return summary
    results = list(arm.results.values())
    return summary | {
        "steps": _mean(results, _entry("steps")),
        "policy_updates": _mean(results, _entry("policy_updates")),
        "awareness": {
            name: _mean([result["curve"][-1].get("awareness", {}) for result in results], _entry(name))
            for name in AWARENESS
        },
        "gate_ceiling": _ceiling(results),
        **{part: _judged(results, part) for part in ("gate", "cutoff")},
        "ledger": _ledger(results),
    }


def _at(arm: _Arm, base: _Arm | None, axis: str, budget: float) -> dict[str, Any]:
    """Accuracy at a budget, and its difference to the baseline's, paired by seed."""
    values = {seed: curve.at(budget) for seed, curve in arm.curves(axis).items()}
    # A simulated arm may end before the budget; a mean over the seeds that did not would be one of other seeds.
    is_whole = all(value is not None for value in values.values())
    return {
        "budget": budget,
        "pass_at_1": _plain(estimate(values.values()) if is_whole else None),
        "ended_at": None if is_whole else max(curve.end for curve in arm.curves(axis).values()),
        "difference": None
        if base is None or not is_whole
        else _paired(values, {seed: curve.at(budget) for seed, curve in base.curves(axis).items()}),
    }


def _to_threshold(arm: _Arm, base: _Arm | None, axis: str, threshold: float, window: int) -> dict[str, Any]:
    """What an arm spent to come to the threshold, and the speed-up over the baseline paired by seed."""
    reached, ends = _reaches(arm, axis, threshold, window)
    beyond = [end for seed, end in ends.items() if reached[seed] is None]
    found: dict[str, Any] = {
        "spent": _plain(estimate(reached.values())),
        "reached": len(ends) - len(beyond),
        "runs": len(ends),
        # Only where no run reached it: the mean over all is above the mean of the ends.
        "beyond": math.fsum(beyond) / len(beyond) if len(beyond) == len(ends) else None,
        "by_seed": [{"seed": seed, "spent": reached[seed], "end": ends[seed]} for seed in ends],
        "mean_curve": _mean_curve_reach(arm, axis, threshold, window),
    }
    if base is None:
        return found | {"speed_up": None, "pairs": 0, "pairs_left_out": 0, "mean_curve_speed_up": None}
    theirs, _ = _reaches(base, axis, threshold, window)
    pairs = [(theirs[seed], reached[seed]) for seed in reached if seed in theirs]
    ratio = ratio_estimate(pairs)
    own_mean, base_mean = found["mean_curve"], _mean_curve_reach(base, axis, threshold, window)
    return found | {
        "speed_up": _plain(ratio),
        "pairs": ratio.n if ratio else 0,
        "pairs_left_out": len(pairs) - (ratio.n if ratio else 0),
        "mean_curve_speed_up": base_mean / own_mean if base_mean and own_mean else None,
    }


def _reaches(arm: _Arm, axis: str, threshold: float, window: int) -> tuple[dict[int, float | None], dict[int, float]]:
    curves = arm.curves(axis)
    reached = {seed: curve.smoothed(window).first_reach(threshold) for seed, curve in curves.items()}
    return reached, {seed: curve.end for seed, curve in curves.items()}


def _mean_curve_reach(arm: _Arm, axis: str, threshold: float, window: int) -> float | None:
    """Where the mean over seeds of the smoothed curves reaches the threshold: defined where single seeds fall short."""
    mean = mean_curve([curve.smoothed(window) for curve in arm.curves(axis).values()])
    return None if mean is None else Curve(tuple(mean["x"]), tuple(mean["mean"])).first_reach(threshold)


def _final(arm: _Arm, base: _Arm | None) -> dict[str, Any]:
    """Accuracy at the last evaluation: over seeds, and within each seed over problems; also on tasks not trained on."""
    other, their_other = _transfer(arm), {} if base is None else _transfer(base)
    last = {seed: float(result["curve"][-1]["pass_at_1"]) for seed, result in arm.results.items()}
    theirs = {} if base is None else {s: float(r["curve"][-1]["pass_at_1"]) for s, r in base.results.items()}
    return {
        "pass_at_1": _plain(estimate(last.values())),
        "difference": None if base is None else _paired(last, theirs),
        "transfer": _plain(estimate(other.values())),
        "transfer_difference": None if base is None else _paired(other, their_other),
        "by_seed": [
            {
                "seed": seed,
                "pass_at_1": last[seed],
                **_over_problems(result.get("pass_rates"), ""),
                **_difference_over_problems(result, base, seed),
            }
            for seed, result in arm.results.items()
        ],
    }


def _transfer(arm: _Arm) -> dict[int, float]:
    ends = {seed: result["curve"][-1].get("transfer") for seed, result in arm.results.items()}
    return {seed: float(value) for seed, value in ends.items() if value is not None}


def _over_problems(rates: Sequence[float] | None, prefix: str) -> dict[str, Any]:
    interval = bootstrap_mean_interval(rates, seed=0) if rates else None
    return {
        f"{prefix}low": interval.low if interval else None,
        f"{prefix}high": interval.high if interval else None,
    }


def _difference_over_problems(result: Mapping[str, Any], base: _Arm | None, seed: int) -> dict[str, Any]:
    """The difference to the baseline's run of the same seed, paired by problem; only over the same problems."""
    mine = result.get("pass_rates")
    theirs = base.results[seed].get("pass_rates") if base is not None and seed in base.results else None
    if not mine or not theirs or len(mine) != len(theirs):
        return {}
    differences = [a - b for a, b in zip(mine, theirs, strict=True)]
    return {
        "difference": math.fsum(differences) / len(differences),
        **_over_problems(differences, "difference_"),
    }


def _ceiling(results: Sequence[Mapping[str, Any]]) -> dict[str, float | None] | None:
    """What the best gate that skips as much of the held-out problems would reach; None where no gate was judged.

    Over the problems of all runs together: each run's policy has pass rates of its own.
    """
    right: list[int] = []
    rolled: list[int] = []
    skipped = 0.0
    for result in results:
        held, rates = result["curve"][-1].get("awareness", {}), result.get("pass_rates")
        found, recall, flat = (held.get(name) for name in ("gate_precision", "gate_recall", "zero_variance_share"))
        if not rates or not found or recall is None or flat is None:
            continue
        size = int(result["settings"]["heldout"]["solutions"])
        right += [round(rate * size) for rate in rates]
        rolled += [size] * len(rates)
        skipped += len(rates) * recall * flat / found
    if not right:
        return None
    best = knowing_gate(right, rolled, rolled[0], min(skipped / len(right), 1.0))
    return {"precision": best.precision, "recall": best.recall, "base_rate": best.base_rate}


def _judged(results: Sequence[Mapping[str, Any]], part: str) -> dict[str, Any] | None:
    """A decision's quality at the end of the runs; None where no run made it."""
    rows = [result.get(part) or {} for result in results]
    if not any(rows):
        return None
    return {name: _mean(rows, _entry(name)) for name in _JUDGED} | {
        "by_seed": [{"seed": result["seed"], **row} for result, row in zip(results, rows, strict=True)]
    }


def _ledger(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over runs of what was spent and saved, in tokens and in seconds by what they went into."""

    def total(name: str) -> Callable[[Mapping[str, Any]], float]:
        return lambda result: float(result["ledger"].get(name, 0))

    def net(result: Mapping[str, Any]) -> float | None:
        """None where further problems were drawn in place of gated ones: what was saved on those went into these."""
        return None if result["settings"].get("refill") in SPENT_ON_OTHERS else total("net_saved_tokens")(result)

    def share(result: Mapping[str, Any]) -> float | None:
        names = ("solution_tokens", "audit_tokens", "saved_gate_tokens", "saved_cutoff_tokens")
        alone, saved = sum(total(name)(result) for name in names), net(result)
        return saved / alone if saved is not None and alone > 0 else None

    seconds = [result["ledger"].get("seconds", {}) for result in results]
    kinds = sorted({kind for row in seconds for kind in row} - {"evaluation"})
    return {
        "tokens": {kind: _mean(results, total(f"{kind}_tokens")) for kind in _KINDS},
        "generated": _mean(results, lambda r: sum(total(f"{kind}_tokens")(r) for kind in _KINDS)),
        "trained": _mean(results, total("trained_tokens")),
        "saved_gate": _mean(results, total("saved_gate_tokens")),
        "saved_cutoff": _mean(results, total("saved_cutoff_tokens")),
        "net_saved": _mean(results, net),
        "net_saved_share": _mean(results, share),
        "seconds": {kind: _mean(seconds, _entry(kind)) for kind in kinds},
    }


def _settings(arms: Sequence[_Arm]) -> dict[str, Any]:
    """Settings that all arms share, and those in which they differ, by setting and arm; seeds and places left out."""
    one = {arm.name: dict(next(iter(arm.results.values())).get("settings", {})) for arm in arms}
    keys = list(dict.fromkeys(key for settings in one.values() for key in settings))
    common, differing = {}, {}
    for key in keys:
        if key in ("seed", "output_dir", "data_seed"):
            continue
        values = {name: settings.get(key) for name, settings in one.items()}
        first = next(iter(values.values()))
        if all(value == first for value in values.values()):
            common[key] = first
        else:
            differing[key] = values
    return {"common": common, "differing": differing}


def _entry(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda row: row.get(name)


def _mean(
    rows: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float | None]
) -> dict[str, Any] | None:
    return _plain(estimate(value(row) for row in rows))


def _paired(mine: Mapping[int, float | None], theirs: Mapping[int, float | None]) -> dict[str, Any] | None:
    """Mean difference over the seeds that both have."""
    pairs = [(mine[seed], theirs.get(seed)) for seed in mine]
    return _plain(estimate(a - b for a, b in pairs if a is not None and b is not None))


def _plain(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else found.plain()
