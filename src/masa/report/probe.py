"""The page of a model's probe: the paper's figure 1, reliability, and what gate and cutoff would save."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masa.report.document import document, grid, section, table, text
from masa.report.figures import Chart, Trace, label, short, xy
from masa.runs import atomic_write_text
from masa.runs.jsonlines import flatten

_NOTHING = "-"


def write_probe(probe: Mapping[str, Any], output: str | os.PathLike[str]) -> Path:
    """Writes the page of a probe (the value that `result.json` holds) and gives its path.

    Raises:
        OSError: if the output's folder does not exist.
    """
    target = Path(output)
    atomic_write_text(target, render_probe(probe))
    return target


def render_probe(probe: Mapping[str, Any]) -> str:
    """The page's HTML."""
    figures: list[Chart] = []
    seen, worth = probe["foresight"], probe["savings"]
    lead = (
        f"{probe['problems']} problems, {probe['solutions']} solutions and {probe['predictions']} predictions each: "
        f"{', '.join(probe['settings']['data'])}"
    )
    pairs = [chart for chart in (_pass_rates(seen), _lengths(seen), _reliability(seen), _tokens(worth)) if chart]
    body = "".join(
        [
            f"<header><h1>{text(str(probe['model']))}</h1><p>MASA probe. {text(lead)}</p></header>",
            f'<ul class="words"><li>{text(probe["advice"])}</li></ul>',
            section(figures, "Foretold and true", "Does it know what it can do?", pairs),
            "<h2>Figures</h2>",
            table(_figures(seen), is_code=False),
            "<h2>What a gate would save</h2>",
            f'<p class="lead">{text(_METHOD)}</p>',
            _gates(worth),
            "<h2>What a cutoff would save</h2>",
            _cutoffs(worth),
            "<h2>Both, paid for by the same predictions</h2>",
            _together(worth),
            f"<h2>Settings</h2>{table(flatten(probe['settings']))}",
        ]
    )
    return document(
        f"{probe['model']} · MASA probe",
        body,
        figures,
        footer="Made from the probe's figures alone; this page loads nothing from the network.",
    )


_METHOD = (
    "Nothing was gated or cut: every figure is counted on full solutions. Calibrated rules are cross-validated over "
    "problems, so that each is judged by what the others taught. Net is less the tokens of the predictions."
)


def _pass_rates(seen: Mapping[str, Any]) -> Chart | None:
    points = [
        (point["foretold_pass_rate"], point["pass_rate"])
        for point in seen["points"]
        if point["foretold_pass_rate"] is not None
    ]
    if not points:
        return None
    traces = [_diagonal(0.0, 1.0), _bubbles([(round(x * 32) / 32, y) for x, y in points], "blue", ".0%")]
    traces += _line(seen["pass_rate_line"])
    axis = {"tickformat": ".0%", "range": [-0.05, 1.05]}
    layout = {
        "xaxis": axis | {"title": {"text": "foretold pass rate"}},
        "yaxis": axis | {"title": {"text": "true pass rate"}},
        "hovermode": "closest",
    }
    slope = _slope(seen["pass_rate_line"])
    note = f"One point a problem (n = {len(points)}), by the mean of its valid predictions; {slope}"
    return Chart("Pass rate", note, traces, layout)


def _lengths(seen: Mapping[str, Any]) -> Chart | None:
    points = [
        (point["foretold_length"], point["length"])
        for point in seen["points"]
        if point["foretold_length"] is not None and point["length"] is not None
    ]
    if not points:
        return None
    ends = [min(map(min, points)), max(map(max, points))]
    traces = [_diagonal(*ends), _bubbles([(float(x), float(y)) for x, y in points], "purple", ",.0f")]
    traces += _line(seen["length_line"])
    layout = {
        "xaxis": {"title": {"text": "foretold length (tokens)"}},
        "yaxis": {"title": {"text": "mean correct length (tokens)"}},
        "hovermode": "closest",
    }
    note = f"One point a problem that was solved at least once (n = {len(points)}); {_slope(seen['length_line'])}"
    return Chart("Length", note, traces, layout)


def _reliability(seen: Mapping[str, Any]) -> Chart | None:
    bins = seen["reliability"]
    if not bins:
        return None
    largest = max(row["count"] for row in bins)
    trace = xy(
        [row["mean_predicted"] for row in bins],
        [row["mean_true"] for row in bins],
        mode="lines+markers",
        name="mean of a bin",
        line={"color": "--orange", "width": 2.2},
    )
    trace["marker"] = {"size": [7 + 15 * math.sqrt(row["count"] / largest) for row in bins], "color": "--orange"}
    trace["text"] = [f"{row['count']} predictions" for row in bins]
    trace["hovertemplate"] = "foretold %{x:.0%}, true %{y:.0%}: %{text}<extra></extra>"
    axis = {"tickformat": ".0%", "range": [-0.05, 1.05]}
    layout = {
        "xaxis": axis | {"title": {"text": "foretold pass rate"}},
        "yaxis": axis | {"title": {"text": "true pass rate"}},
        "showlegend": False,
        "hovermode": "closest",
    }
    note = (
        f"Single predictions in nine bins, larger where there are more. Brier score {_number(seen['brier'])}, "
        f"expected calibration error {_number(seen['ece'])}."
    )
    return Chart("Reliability", note, [_diagonal(0.0, 1.0), trace], layout)


def _tokens(worth: Mapping[str, Any]) -> Chart | None:
    """Net savings of every rule, as bars."""
    rows = [
        *((f"gate, {name}", found) for name, found in worth["gates"].items()),
        *((f"cutoff, {name}", found) for name, found in worth["cutoffs"].items()),
        *((f"both, {name}", found) for name, found in worth["together"].items()),
    ]
    traces: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": title,
            "x": [short(found[key]) for _, found in rows],
            "y": [label(name) for name, _ in rows],
            "marker": {"color": color},
        }
        for key, title, color in (("saved_share", "saved", "--green"), ("net_share", "net of predictions", "--orange"))
    ]
    layout = {
        "xaxis": {"tickformat": ".0%", "title": {"text": "share of the solutions' tokens"}},
        "yaxis": {"type": "category", "autorange": "reversed", "automargin": True},
        "barmode": "group",
        "hovermode": "closest",
    }
    return Chart("Tokens saved", f"A perfect gate: {_percent(worth['perfect_share'])}.", traces, layout)


def _diagonal(low: float, high: float) -> Trace:
    line = {"color": "--grey", "width": 1, "dash": "dot"}
    return xy([low, high], [low, high], mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _bubbles(points: Sequence[tuple[float, float]], color: str, form: str) -> Trace:
    """Points, larger where several coincide."""
    counts = Counter(points)
    largest = max(counts.values())
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "problems",
        "x": [short(x) for x, _ in counts],
        "y": [short(y) for _, y in counts],
        "text": [f"{count} problem{'s' if count > 1 else ''}" for count in counts.values()],
        "hovertemplate": f"foretold %{{x:{form}}}, true %{{y:{form}}}: %{{text}}<extra></extra>",
        "marker": {
            "size": [7 if largest == 1 else 6 + 18 * math.sqrt(count / largest) for count in counts.values()],
            "color": f"--{color}-soft",
            "line": {"color": f"--{color}", "width": 1},
        },
    }


def _line(line: Mapping[str, Any] | None) -> list[Trace]:
    if line is None:
        return []
    ends = [float(line["least"]), float(line["most"])]
    ys = [line["intercept"] + line["slope"] * x for x in ends]
    return [xy(ends, ys, mode="lines", name="fitted line", line={"color": "--orange", "width": 2.4})]


def _slope(line: Mapping[str, Any] | None) -> str:
    if line is None:
        return "all foretold alike, so no line."
    return f"fitted line of slope {line['slope']:.2f} (1 on the diagonal)."


def _figures(seen: Mapping[str, Any]) -> dict[str, str]:
    return {
        "valid predictions": _percent(seen["valid_share"]),
        "pass rate, true and foretold": f"{_percent(seen['pass_rate'])}, {_percent(seen['foretold_pass_rate'])}",
        "pass rate, Spearman": _correlation(seen["pass_rate_spearman"]),
        "pass rate, Pearson": _correlation(seen["pass_rate_pearson"]),
        "Brier score": (
            f"{_number(seen['brier'])} (always the mean pass rate: {_number(seen['brier_constant'])}; "
            f"perfect knowledge: {_number(seen['brier_perfect'])})"
        ),
        "expected calibration error": _number(seen["ece"]),
        "length, Spearman": _correlation(seen["length_spearman"]),
        "length, Pearson": _correlation(seen["length_pearson"]),
        "foretold over true length, median": _number(seen["length_ratio"], 2),
    }


def _gates(worth: Mapping[str, Any]) -> str:
    names = ("skipped", "precision", "recall", "F1", "base rate", "live lost", "saved", "net")
    rows = []
    for name, found in worth["gates"].items():
        cells = [_share(found[key]) for key in ("skipped", "precision", "recall", "base_rate", "lost")]
        cells.insert(3, _number(found["f1"], 2))
        rows.append((name, [*cells, *_saved(found)]))
    return grid(names, rows)


def _cutoffs(worth: Mapping[str, Any]) -> str:
    rows = [
        (name, [*(_share(found[key]) for key in ("limited", "false_cut", "wrong_cut")), *_saved(found)])
        for name, found in worth["cutoffs"].items()
    ]
    return grid(("problems limited", "right ones cut", "wrong ones cut", "saved", "net"), rows)


def _together(worth: Mapping[str, Any]) -> str:
    return grid(("saved", "net"), [(name, _saved(found)) for name, found in worth["together"].items()])


def _saved(found: Mapping[str, Any]) -> list[str]:
    return [_percent(found[key]) for key in ("saved_share", "net_share")]


def _share(share: Mapping[str, Any]) -> str:
    if share["share"] is None:
        return _NOTHING
    return f"{_percent(share['share'])} ({100 * share['low']:.0f}..{100 * share['high']:.0f})"


def _correlation(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return _NOTHING
    interval = "" if found["low"] is None else f" ({found['low']:.2f}..{found['high']:.2f})"
    return f"{found['value']:.2f}{interval}, {found['problems']} problems"


def _percent(value: float | None) -> str:
    return _NOTHING if value is None else f"{100 * value:.1f} %"


def _number(value: float | None, digits: int = 3) -> str:
    return _NOTHING if value is None else f"{value:.{digits}f}"
