"""What each arm of a comparison changes against a control, by accuracy at equal generated tokens.

    python benchmarks/ablations.py runs/ablations --tokens 125000 --control masa-plus --arms before-0.7,knapsack

Reads the results that `masa compare` leaves in its folder. Differences are paired by seed, with Student's t intervals
(95 %): of the accuracy when so many tokens are generated, and of its mean over the way there, which the noise of one
evaluation moves less.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from masa.awareness import student_t_interval

Result = dict[str, Any]


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--control", required=True)
    options.add_argument("--arms", required=True)
    options.add_argument("--tokens", type=float, default=125_000)
    given = options.parse_args()
    columns = (
        "arm", "steps", "predictions, tokens", "live share", "pass@1 at the end", "minus the control",
        "mean over the run, minus the control", "Spearman, pass rate; length",
    )  # fmt: skip
    print("| " + " | ".join(columns) + " |\n| --- |" + " ---: |" * (len(columns) - 1))
    for arm in [given.control, *given.arms.split(",")]:
        print(row(given.folder, arm, given.control, given.tokens))


def row(folder: Path, arm: str, control: str, tokens: float) -> str:
    """One arm's line."""
    ours, theirs = by_seed(folder, arm), by_seed(folder, control)
    results = list(ours.values())

    def mean(figure: Callable[[Result], float]) -> float:
        return statistics.fmean(map(figure, results))

    def live_share(result: Result) -> float:
        ledger = result["ledger"]
        return float(ledger["live_tokens"] / (ledger["solution_tokens"] + ledger["audit_tokens"]))

    differences = ["-", "-"]
    if arm != control:
        seeds = sorted(ours.keys() & theirs.keys())
        differences = [
            interval([figure(ours[seed], tokens) - figure(theirs[seed], tokens) for seed in seeds])
            for figure in (accuracy_at, mean_accuracy)
        ]
    foretold = [result["curve"][-1].get("awareness") or {} for result in results]
    ranks = [
        [values[name] for values in foretold if values.get(name) is not None]
        for name in ("pass_rate_spearman", "length_spearman")
    ]
    shown = "; ".join(f"{statistics.fmean(found):.2f}" for found in ranks) if all(ranks) else "-"
    predictions = mean(lambda result: result["ledger"]["meta_tokens"]) / 1000
    cells = [
        f"`{arm}`" + ("" if len(results) == len(theirs) else f" ({len(results)} seeds)"),
        f"{mean(lambda result: result['steps']):.0f}",
        f"{predictions:.0f} k" if predictions else "-",
        f"{mean(live_share):.2f}",
        f"{100 * mean(lambda result: accuracy_at(result, tokens)):.1f}",
        *differences,
        shown,
    ]
    return "| " + " | ".join(cells) + " |"


def by_seed(folder: Path, arm: str) -> dict[int, Result]:
    """An arm's results."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"results/{arm}-*.json"))
    return {result["seed"]: result for result in found if result["arm"] == arm}


def accuracy_at(result: Result, tokens: float) -> float:
    """Held-out pass@1 when so many tokens are generated, straight between evaluations."""
    curve = result["curve"]
    return float(np.interp(tokens, [point["tokens"] for point in curve], [point["pass_at_1"] for point in curve]))


def mean_accuracy(result: Result, tokens: float) -> float:
    """Its mean on the way there."""
    return statistics.fmean(accuracy_at(result, float(at)) for at in np.linspace(0, tokens, 201))


def interval(differences: Sequence[float]) -> str:
    """Mean and interval, in points."""
    shown = f"{100 * statistics.fmean(differences):+.1f}"
    bounds = student_t_interval(differences)
    return shown if bounds is None else f"{shown} [{100 * bounds.low:+.1f}, {100 * bounds.high:+.1f}]"


if __name__ == "__main__":
    main()
