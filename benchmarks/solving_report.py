"""The tables and the chart of `benchmarks/solving.py`, from its result alone."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

_COLOURS = {
    "uniform": "#7f7f7f",
    "adaptive": "#1f77b4",
    "learned": "#9467bd",
    "predicted": "#ff7f0e",
    "both": "#d62728",
    "oracle allocation": "#2ca02c",
}


def write(result: Mapping[str, Any], table: Path, chart: Path | None) -> None:
    """The tables as Markdown and, if asked for, the chart as a page of its own."""
    table.write_text("\n".join(_lines(result)) + "\n", encoding="utf-8")
    if chart is not None:
        _chart(result).write_html(chart, include_plotlyjs=True, config={"displayModeBar": False})


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    votes = result["votes"]
    yield f"# Solving: {result['model']} on {result['data']}"
    yield ""
    yield (
        f"{result['problems']} problems, {result['seeds']} draw sets of {result['samples']} solutions and "
        f"{result['predictions']} predictions a problem; knobs chosen on {result['tuning_problems']} other problems x "
        f"{result['tuning_seeds']} sets. Brackets: 95 % bootstrap over problems. Tokens are generated ones, "
        "predictions included."
    )
    yield ""
    columns = (
        "accuracy",
        f"minus uniform {votes}",
        "tokens a problem",
        f"of uniform {votes}",
        "predictions",
        "samples",
    )
    yield f"| strategy | settings | {' | '.join(columns)} |"
    yield f"| --- | --- | {' | '.join('---:' for _ in columns)} |"
    for name, one in result["strategies"].items():
        setting = ", ".join(f"{key} {value}" for key, value in one["setting"].items()) or "defaults"
        cells = [
            name,
            setting,
            f"{_percent(one['accuracy'])} {_span(one['accuracy_interval'])}",
            f"{100 * one['difference']:+.1f} {_span(one['difference_interval'])}",
            f"{one['tokens']:.0f}",
            f"{_percent(one['ratio'])} {_span(one['ratio_interval'])}",
            f"{one['prediction_tokens']:.0f}",
            f"{one['samples']:.1f}",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "By draw set, accuracy minus uniform's and tokens a problem:"
    yield ""
    yield f"| strategy | {' | '.join(str(seed) for seed in range(result['seeds']))} |"
    yield f"| --- | {' | '.join('---:' for _ in range(result['seeds']))} |"
    for name, one in result["strategies"].items():
        cells = [f"{100 * seed['difference']:+.1f}, {seed['tokens']:.0f}" for seed in one["by_seed"]]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    budgets = result["budgets"]
    titles = {
        "fronts": "Accuracy by tokens a problem, between the settings on the front found on the tuning problems",
        "curves": "Accuracy by a budget of tokens a problem for all of them together (`--budget`), chosen settings",
    }
    for key, title in titles.items():
        yield f"{title}; uniform: between its whole numbers of samples; -: that cheap or dear was none:"
        yield ""
        reach = f"tokens to uniform {votes}'s accuracy, of uniform's"
        yield f"| | {' | '.join(f'{budget:.0f}' for budget in budgets)} | {reach} |"
        yield f"| --- | {' | '.join('---:' for _ in budgets)} | ---: |"
        for name, one in result[key].items():
            cells = ["-" if (at := _at(one["points"], budget)) is None else _percent(at) for budget in budgets]
            share = one["share_to_target"]
            reached = "not reached" if share is None else f"{_percent(share)} {_span(one['share_interval'])}".strip()
            yield f"| {name} | {' | '.join(cells)} | {reached} |"
        yield ""


def _at(points: Sequence[Mapping[str, float]], tokens: float) -> float | None:
    """Accuracy at so many tokens, linear between points; None outside them, but for a hundredth."""
    ordered = sorted((point["tokens"], point["accuracy"]) for point in points)
    if not 0.99 * ordered[0][0] <= tokens <= 1.01 * ordered[-1][0]:
        return None
    if tokens <= ordered[0][0]:
        return ordered[0][1]
    for (left, low), (right, high) in itertools.pairwise(ordered):
        if tokens <= right:
            return high if right == left else low + (high - low) * (tokens - left) / (right - left)
    return ordered[-1][1]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _span(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _chart(result: Mapping[str, Any]) -> go.Figure:
    figure = go.Figure()
    for name, one in result["fronts"].items():
        points = sorted((point["tokens"], 100 * point["accuracy"]) for point in one["points"])
        colour = _COLOURS[name]
        dash = "dash" if name == "oracle allocation" else "solid"
        figure.add_scatter(
            x=[tokens for tokens, _ in points],
            y=[accuracy for _, accuracy in points],
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
        )
    for name in ("adaptive", "learned", "predicted", "both"):
        if name not in result["strategies"]:
            continue
        one = result["strategies"][name]
        figure.add_scatter(
            x=[one["tokens"]],
            y=[100 * one["accuracy"]],
            name=f"{name}, stops by itself",
            mode="markers",
            marker={"color": _COLOURS[name], "size": 13, "symbol": "star"},
        )
    target = result["strategies"]["uniform"]
    figure.add_hline(y=100 * target["accuracy"], line={"color": "#7f7f7f", "dash": "dot", "width": 1})
    figure.add_vline(x=target["tokens"] / 2, line={"color": "#7f7f7f", "dash": "dot", "width": 1})
    figure.update_layout(
        template="plotly_white",
        width=900,
        height=520,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        xaxis={"title": "generated tokens a problem, predictions included", "type": "log"},
        yaxis={"title": "accuracy, %"},
        legend={"x": 0.99, "y": 0.01, "xanchor": "right", "yanchor": "bottom"},
    )
    return figure


if __name__ == "__main__":  # RESULT.json [CHART.html]: the tables and the chart again
    path = Path(sys.argv[1])
    chart = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    write(json.loads(path.read_text(encoding="utf-8")), path.with_suffix(".md"), chart)
