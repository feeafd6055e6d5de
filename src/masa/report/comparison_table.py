"""The table of a comparison as text: measures down, arms across; the same in the terminal, in Markdown and in HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.report.data import number
from masa.report.summary import amount, duration, signed

NOTHING = "–"  # noqa: RUF001 - a dash in a table

Arm = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One measure."""

    title: str
    cells: Sequence[str]
    """One an arm."""
    method: str
    """How it was made, in words."""


def columns(comparison: Mapping[str, Any]) -> list[str]:
    """The arms' titles; a simulated arm says so."""
    return [
        f"{arm['arm']} (simulated)" if arm["simulated"] else f"{arm['arm']}" + _seeds(arm) for arm in comparison["arms"]
    ]


def rows(comparison: Mapping[str, Any]) -> list[Row]:
    """The measures that at least one arm has."""
    found = [
        *_accuracies(comparison, "tokens"),
        *_accuracies(comparison, "seconds"),
        *_spent(comparison, "tokens"),
        *_spent(comparison, "seconds"),
        *_final(comparison),
        *_costs(comparison),
        *_awareness(comparison),
        *_judged(comparison),
    ]
    return [row for row in found if any(cell != NOTHING for cell in row.cells)]


def markdown(comparison: Mapping[str, Any]) -> str:
    """The table and its notes, to be put into a document."""
    names = columns(comparison)
    lines = [
        "| " + " | ".join(["", *map(_cell, names)]) + " |",
        "| " + " | ".join(["---", *("---:" for _ in names)]) + " |",
        *("| " + " | ".join([_cell(row.title), *map(_cell, row.cells)]) + " |" for row in rows(comparison)),
    ]
    notes = [f"- {note}" for note in (*intervals(comparison), *comparison.get("notes", []))]
    return "\n".join([*lines, "", *notes, ""])


def intervals(comparison: Mapping[str, Any]) -> list[str]:
    """What the table's numbers are, in words."""
    count = len(comparison["seeds"])
    problems = comparison.get("heldout_problems") or []
    found = [
        f"Accuracy is pass@1 on {' or '.join(map(str, problems)) or 'the'} held-out problems, in per cent; means over "
        f"{count} {'seed' if count == 1 else 'seeds'} with 95 % Student's t intervals in brackets; differences and "
        f"ratios to {comparison['baseline']} are paired by seed."
    ]
    if count < 3:
        found.append(
            "Fewer than three seeds: no comparison to quote." + (" One seed has no interval." if count == 1 else "")
        )
    threshold = comparison.get("threshold")
    if threshold:
        window = threshold["smoothing_window"]
        smooth = f"curves are running means of {window} evaluations" if window > 1 else "curves are not smoothed"
        goal = f"The threshold is {target_name(comparison)}"
        if threshold["evaluations"] is not None:
            goal += f", {_percent(threshold['pass_at_1'])} %: mean over seeds of the last "
            goal += _evaluations(threshold["evaluations"])
        found.append(f"{goal}; {smooth}. `>` means never reached within the run.")
    if any(arm["simulated"] for arm in comparison["arms"]):
        found.append(
            f"The oracle gate is simulated: {comparison['baseline']}'s own curve, at the cost of only the tokens of "
            "groups that turned out to have variance. No gate that leaves the gradient as it is can do better."
        )
    return found


def _accuracies(comparison: Mapping[str, Any], axis: str) -> list[Row]:
    found = []
    for i, budget in enumerate(comparison["budgets"][axis]):
        # Smaller budgets first in the data; the one that all runs reached matters most.
        entries = [_get(arm, "at_equal", axis, i) for arm in comparison["arms"]]
        title = f"pass@1 at {_spending(axis, budget)}"
        method = (
            f"Held-out curves, linear between evaluations, at {_spending(axis, budget)} of training"
            + (", predictions and audits included" if axis == "tokens" else ", evaluations left out")
            + (" (the most that every run has spent)." if i == len(comparison["budgets"][axis]) - 1 else ".")
        )
        found.append(Row(title, [_at(entry, axis) for entry in entries], method))
        differences = [_points(entry and entry["difference"]) for entry in entries]
        found.append(Row("… minus baseline", differences, "Difference in points, paired by seed."))
    return found[-2:] + found[:-2]


def target_name(comparison: Mapping[str, Any]) -> str:
    """What the arms are timed to, in words."""
    threshold = comparison.get("threshold")
    if threshold and threshold["evaluations"] is None:
        return f"{_percent(threshold['pass_at_1'])} %"
    return f"{comparison['baseline']}'s final accuracy"


def _spent(comparison: Mapping[str, Any], axis: str) -> list[Row]:
    entries = [_get(arm, "to_threshold", axis) for arm in comparison["arms"]]
    name = comparison["baseline"]
    return [
        Row(
            f"{axis} to {target_name(comparison)}",
            [_reached(entry, axis) for entry in entries],
            f"{axis.capitalize()} at the first crossing of the threshold, mean over the seeds that came to it "
            "(how many, in parentheses).",
        ),
        Row(
            f"speed-up in {axis}",
            [_ratio(entry) for entry in entries],
            f"{name}'s {axis} to the threshold over the arm's, geometric mean over the seeds where both came to it "
            "(how many, where not all), interval of the logarithm.",
        ),
        Row(
            f"speed-up in {axis}, mean curves",
            [_times(entry and entry["mean_curve_speed_up"]) for entry in entries],
            "The same ratio for the means over seeds of the curves: no interval, but no seed is left out.",
        ),
    ]


def _final(comparison: Mapping[str, Any]) -> list[Row]:
    finals = [arm["final"] for arm in comparison["arms"]]
    return [
        Row("final pass@1", [_accuracy(final["pass_at_1"]) for final in finals], "At the last evaluation of each run."),
        Row(
            "… minus baseline",
            [_points(final["difference"]) for final in finals],
            "Paired by seed, whatever was spent.",
        ),
        Row(
            "final pass@1, other tasks",
            [_accuracy(final.get("transfer")) for final in finals],
            "On problems of tasks that were not trained on (heldout.transfer).",
        ),
        Row(
            "… minus baseline",
            [_points(final.get("transfer_difference")) for final in finals],
            "Paired by seed.",
        ),
    ]


def _costs(comparison: Mapping[str, Any]) -> list[Row]:
    def row(title: str, method: str, cell: Callable[[Arm], str]) -> Row:
        return Row(title, [cell(arm) if "ledger" in arm else NOTHING for arm in comparison["arms"]], method)

    def kind(name: str) -> Callable[[Arm], str]:
        return lambda arm: _amount(arm["ledger"]["tokens"][name])

    def net(arm: Arm) -> str:
        saved, share = (_mean(arm["ledger"][name]) for name in ("net_saved", "net_saved_share"))
        if not saved:
            return NOTHING
        return signed(saved) + ("" if share is None else f" ({100 * share:+.0f} %)")

    return [
        row("steps", "Training steps, mean.", lambda arm: _plain(arm["steps"])),
        row("policy updates", "Steps with at least one live group.", lambda arm: _plain(arm["policy_updates"])),
        row("generated tokens", "All of training.", lambda arm: _amount(arm["ledger"]["generated"])),
        row("… for predictions", "Part of the generated tokens.", kind("meta")),
        row("… for audits", "Part of the generated tokens.", kind("audit")),
        row("trained tokens", "Through the policy update.", lambda arm: _amount(arm["ledger"]["trained"])),
        row(
            "net tokens saved",
            "Gate and cutoff, estimated from audits, less predictions; share of solutions alone. None for arms that "
            "draw further problems in place of gated ones.",
            net,
        ),
    ]


def _awareness(comparison: Mapping[str, Any]) -> list[Row]:
    parts = (
        ("pass_rate_spearman", "Spearman, pass rate", "Foretold against true pass rate"),
        ("length_spearman", "Spearman, length", "Foretold against mean correct length"),
        ("brier", "Brier score", "Of the foretold pass rate"),
        ("ece", "calibration error", "Of the foretold pass rate"),
    )
    return [
        Row(
            title,
            [_decimal(_get(arm, "awareness", name)) for arm in comparison["arms"]],
            f"{words}, held-out problems, last evaluation.",
        )
        for name, title, words in parts
    ] + [_heldout_gate(comparison, name) for name in ("precision", "recall")]


def _heldout_gate(comparison: Mapping[str, Any], name: str) -> Row:
    def cell(arm: Arm) -> str:
        found, best = _get(arm, "awareness", f"gate_{name}"), _get(arm, "gate_ceiling")
        if not found or not best:
            return NOTHING
        base = f", base rate {best['base_rate']:.2f}" if name == "precision" else ""
        return f"{_decimal(found)}, at best {best[name]:.2f}{base}"

    return Row(
        f"held-out gate {name}",
        [cell(arm) for arm in comparison["arms"]],
        "Of the gate's rule on held-out problems, last evaluation; at best: of one that skipped as many and knew each "
        "problem's true pass rate, but not what its group would be.",
    )


def _judged(comparison: Mapping[str, Any]) -> list[Row]:
    words = {
        "gate": "skips problems whose group would have no variance",
        "cutoff": "ends rollouts that would be incorrect",
    }
    found = []
    for part, what in words.items():
        for name in ("precision", "recall", "f1"):
            cells = []
            for arm in comparison["arms"]:
                value, base = _get(arm, part, name), _get(arm, part, "base_rate")
                cell = _decimal(value)
                if name == "precision" and value and base:
                    cell += f", base rate {base['mean']:.2f}"
                cells.append(cell)
            title = "F1" if name == "f1" else name
            method = f"The {part} {what}; {title} at the end of each run, from its audits."
            if part == "gate":
                method += " With refill 'best' it skips whatever is not among the best."
            if name == "precision":
                method += " The base rate is the precision of deciding at random."
            found.append(Row(f"{part} {title}", cells, method))
    return found


def _at(entry: Mapping[str, Any] | None, axis: str) -> str:
    if entry is None:
        return NOTHING
    if entry["pass_at_1"] is None:
        return f"ended at {_spending(axis, entry['ended_at'])}"
    return _accuracy(entry["pass_at_1"])


def _reached(entry: Mapping[str, Any] | None, axis: str) -> str:
    if entry is None:
        return NOTHING
    count = f" ({entry['reached']} of {entry['runs']})"
    if entry["spent"] is None:
        return f"> {_number(axis, entry['beyond'])}{count}"
    return _number(axis, entry["spent"]["mean"]) + count


def _ratio(entry: Mapping[str, Any] | None) -> str:
    found = entry and entry["speed_up"]
    if not found:
        return NOTHING
    ends = "" if found["low"] is None or found["high"] is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    left_out = entry and entry["pairs_left_out"]
    count = f" ({entry['pairs']} of {entry['pairs'] + left_out})" if entry and left_out else ""
    return f"{_times(found['mean'])}{ends}{count}"


def _times(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}x"


def _accuracy(found: Mapping[str, Any] | None) -> str:
    if not found:
        return NOTHING
    ends = "" if found["low"] is None else f" [{_percent(found['low'])}, {_percent(found['high'])}]"
    return _percent(found["mean"]) + ends


def _points(found: Mapping[str, Any] | None) -> str:
    if not found:
        return NOTHING
    ends = "" if found["low"] is None else f" [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
    return f"{100 * found['mean']:+.1f}{ends}"


def _decimal(found: Mapping[str, Any] | None) -> str:
    if not found:
        return NOTHING
    ends = "" if found["low"] is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found['mean']:.2f}{ends}"


def _amount(found: Mapping[str, Any] | None) -> str:
    value = _mean(found)
    return amount(value) if value else NOTHING


def _plain(found: Mapping[str, Any] | None) -> str:
    value = _mean(found)
    return NOTHING if value is None else f"{value:.0f}" if value == round(value) else f"{value:.1f}"


def _mean(found: Mapping[str, Any] | None) -> float | None:
    return number(found["mean"]) if found else None


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _number(axis: str, value: float) -> str:
    return amount(value) if axis == "tokens" else duration(value)


def _spending(axis: str, value: float) -> str:
    return f"{amount(value)} tokens" if axis == "tokens" else duration(value)


def _evaluations(count: int) -> str:
    return "evaluation" if count == 1 else f"{count} evaluations"


def _seeds(arm: Arm) -> str:
    count = len(arm["seeds"])
    return f" ({count} seed{'' if count == 1 else 's'})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\u00a0", " ")


def _get(value: Any, *path: Any) -> Any:
    """What lies at the path, or None where it ends early."""
    for key in path:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value
