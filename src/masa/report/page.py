"""The page: one HTML file with everything in it, that opens without a network."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from masa.report import charts
from masa.report.data import RunData, number
from masa.report.figures import Chart
from masa.report.samples import samples
from masa.report.summary import Tile, amount, sentences, tiles
from masa.runs import atomic_write_text
from masa.runs.jsonlines import flatten

# The page may run its own scripts and show its own pictures, and can reach nothing else.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; worker-src blob:; font-src data:"
)


def write_report(run_folder: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> Path:
    """Writes the report of a run, from its folder alone, and gives its path.

    Args:
        run_folder: a run's own folder, finished or not.
        output: where to; default `report.html` in the run folder.

    Raises:
        UserError: if there is no run or one of its files is damaged.
        OSError: if the output's folder does not exist.
    """
    run = RunData.load(run_folder)
    target = Path(output) if output is not None else Path(run_folder) / "report.html"
    atomic_write_text(target, render(run))
    return target


def render(run: RunData) -> str:
    """The page's HTML."""
    figures: list[Chart] = []
    body = "".join(
        [
            _head(run),
            _section(figures, "Learning", "Is it getting better?", charts.learning(run)),
            _section(figures, "Awareness", "Does it know what it can do?", charts.awareness(run)),
            _section(figures, "Spending", "What was skipped, cut and saved.", charts.spending(run)),
            _section(figures, "Rollouts", "How long they are and why they end.", charts.rollouts(run)),
            _section(figures, "Learner", "", charts.learner(run), is_small=True),
            _samples(run),
            _tables(run),
        ]
    )
    specs = json.dumps([{"traces": chart.traces, "layout": chart.layout} for chart in figures], allow_nan=False)
    return _PAGE.format(
        policy=_POLICY,
        title=_text(run.name),
        style=_asset("report.css"),
        body=body,
        # No "<" at all inside the data, so that no text can end the script element.
        specs=specs.replace("<", "\\u003c"),
        plotly=_plotly() if figures else "",
        script=_asset("report.js") if figures else "",
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title} · MASA run</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
<footer>Made from the run folder alone; this page loads nothing from the network.</footer>
</main>
<script type="application/json" id="charts">{specs}</script>
<script>{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def _head(run: RunData) -> str:
    words = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences(run))
    figures = "".join(map(_tile, tiles(run)))
    return (
        f"<header><h1>{_text(run.name)}</h1><p>MASA training run</p></header>"
        f'<ul class="words">{words}</ul><div class="tiles">{figures}</div>'
    )


def _tile(tile: Tile) -> str:
    before = f"<i>{_text(tile.before)} → </i>" if tile.before else ""
    note = f"<small>{_text(tile.note)}</small>" if tile.note else ""
    return f'<div class="tile"><span>{_text(tile.title)}</span><b>{before}{_text(tile.value)}</b>{note}</div>'


def _section(
    figures: list[Chart], title: str, lead: str, section_charts: Sequence[Chart], *, is_small: bool = False
) -> str:
    """A section's cards; its charts join `figures`, whose order numbers them."""
    if not section_charts:
        return ""
    cards = []
    for chart in section_charts:
        note = f"<p>{_text(chart.note)}</p>" if chart.note else ""
        wide = " wide" if chart.is_wide else ""
        place = f'<div class="chart" id="chart-{len(figures)}"></div>'
        cards.append(f'<div class="card{wide}"><h3>{_text(chart.title)}</h3>{note}{place}</div>')
        figures.append(chart)
    lead = f'<p class="lead">{_text(lead)}</p>' if lead else ""
    return f'<h2>{_text(title)}</h2>{lead}<div class="charts{" small" if is_small else ""}">{"".join(cards)}</div>'


def _samples(run: RunData) -> str:
    shown = samples(run.rollouts)
    if not shown:
        return ""
    step = number(run.rollouts[0].get("step"))
    lead = "Some of the last step's rollouts" + (f" (step {step:.0f})." if step is not None else ".")
    return f'<h2>Samples</h2><p class="lead">{lead}</p>{shown}'


def _tables(run: RunData) -> str:
    totals = {
        name.replace("_", " "): amount(value) for name, raw in run.ledger.items() if (value := number(raw)) is not None
    }
    parts = [("Ledger", totals, True), ("Versions and seeds", flatten(run.run), False)]
    tables = "".join(
        f"<div><h2>{title}</h2>{_table(rows, are_numbers=are_numbers)}</div>"
        for title, rows, are_numbers in parts
        if rows
    )
    settings = flatten(run.settings)
    config = (
        f"<h2>Settings</h2><details><summary>{len(settings)} settings</summary>{_table(settings)}</details>"
        if settings
        else ""
    )
    return f'<div class="columns">{tables}</div>{config}'


def _table(rows: Mapping[str, Any], *, are_numbers: bool = False) -> str:
    cell = '<td class="n">' if are_numbers else "<td>"
    code, end = ("", "") if are_numbers else ("<code>", "</code>")
    lines = (
        f"<tr><th>{_text(name)}</th>{cell}{code}{_text(str(value))}{end}</td></tr>" for name, value in rows.items()
    )
    return f"<table>{''.join(lines)}</table>"


def _asset(name: str) -> str:
    return (resources.files("masa.report") / "assets" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The source of plotly.js, as the installed plotly brings it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _text(text: str) -> str:
    return html.escape(text)
