"""The parts that charts are made of, as plain plotly.js specifications.

Colours are names of the page's style variables (`--blue`): the page puts in what they stand for, in light and dark.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from masa.report.data import RunData, evaluation_number, number, smooth

Trace = dict[str, Any]

MAX_POINTS = 1500
"""Points of one line; longer runs are thinned evenly."""


@dataclass(frozen=True)
class Chart:
    """One figure with its words."""

    title: str
    note: str
    traces: list[Trace]
    layout: dict[str, Any] = field(default_factory=dict)
    is_wide: bool = False


def label(text: Any) -> str:
    """Text for a label: plotly reads some HTML in labels, and names may come from files."""
    return html.escape(str(text))


def line(
    run: RunData, name: str, title: str, color: str, *, is_smooth: bool = True, dash: str | None = None
) -> list[Trace]:
    """A metric by step: the smoothed line, with the raw values faint behind it. Nothing where it was never written."""
    steps, values = run.series(name)
    if not steps:
        return []
    window = max(1, len(values) // 25)
    shown = smooth(values, window) if is_smooth and window > 1 else values
    traces: list[Trace] = []
    if shown is not values:
        raw = {"color": color, "width": 1}
        traces.append(xy(steps, values, mode="lines", line=raw, opacity=0.22, hoverinfo="skip", showlegend=False))
    style: dict[str, Any] = {"color": color, "width": 2.2}
    if dash:
        style["dash"] = dash
    return [*traces, xy(steps, shown, mode="lines", name=title, line=style)]


def held_out(run: RunData, name: str, title: str, color: str = "--orange") -> list[Trace]:
    """An evaluation's number by step, with its interval where there is one."""
    steps, values = run.evaluated(name)
    if not steps:
        return []
    trace = xy(steps, values, mode="lines+markers", name=title, line={"color": color, "width": 1.2, "dash": "dash"})
    trace["marker"] = {"size": 8, "color": color, "symbol": "diamond"}
    rows = [row for row in run.main_evaluations if evaluation_number(row, name) is not None]
    low, high = ([number(row.get(f"{name}_{end}")) for row in rows] for end in ("low", "high"))
    if len(rows) <= MAX_POINTS and all(value is not None for value in (*low, *high)):
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [short((top or 0) - value) for top, value in zip(high, values, strict=True)],
            "arrayminus": [short(value - (bottom or 0)) for bottom, value in zip(low, values, strict=True)],
            "thickness": 1.4,
            "width": 4,
        }
    return [trace]


def xy(x: Sequence[Any], y: Sequence[Any], **rest: Any) -> Trace:
    """A scatter trace, thinned if it is very long."""
    stride = max(1, math.ceil(len(x) / MAX_POINTS))
    # The last point stays: it is the one people look for.
    keep = sorted({*range(0, len(x), stride), len(x) - 1}) if x else []
    return {"type": "scatter", "x": [short(x[i]) for i in keep], "y": [short(y[i]) for i in keep], **rest}


def short(value: Any) -> Any:
    """Six digits are more than a screen shows."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def percent_axis() -> dict[str, Any]:
    """Layout of a y axis of shares."""
    return {"yaxis": {"tickformat": ".0%", "range": [-0.02, 1.02]}}


def phase_mark(run: RunData) -> dict[str, Any]:
    """A mark where the predictive phase begins."""
    start = run.predictive_from
    if start is None or not run.metrics or start == number(run.metrics[0].get("step")):
        return {}
    at = start - 0.5
    return {
        "shapes": [
            {
                "type": "line",
                "x0": at,
                "x1": at,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "line": {"color": "--grey", "width": 1, "dash": "dot"},
            }
        ],
        "annotations": [
            {
                "x": at,
                "y": 1,
                "yref": "paper",
                "yanchor": "top",
                "xanchor": "left",
                "text": "predictive",
                "showarrow": False,
                "font": {"size": 11, "color": "--muted"},
            }
        ],
    }
