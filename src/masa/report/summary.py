"""The report's first screen: what happened, in words and a few figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.report.data import RunData, evaluation_number, number
from masa.training.presets import SPENT_ON_OTHERS


@dataclass(frozen=True)
class Tile:
    """One figure of the summary."""

    title: str
    value: str
    before: str = ""
    """What it was at the start; empty where there is no such thing."""
    note: str = ""


def sentences(run: RunData) -> list[str]:
    """The run in plain sentences, as text. What was not measured is not mentioned."""
    parts = (_what, _accuracy, _self_knowledge, _savings, _live_groups)
    return [sentence for part in parts if (sentence := part(run))]


def tiles(run: RunData) -> list[Tile]:
    """The figures beside the sentences."""
    found = []
    first, last = _ends(run, "pass_at_1")
    if last is not None:
        found.append(Tile("Held-out pass@1", percent(last), percent(first), _interval_note(run.main_evaluations[-1])))
    for name, title in (("pass_rate", "pass rate"), ("length", "length")):
        first, last = _ends(run, f"awareness/{name}_spearman")
        note = "Spearman, held out"
        if last is None:
            first, last = _trained_ends(run, f"awareness/{name}_spearman")
            note = "Spearman, training problems"
        if last is not None:
            found.append(Tile(f"Foretells its {title}", decimal(last), decimal(first), note))
    net = run.total("net_saved_tokens")
    if net and run.settings.get("refill") not in SPENT_ON_OTHERS:
        found.append(Tile("Tokens saved, net", signed(net), note=_share_note(run, net)))
    first, last = _live_ends(run)
    if last is not None:
        found.append(Tile("Live groups", percent(last), percent(first), "of those rolled out, first and last tenth"))
    return found


def _what(run: RunData) -> str:
    ledger, settings = run.ledger, run.settings
    model = settings.get("model", settings.get("model_name_or_path"))
    preset = settings.get("preset")
    words = f"{run.steps} steps"
    if preset:
        words += f" with preset {preset}"
    if isinstance(model, str):
        words += f" on {model}"
    if generated := number(ledger.get("generated_tokens")):
        words += f"; {amount(generated)} tokens generated"
    if (seconds := math.fsum(run.series("time/step")[1])) > 0:
        words += f" in {duration(seconds)}"
    empty = number(ledger.get("steps_without_live_group"))
    if empty:
        words += f"; {empty:.0f} steps had no live group and taught nothing"
    if skipped := number(ledger.get("steps_not_finite")):
        words += f"; {skipped:.0f} steps were skipped, since loss or gradient was not finite"
    return words + "."


def _accuracy(run: RunData) -> str:
    rows = [row for row in run.main_evaluations if evaluation_number(row, "pass_at_1") is not None]
    if not rows:
        return ""
    last = rows[-1]
    size = _size(last)
    if len(rows) == 1:
        return f"Held-out pass@1 is {_with_interval(last)} at step {last.get('step')}{size}."
    first = rows[0]
    change = (evaluation_number(last, "pass_at_1") or 0) - (evaluation_number(first, "pass_at_1") or 0)
    verb = "rose" if change > 0.005 else "fell" if change < -0.005 else "hardly moved,"
    ends = f"from {_with_interval(first)} to {_with_interval(last)}"
    overlap = "; the two intervals overlap" if _overlap(first, last) else ""
    return f"Held-out pass@1 {verb} {ends}, {100 * change:+.1f} points{size}{overlap}."


def _self_knowledge(run: RunData) -> str:
    words = []
    for name, title in (("pass_rate", "pass rate"), ("length", "length")):
        first, last = _ends(run, f"awareness/{name}_spearman")
        if last is not None:
            start = f"{decimal(first)} to " if first is not None else ""
            words.append(f"{start}{decimal(last)} for {title}")
    if words:
        return (
            "On held-out problems, what the policy foretells correlates with what it then does: "
            + ", ".join(words)
            + "."
        )
    last = _trained_ends(run, "awareness/pass_rate_spearman")[1]
    if last is None:
        return ""
    return f"On training problems, foretold and true pass rate correlate at {decimal(last)} (Spearman, end of the run)."


def _savings(run: RunData) -> str:
    net, cost = run.total("net_saved_tokens"), run.total("meta_tokens") or 0.0
    gate, cutoff = run.total("saved_gate_tokens") or 0.0, run.total("saved_cutoff_tokens") or 0.0
    if net is None or not (cost or gate or cutoff):
        return ""
    spent = f"predictions cost {amount(cost)}" if cost else "no predictions were paid for"
    if not gate and not cutoff:
        return f"{spent[0].upper()}{spent[1:]} tokens; gate and cutoff saved none."
    if run.settings.get("refill") == "best":
        limit = run.settings.get("refill_limit")
        return f"Rollouts went to the best of {limit:g} times as many problems, by what was foretold; {spent}."
    if run.settings.get("refill") in SPENT_ON_OTHERS:
        return (
            f"Gate and cutoff saved an estimated {amount(gate)} and {amount(cutoff)} tokens, which went into further "
            f"problems; {spent}."
        )
    verdict = "a net saving" if net > 0 else "a net cost"
    return (
        f"Gate and cutoff saved an estimated {amount(gate)} and {amount(cutoff)} tokens; "
        f"{spent}: {verdict} of {amount(abs(net))}."
    )


def _live_ends(run: RunData) -> tuple[float | None, float | None]:
    """Share of live groups among those rolled out, in the first and the last tenth of the steps."""
    first, last = _trained_ends(run, "groups/zero_variance_share")
    return (None if first is None else 1 - first), (None if last is None else 1 - last)


def _live_groups(run: RunData) -> str:
    first, last = _live_ends(run)
    if first is None or last is None:
        return ""
    words = f"{percent(first)} of the groups rolled out were live in the first tenth of the steps"
    return f"{words}, {percent(last)} in the last."


def _share_note(run: RunData, net: float) -> str:
    names = ("solution_tokens", "audit_tokens", "saved_gate_tokens", "saved_cutoff_tokens")
    alone = sum(run.total(name) or 0.0 for name in names)
    return f"{100 * net / alone:+.1f} % of what solutions alone would cost" if alone > 0 else "estimated from audits"


def _ends(run: RunData, name: str) -> tuple[float | None, float | None]:
    """First and last evaluated value; with one evaluation only the last."""
    values = run.evaluated(name)[1]
    return (values[0] if len(values) > 1 else None), (values[-1] if values else None)


def _trained_ends(run: RunData, name: str) -> tuple[float | None, float | None]:
    """Mean over the first and over the last tenth of the steps."""
    values = run.series(name)[1]
    if not values:
        return None, None
    tenth = max(1, len(values) // 10)
    return (_mean(values[:tenth]) if len(values) > 1 else None), _mean(values[-tenth:])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _with_interval(row: Mapping[str, Any]) -> str:
    value, low, high = (evaluation_number(row, f"pass_at_1{end}") for end in ("", "_low", "_high"))
    between = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{percent(value)}{between}"


def _interval_note(row: Mapping[str, Any]) -> str:
    low, high = (evaluation_number(row, f"pass_at_1_{end}") for end in ("low", "high"))
    return "" if low is None or high is None else f"95 % interval {100 * low:.1f} to {100 * high:.1f}"


def _size(row: Mapping[str, Any]) -> str:
    problems, samples = number(row.get("problems")), number(row.get("samples_per_problem"))
    if problems is None:
        return ""
    return f" ({problems:.0f} problems" + (f", {samples:.0f} samples each)" if samples else ")")


def _overlap(first: Mapping[str, Any], last: Mapping[str, Any]) -> bool:
    ends = [evaluation_number(row, f"pass_at_1_{end}") for row in (first, last) for end in ("low", "high")]
    low_0, high_0, low_1, high_1 = ends
    if low_0 is None or high_0 is None or low_1 is None or high_1 is None:
        return False
    return low_0 <= high_1 and low_1 <= high_0


def percent(value: float | None) -> str:
    """As `31.2 %`; empty for None."""
    return "" if value is None else f"{100 * value:.1f}\u00a0%"


def decimal(value: float | None) -> str:
    """With two decimals; empty for None."""
    return "" if value is None else f"{value:.2f}".replace("-", "\u2212")


def amount(value: float) -> str:
    """A number of tokens, short: `1.2 M`; no line is broken before the unit."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}\u00a0{unit}"
    return f"{value:.0f}"


def signed(value: float) -> str:
    """`amount` with its sign."""
    return ("+" if value > 0 else "\u2212" if value < 0 else "") + amount(abs(value))


def duration(seconds: float) -> str:
    """As `1 h 5 min`, `7 min` or `42 s`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
