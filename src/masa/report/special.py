"""Charts with a form of their own: tasks, reliability, lengths, ledger, time."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from masa.report.data import Point, RunData, evaluation_number, number
from masa.report.figures import Chart, Trace, label, percent_axis, phase_mark, short, xy

_RELIABILITY_BINS = 9


def pass_at_1_by_tokens(run: RunData) -> Chart | None:
    """Accuracy by what was spent, from three evaluations on."""
    spent = dict(zip(*run.series("tokens/generated"), strict=True))
    points = []
    for row in run.main_evaluations:
        tokens = number(row.get("tokens"))
        tokens = (
            spent.get(number(row.get("step")) or 0.0, 0.0 if row.get("step") == 0 else None)
            if tokens is None
            else tokens
        )
        value = evaluation_number(row, "pass_at_1")
        if tokens is not None and value is not None:
            points.append((tokens, value))
    if len(points) < 3:
        return None
    trace = xy(
        [x for x, _ in points],
        [y for _, y in points],
        mode="lines+markers",
        name="held-out pass@1",
        line={"color": "--orange"},
    )
    note = "Held-out pass@1 by all tokens generated for training, predictions included."
    return Chart(
        "Pass@1 by tokens spent",
        note,
        [trace],
        percent_axis() | {"xaxis": {"title": {"text": "generated tokens"}}, "showlegend": False},
    )


def by_task(run: RunData) -> Chart | None:
    """Accuracy by task, before and after."""
    rows = [row for row in run.main_evaluations if isinstance(row.get("by_task"), Mapping) and row["by_task"]]
    if not rows:
        return None
    first, last = ({str(k): number(v) for k, v in row["by_task"].items()} for row in (rows[0], rows[-1]))
    names = sorted(last)
    if len(names) > 12 and all("/" in name for name in names):
        return _levels(first, last)
    shown = names[:40]
    pairs = [("before", first, "--grey"), ("after", last, "--blue")] if len(rows) > 1 else [("", last, "--blue")]
    traces = [
        {
            "type": "bar",
            "x": [label(name) for name in shown],
            "y": [values.get(name) for name in shown],
            "name": title,
            "marker": {"color": color},
        }
        for title, values, color in pairs
    ]
    note = "Held-out pass@1 by task."
    return Chart(
        "Tasks",
        note,
        traces,
        percent_axis() | {"barmode": "group", "xaxis": {"type": "category", "title": {"text": ""}}},
        is_wide=True,
    )


def _levels(first: Mapping[str, float | None], last: Mapping[str, float | None]) -> Chart:
    """Tasks whose names end in a level, as two maps: before and after."""
    split = [name.rpartition("/") for name in sorted(last)]
    tasks = sorted({task for task, _, _ in split})
    levels = sorted({level for _, _, level in split}, key=lambda level: (len(level), level))
    traces = []
    for place, values in (("", first), ("2", last)):
        grid = [[values.get(f"{task}/{level}") for level in levels] for task in tasks]
        traces.append(
            {
                "type": "heatmap",
                "x": [label(level) for level in levels],
                "y": [label(task) for task in tasks],
                "z": grid,
                "zmin": 0,
                "zmax": 1,
                "xaxis": f"x{place}",
                "yaxis": f"y{place}",
                "xgap": 2,
                "ygap": 2,
                "colorscale": [[0, "--heat-low"], [0.5, "--heat-mid"], [1, "--heat-high"]],
                "showscale": place == "2",
                "colorbar": {"tickformat": ".0%", "thickness": 10, "outlinewidth": 0},
                "hovertemplate": "%{y} %{x}: %{z:.0%}<extra></extra>",
            }
        )
    layout = {
        "grid": {"rows": 1, "columns": 2, "pattern": "independent", "xgap": 0.06},
        "xaxis": {"type": "category", "title": {"text": "level, before"}},
        "xaxis2": {"type": "category", "title": {"text": "level, after"}},
        "yaxis": {"type": "category", "automargin": True},
        "yaxis2": {"type": "category", "showticklabels": False},
        "hovermode": "closest",
    }
    return Chart("Tasks and levels", "Held-out pass@1 by task and level.", traces, layout, is_wide=True)


def reliability(before: Sequence[Point], after: Sequence[Point], where: str) -> Chart | None:
    """Foretold against true pass rates."""
    pairs = [(p[0], p[1]) for p in after if p[0] is not None and p[1] is not None]
    if not pairs:
        return None
    bubbles = Counter((round(x * 16) / 16, round(y * 16) / 16) for x, y in pairs)
    largest = max(bubbles.values())
    traces: list[Trace] = [
        xy(
            [0.0, 1.0],
            [0.0, 1.0],
            mode="lines",
            line={"color": "--grey", "width": 1, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        ),
        {
            "type": "scatter",
            "mode": "markers",
            "name": "problems",
            "x": [x for x, _ in bubbles],
            "y": [y for _, y in bubbles],
            "text": [f"{count} problems" for count in bubbles.values()],
            "hovertemplate": "foretold %{x:.0%}, true %{y:.0%}: %{text}<extra></extra>",
            "marker": {
                "size": [5 + 21 * math.sqrt(count / largest) for count in bubbles.values()],
                "color": "--blue-soft",
                "line": {"color": "--blue", "width": 1},
            },
        },
    ]
    for points, title, color in ((before, "mean, before", "--grey"), (after, "mean, after", "--orange")):
        curve = _bins([(p[0], p[1]) for p in points if p[0] is not None and p[1] is not None])
        if curve:
            traces.append(
                xy(
                    [x for x, _ in curve],
                    [y for _, y in curve],
                    mode="lines+markers",
                    name=title,
                    line={"color": color, "width": 2.2},
                )
            )
    layout = {
        "xaxis": {"title": {"text": "foretold pass rate"}, "tickformat": ".0%", "range": [-0.05, 1.05]},
        "yaxis": {"title": {"text": "true pass rate"}, "tickformat": ".0%", "range": [-0.05, 1.05]},
        "hovermode": "closest",
    }
    note = (
        f"Each circle is a number of {where} (n = {len(pairs)}); the line is their mean true pass rate. "
        "On the diagonal, what is foretold comes true."
    )
    return Chart("Reliability", note, traces, layout)


def _bins(pairs: Sequence[tuple[Any, Any]]) -> list[tuple[float, float]]:
    """Mean foretold and mean true pass rate in equal bins of the foretold one."""
    bins: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for x, y in pairs:
        bins[min(int(x * _RELIABILITY_BINS), _RELIABILITY_BINS - 1)].append((x, y))
    return [
        (math.fsum(x for x, _ in rows) / len(rows), math.fsum(y for _, y in rows) / len(rows))
        for _, rows in sorted(bins.items())
    ]


def lengths(points: Sequence[Point], where: str) -> Chart | None:
    """Foretold against true lengths."""
    pairs = [(p[2], p[3]) for p in points if p[2] is not None and p[3] is not None and p[2] > 0 and p[3] > 0]
    if not pairs:
        return None
    ends = [float(min(min(pair) for pair in pairs)), float(max(max(pair) for pair in pairs))]
    traces = [
        xy(
            ends,
            ends,
            mode="lines",
            line={"color": "--grey", "width": 1, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        ),
        xy(
            [x for x, _ in pairs],
            [y for _, y in pairs],
            mode="markers",
            name="problems",
            marker={"size": 7, "color": "--purple-soft", "line": {"color": "--purple", "width": 1}},
            hovertemplate="foretold %{x:.0f}, true %{y:.0f}<extra></extra>",
        ),
    ]
    ticks = [
        digit * 10**power for power in range(8) for digit in (1, 2, 5) if ends[0] / 2 < digit * 10**power < 2 * ends[1]
    ]
    axis = {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,}" for tick in ticks]}
    layout = {
        "xaxis": axis | {"title": {"text": "foretold length (tokens)"}},
        "yaxis": axis | {"title": {"text": "mean correct length (tokens)"}},
        "showlegend": False,
        "hovermode": "closest",
    }
    return Chart(
        "Length", f"Foretold and true length of correct solutions, {where} (n = {len(pairs)}).", traces, layout
    )


def ledger(run: RunData) -> Chart | None:
    """Tokens spent, stacked, and saved."""
    parts = (
        ("tokens/solution", "solutions", "blue"),
        ("tokens/meta", "predictions", "orange"),
        ("tokens/audit", "audits", "purple"),
    )
    traces: list[Trace] = []
    for name, title, color in parts:
        steps, values = run.series(name)
        if steps and values[-1] > 0:
            traces.append(
                xy(
                    steps,
                    values,
                    mode="lines",
                    name=title,
                    stackgroup="spent",
                    fillcolor=f"--{color}-soft",
                    line={"color": f"--{color}", "width": 1},
                )
            )
    gate, cutoff = (dict(zip(*run.series(f"tokens/saved_{part}"), strict=True)) for part in ("gate", "cutoff"))
    steps = sorted({*gate, *cutoff})
    saved = [gate.get(step, 0.0) + cutoff.get(step, 0.0) for step in steps]
    if any(saved):
        traces.append(
            xy(
                steps,
                saved,
                mode="lines",
                name="saved (estimate)",
                line={"color": "--green", "width": 2.2, "dash": "dash"},
            )
        )
    if not traces:
        return None
    note = (
        "Tokens generated since the first step, and what gate and cutoff saved by the audits' estimate. "
        "The saving pays once it is above the predictions."
    )
    return Chart("Ledger", note, traces, phase_mark(run) | {"yaxis": {"rangemode": "tozero"}})


def seconds(run: RunData) -> Chart | None:
    """Wall time by what it went into."""
    spent = run.ledger.get("seconds")
    if not isinstance(spent, Mapping):
        return None
    parts = sorted(((value, str(name)) for name, raw in spent.items() if (value := number(raw))), reverse=True)
    if not parts:
        return None
    size, unit = (60, "minutes") if parts[0][0] > 120 else (1, "seconds")
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [short(value / size) for value, _ in parts],
        "y": [label(name) for _, name in parts],
        "marker": {"color": "--blue"},
        "hovertemplate": f"%{{y}}: %{{x:.1f}} {unit}<extra></extra>",
    }
    layout = {
        "xaxis": {"title": {"text": unit}},
        "yaxis": {"type": "category", "autorange": "reversed", "automargin": True},
        "showlegend": False,
        "hovermode": "closest",
    }
    return Chart("Wall time", "Where the time went.", [trace], layout)
