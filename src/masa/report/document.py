"""A self-contained HTML document and the pieces that pages are made of. It loads nothing from the network."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from masa.report.figures import Chart

# The page may run its own scripts and show its own pictures, and can reach nothing else.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; worker-src blob:; font-src data:"
)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
<footer>{footer}</footer>
</main>
<script type="application/json" id="charts">{specs}</script>
<script>{plotly}</script>
<script>{script}</script>
{scripts}</body>
</html>
"""

_BROWSER = """<script type="text/plain" id="packed">{packed}</script>
<script>{script}</script>
"""


def document(title: str, body: str, figures: Sequence[Chart], *, footer: str, packed: str = "") -> str:
    """The whole page.

    Args:
        title: of the window, as text.
        body: HTML.
        figures: the charts whose places the body has, in order.
        footer: the last line, as text.
        packed: the rollouts whose browser the body has, as `masa.report.rollouts.pack` gives them.
    """
    specs = json.dumps([{"traces": chart.traces, "layout": chart.layout} for chart in figures], allow_nan=False)
    return _PAGE.format(
        policy=_POLICY,
        title=text(title),
        style=_asset("report.css"),
        body=body,
        footer=text(footer),
        # No "<" at all inside the data, so that no text can end the script element.
        specs=specs.replace("<", "\\u003c"),
        plotly=_plotly() if figures else "",
        script=_asset("report.js") if figures else "",
        scripts=_BROWSER.format(packed=packed, script=_asset("rollouts.js")) if packed else "",
    )


def section(
    figures: list[Chart], title: str, lead: str, section_charts: Sequence[Chart], *, is_small: bool = False
) -> str:
    """A section's cards; its charts join `figures`, whose order numbers them."""
    if not section_charts:
        return ""
    cards = []
    for chart in section_charts:
        note = f"<p>{text(chart.note)}</p>" if chart.note else ""
        wide = " wide" if chart.is_wide else ""
        place = f'<div class="chart" id="chart-{len(figures)}"></div>'
        cards.append(f'<div class="card{wide}"><h3>{text(chart.title)}</h3>{note}{place}</div>')
        figures.append(chart)
    lead = f'<p class="lead">{text(lead)}</p>' if lead else ""
    return f'<h2>{text(title)}</h2>{lead}<div class="charts{" small" if is_small else ""}">{"".join(cards)}</div>'


def table(rows: Mapping[str, Any], *, are_numbers: bool = False, is_code: bool = True) -> str:
    """Names and values, one a row; values that are no numbers look like code unless told otherwise."""
    cell = '<td class="n">' if are_numbers else "<td>"
    code, end = ("<code>", "</code>") if is_code and not are_numbers else ("", "")
    lines = (f"<tr><th>{text(name)}</th>{cell}{code}{text(str(value))}{end}</td></tr>" for name, value in rows.items())
    return f"<table>{''.join(lines)}</table>"


def grid(names: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table with a head; each row has a title and its cells, as texts."""
    head = "".join(f'<th class="n">{text(name)}</th>' for name in names)
    lines = "".join(
        f"<tr><th>{text(title)}</th>" + "".join(f'<td class="n">{text(cell)}</td>' for cell in cells) + "</tr>"
        for title, cells in rows
    )
    return f'<div class="scroll"><table class="arms"><tr><th></th>{head}</tr>{lines}</table></div>'


def _asset(name: str) -> str:
    return (resources.files("masa.report") / "assets" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The source of plotly.js, as the installed plotly brings it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def text(value: str) -> str:
    """Text as HTML."""
    return html.escape(value)
