"""The page of a comparison: curves, the table, how each figure was made, and the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masa.report.comparison_table import NOTHING, Row, columns, intervals, rows, target_name
from masa.report.comparison_words import sentences
from masa.report.data import number
from masa.report.document import document, grid, section, table, text
from masa.report.figures import Chart, Trace, label, short, xy
from masa.runs import atomic_write_text
from masa.runs.jsonlines import flatten

_COLORS = ("grey", "blue", "orange", "green", "purple", "red")
"""The baseline is grey where it comes first."""
_AXES = {"tokens": "generated tokens", "seconds": "seconds of training"}
_MOST_BANDS = len(_COLORS) + 1
"""Arms, the oracle included, whose bands can be told apart."""
# Filled bands would turn the order of the names round.
_LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
_KINDS = (
    ("solution", "solutions", "--blue"),
    ("audit", "audits", "--purple"),
    ("meta", "predictions", "--orange"),
    ("warm_start", "warm start", "--green"),
)


def write_comparison(comparison: Mapping[str, Any], output: str | os.PathLike[str]) -> Path:
    """Writes the page of a comparison (the value that `comparison.json` holds) and gives its path.

    Raises:
        OSError: if the output's folder does not exist.
    """
    target = Path(output)
    atomic_write_text(target, render_comparison(comparison))
    return target


def render_comparison(comparison: Mapping[str, Any]) -> str:
    """The page's HTML."""
    figures: list[Chart] = []
    names = [str(arm["arm"]) for arm in comparison["arms"] if not arm["simulated"]]
    seeds = ", ".join(map(str, comparison["seeds"]))
    words = "".join(f"<li>{text(line)}</li>" for line in (*intervals(comparison), *comparison.get("notes", [])))
    summary = "".join(f"<li>{text(line)}</li>" for line in sentences(comparison))
    found = rows(comparison)
    body = "".join(
        [
            f"<header><h1>{text(' · '.join(names))}</h1><p>MASA comparison, seeds {text(seeds)}</p></header>",
            f'<ul class="words">{summary}</ul>' if summary else "",
            section(figures, "Accuracy", "What was reached for what was spent.", _curves(comparison)),
            "<h2>The table</h2>",
            _table(columns(comparison), found),
            f'<ul class="words">{words}</ul>',
            section(figures, "Spending", "", [chart for chart in (_finals(comparison), _tokens(comparison)) if chart]),
            "<h2>How each figure was made</h2>",
            table({row.title: row.method for row in found if not row.title.startswith("…")}, is_code=False),
            _settings(comparison),
        ]
    )
    return document(
        f"{' · '.join(names)} · MASA comparison",
        body,
        figures,
        footer="Made from the runs' results alone; this page loads nothing from the network.",
    )


def _color(comparison: Mapping[str, Any], index: int) -> tuple[str, str]:
    """An arm's colour and its dash: arms beyond the colours are dashed."""
    if comparison["arms"][index]["simulated"]:
        return "grey", "dot"
    return _COLORS[index % len(_COLORS)], "solid" if index < len(_COLORS) else "dash"


def _curves(comparison: Mapping[str, Any]) -> list[Chart]:
    charts = []
    for axis, title in _AXES.items():
        traces: list[Trace] = []
        is_readable = len(comparison["arms"]) <= _MOST_BANDS
        for index, arm in enumerate(comparison["arms"]):
            color, dash = _color(comparison, index)
            spread, line = [*_band(arm, axis, color), *_seeds(arm, axis, color)], _line(arm, axis, color, dash)
            # Of too many arms the page shows the spread of one at a time: that which is chosen or pointed at.
            hidden = {} if is_readable else {"visible": False, "meta": {"spread": arm["arm"]}}
            traces += [trace | hidden for trace in spread] + line
        if not traces:
            continue
        layout: dict[str, Any] = {
            "yaxis": {"tickformat": ".0%"},
            "xaxis": {"title": {"text": title}, "rangemode": "tozero"},
        }
        layout |= {"hovermode": "closest", "legend": _LEGEND}
        if comparison.get("threshold"):
            layout |= _mark(comparison["threshold"]["pass_at_1"], target_name(comparison))
        note = "Held-out pass@1: mean over seeds with its 95 % band (Student's t), and each seed thin behind it."
        if not is_readable:
            note = (
                "Held-out pass@1, mean over seeds. Point at a line, or choose an arm, for its 95 % band (Student's t) "
                "and its seeds."
            )
        charts.append(Chart(f"Pass@1 by {title}", note, traces, layout))
    return charts


def _band(arm: Mapping[str, Any], axis: str, color: str) -> list[Trace]:
    curve = arm["curves"].get(axis)
    # Of fewer than three seeds the band would be wider than the chart.
    if not curve or len(arm["seeds"]) < 3 or arm["simulated"] or any(low is None for low in curve["low"]):
        return []
    rest: dict[str, Any] = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    clipped = [[min(1.0, max(0.0, end)) for end in curve[name]] for name in ("low", "high")]
    fill = "rgba(141,146,156,.22)" if color == "grey" else f"--{color}-soft"
    return [xy(curve["x"], clipped[0], **rest), xy(curve["x"], clipped[1], fill="tonexty", fillcolor=fill, **rest)]


def _seeds(arm: Mapping[str, Any], axis: str, color: str) -> list[Trace]:
    if not arm["curves"].get(axis) or len(arm["runs"]) < 2 or arm["simulated"]:
        return []
    thin = {"color": f"--{color}", "width": 1}
    return [
        xy(run[axis], run["pass_at_1"], mode="lines", line=thin, opacity=0.3, hoverinfo="skip", showlegend=False)
        for run in arm["runs"]
    ]


def _line(arm: Mapping[str, Any], axis: str, color: str, dash: str) -> list[Trace]:
    curve = arm["curves"].get(axis)
    if not curve:
        return []
    title = label(arm["arm"]) + (" (simulated)" if arm["simulated"] else "")
    line = {"color": f"--{color}", "width": 2.4, "dash": dash}
    meta = {"arm": arm["arm"]}
    return [xy(curve["x"], curve["mean"], mode="lines", name=title, line=line, meta=meta)]


def _mark(value: float, words: str) -> dict[str, Any]:
    """A line across the chart."""
    place = {"y": value, "xref": "paper", "showarrow": False, "font": {"size": 11, "color": "--muted"}}
    line = {"color": "--grey", "width": 1, "dash": "dot"}
    return {
        "shapes": [{"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": value, "y1": value, "line": line}],
        "annotations": [place | {"x": 0, "xanchor": "left", "yanchor": "bottom", "text": label(words)}],
    }


def _finals(comparison: Mapping[str, Any]) -> Chart | None:
    """Each seed's final accuracy with its interval over problems, the seeds of an arm side by side."""
    traces: list[Trace] = []
    names: list[str] = []
    places: list[float] = []
    for index, arm in enumerate(comparison["arms"]):
        if arm["simulated"]:
            continue
        points = arm["final"]["by_seed"]
        middle = (len(points) - 1) / 2
        step = 0.6 / max(1, len(points))
        x = [len(names) + (i - middle) * step for i in range(len(points))]
        trace = xy(x, [point["pass_at_1"] for point in points], mode="markers")
        trace["text"] = [label(f"seed {point['seed']}") for point in points]
        trace["hovertemplate"] = "%{text}: %{y:.1%}<extra></extra>"
        trace["marker"] = {"size": 9, "color": f"--{_color(comparison, index)[0]}"}
        traces.append(trace | _interval(points))
        places.append(len(names))
        names.append(label(arm["arm"]))
    if not traces:
        return None
    axis = {"tickvals": places, "ticktext": names, "title": {"text": ""}}
    layout = {"yaxis": {"tickformat": ".0%"}, "xaxis": axis, "showlegend": False, "hovermode": "closest"}
    note = "At the last evaluation, whatever was spent; bars are 95 % bootstrap intervals over problems."
    return Chart("Final pass@1, each seed", note, traces, layout)


def _interval(points: Sequence[Mapping[str, Any]]) -> Trace:
    """Error bars of the bootstrap over problems, where every run has its problems."""
    if any(point["low"] is None for point in points):
        return {}
    above = [short(point["high"] - point["pass_at_1"]) for point in points]
    below = [short(point["pass_at_1"] - point["low"]) for point in points]
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.2, "width": 3}
    return {"error_y": bars}


def _tokens(comparison: Mapping[str, Any]) -> Chart | None:
    """Where the tokens went."""
    arms = [arm for arm in comparison["arms"] if not arm["simulated"]]
    traces = []
    for kind, title, color in _KINDS:
        values = [number((arm["ledger"]["tokens"][kind] or {}).get("mean")) or 0.0 for arm in arms]
        if any(values):
            traces.append(
                {
                    "type": "bar",
                    "name": title,
                    "x": [label(arm["arm"]) for arm in arms],
                    "y": [short(value) for value in values],
                    "marker": {"color": color},
                }
            )
    if not traces:
        return None
    layout = {"barmode": "stack", "xaxis": {"type": "category"}}
    return Chart("Generated tokens", "Mean over seeds, by what they were generated for.", traces, layout)


def _table(names: Sequence[str], found: Sequence[Row]) -> str:
    return grid(names, [(row.title, row.cells) for row in found])


def _settings(comparison: Mapping[str, Any]) -> str:
    settings = comparison.get("settings", {})
    names = list(next(iter(settings.get("differing", {}).values()), {}))
    differing = [
        Row(key, [NOTHING if values[name] is None else str(values[name]) for name in names], "")
        for key, values in settings.get("differing", {}).items()
    ]
    common = flatten(settings.get("common", {}))
    parts = []
    if differing:
        parts.append(f"<h2>Settings that differ</h2>{_table(names, differing)}")
    if common:
        listed = table(common)
        parts.append(f"<h2>Settings in common</h2><details><summary>{len(common)} settings</summary>{listed}</details>")
    for title, key in (("Machines", "machines"), ("Versions", "versions")):
        parts += [f"<h2>{title}</h2>{table(flatten(entry))}" for entry in comparison.get(key, [])]
    return "".join(parts)
