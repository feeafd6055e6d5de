"""A comparison in a few plain sentences. What was not measured is not mentioned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masa.report.comparison_table import target_name
from masa.report.data import number
from masa.report.summary import amount, percent

Arm = Mapping[str, Any]


def sentences(comparison: Mapping[str, Any]) -> list[str]:
    """The baseline, the best at the end, who surely differs from the baseline, and the cheapest; as text."""
    base = next((arm for arm in comparison["arms"] if arm["arm"] == comparison["baseline"]), None)
    trained = [arm for arm in comparison["arms"] if not arm["simulated"] and _end(arm) is not None]
    others = [arm for arm in trained if arm is not base]
    if base is None or base not in trained or not others:
        return []
    name = str(comparison["baseline"])
    budgets = comparison["budgets"].get("tokens")
    spent = f" ({amount(max(budgets))} tokens are what every run has spent)" if budgets else ""
    found = [f"{name} ends at {_with_interval(base['final']['pass_at_1'])} held-out pass@1{spent}."]
    best = max(others, key=lambda arm: _end(arm) or 0.0)
    found.append(
        f"Of the {len(others)} others {best['arm']} ends highest" if len(others) > 1 else f"{best['arm']} ends"
    )
    found[-1] += f": at {_with_interval(best['final']['pass_at_1'])}{_against(best['final']['difference'], name)}."
    if len(others) > 1:
        found.append(_sure(others, name))
    return [*found, *_cheapest(others, comparison)]


def _end(arm: Arm) -> float | None:
    return number((arm["final"].get("pass_at_1") or {}).get("mean"))


def _with_interval(value: Mapping[str, Any]) -> str:
    low, high = number(value.get("low")), number(value.get("high"))
    between = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{percent(number(value['mean']))}{between}"


def _against(difference: Mapping[str, Any] | None, name: str) -> str:
    if not difference or number(difference.get("mean")) is None:
        return ""
    low, high = number(difference.get("low")), number(difference.get("high"))
    words = f", {100 * difference['mean']:+.1f} points to {name}"
    if low is None or high is None:
        return f"{words}, of a single seed"
    chance = ", which may be chance" if low <= 0 <= high else ""
    return f"{words} ({100 * low:+.1f} to {100 * high:+.1f}){chance}"


def _sure(others: Sequence[Arm], name: str) -> str:
    """Which intervals leave out 0."""
    sides: dict[str, list[str]] = {"above": [], "below": []}
    for arm in others:
        difference = arm["final"].get("difference") or {}
        low, high = number(difference.get("low")), number(difference.get("high"))
        if low is not None and low > 0:
            sides["above"].append(str(arm["arm"]))
        if high is not None and high < 0:
            sides["below"].append(str(arm["arm"]))
    parts = [f"surely {side}: {', '.join(names)}" for side, names in sides.items() if names]
    if not parts:
        return f"At the end no arm surely differs from {name}."
    return f"At the end, against {name}, {'; '.join(parts)}; of the others no difference is sure."


def _cheapest(others: Sequence[Arm], comparison: Mapping[str, Any]) -> list[str]:
    """The arm that needs the fewest tokens to the target, where one comes there."""
    ratios = {
        str(arm["arm"]): speed_up
        for arm in others
        if (speed_up := ((arm["to_threshold"].get("tokens") or {}).get("speed_up"))) and number(speed_up.get("mean"))
    }
    if not ratios:
        return []
    arm, ratio = max(ratios.items(), key=lambda item: float(item[1]["mean"]))
    if float(ratio["mean"]) <= 1:
        return [f"No arm comes to {target_name(comparison)} with fewer tokens than {comparison['baseline']}."]
    low, high = number(ratio.get("low")), number(ratio.get("high"))
    between = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    first = "The fewest tokens" if len(others) > 1 else "The tokens"
    way = f"{comparison['baseline']} needs {ratio['mean']:.2f} times as many{between}"
    return [f"{first} to {target_name(comparison)} are {arm}'s: {way}."]
